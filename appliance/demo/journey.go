package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sportello.example/sync/citizen"
	"sportello.example/sync/wire"
)

// A journey is one citizen's visit, or two, in steps.
type journey struct {
	c   *checker
	who int // index of the citizen

	v       *visitor
	qr      string
	slip    string
	pressed time.Time     // "Stampa"
	pages   int           // of the preview
	touched time.Time     // when the visit began
	shown   time.Duration // from then to the preview: nobody thinks or types slowly here
	done    time.Duration // from then to "take your sheets"
	asked   int           // requests to the kiosk
}

func (j *journey) person() person { return citizens()[j.who] }

// visit begins a visit with a browser that knows nothing.
func (j *journey) visit(ctx context.Context) error {
	var err error
	if j.v, err = newVisitor(j.c.stage.addr.kiosk); err != nil {
		return err
	}
	j.touched = now()
	if err := j.v.begin(ctx); err != nil {
		return err
	}
	j.c.visits++
	return nil
}

func (j *journey) choose(ctx context.Context) error {
	if err := j.visit(ctx); err != nil {
		return err
	}
	return j.v.chooseCertificate(ctx, "login")
}

// phone reads the QR off the screen and logs in with what it holds. The console must have seen the same QR.
func (j *journey) phone(ctx context.Context) error {
	qr, err := j.v.showQR(ctx)
	if err != nil {
		return err
	}
	st, err := j.c.state(ctx)
	if err != nil {
		return err
	}
	if st.Phone.QR != qr {
		return errors.New("the console's phone does not see the QR that is on the screen")
	}
	who := j.person()
	j.c.remember("the citizen's fiscal code", who.FiscalCode)
	j.c.remember("the citizen's name", who.Name)
	for part := range strings.FieldsSeq(who.Name) {
		if len([]rune(part)) >= 5 {
			j.c.remember("part of the citizen's name", part)
		}
	}
	j.qr, err = j.c.phoneCode(ctx, qr, who)
	return err
}

// confirm types the code, agrees to be who the kiosk thinks, and has the certificate made.
func (j *journey) confirm(ctx context.Context) error {
	if err := j.v.typeCode(ctx, j.qr, "review"); err != nil {
		return err
	}
	return j.v.submit(ctx, nil)
}

func (j *journey) previewed(ctx context.Context) error {
	pictures, err := j.v.preview(ctx)
	j.pages, j.shown = len(pictures), now().Sub(j.touched)
	return err
}

// straight types the code of somebody whose answers are known: the next page is the preview.
func (j *journey) straight(ctx context.Context) error {
	if err := j.v.typeCode(ctx, j.qr, "preview"); err != nil {
		return err
	}
	return j.previewed(ctx)
}

// print presses "Stampa" and returns the sheets that came out.
func (j *journey) print(ctx context.Context) ([]sheet, error) {
	before, err := j.c.state(ctx)
	if err != nil {
		return nil, err
	}
	if j.pressed, err = j.v.print(ctx); err != nil { //nolint:forbidigo // a printer's print
		return nil, err
	}
	j.done, j.asked = now().Sub(j.touched), j.v.requests
	st, err := j.c.until(ctx, 10*time.Second, fmt.Sprintf("%d sheets in the tray", j.pages), func(st state) bool {
		return len(st.Sheets) >= len(before.Sheets)+j.pages
	})
	if err != nil {
		return nil, err
	}
	fresh := st.Sheets[:len(st.Sheets)-len(before.Sheets)]
	if len(fresh) != j.pages {
		return nil, fmt.Errorf("%d sheets came out of %d previewed", len(fresh), j.pages)
	}
	// The tray must be able to show them: that is what the console is for.
	for _, s := range fresh {
		if _, err := j.c.console.get(ctx, fmt.Sprintf("/sheet/%d.png", s.ID), nil); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// printed prints a certificate: what the printer got must be what the registry sent last.
func (j *journey) printed(ctx context.Context) error {
	sheets, err := j.print(ctx)
	if err != nil {
		return err
	}
	issued, err := j.c.stage.registryKnob.Issued(ctx)
	if err != nil {
		return err
	}
	if len(issued) == 0 {
		return errors.New("the registry has issued nothing")
	}
	want := issued[len(issued)-1].SHA256
	if i := slices.IndexFunc(sheets, func(s sheet) bool { return s.SHA256 != want }); i >= 0 {
		return fmt.Errorf("the paper is not the document: printed %s, issued %s", sheets[i].SHA256, want)
	}
	if began, err := j.c.stage.printerKnobs.Began(ctx); err == nil && len(began) > 0 {
		j.c.figures.toProcessing = append(j.c.figures.toProcessing, began[len(began)-1].Sub(j.pressed))
	}
	return nil
}

// printedSheet prints what is previewed, whatever it is, and goes.
func (j *journey) printedSheet(ctx context.Context) error {
	if _, err := j.print(ctx); err != nil {
		return err
	}
	return j.leave(ctx)
}

func (j *journey) leave(ctx context.Context) error { return j.v.leave(ctx) }

// declare types a self-declaration of everything the kiosk offers, with words that stand nowhere else.
func (j *journey) declare(ctx context.Context) error {
	if err := j.visit(ctx); err != nil {
		return err
	}
	typed := map[string]string{}
	for _, field := range []string{"name", "family name", "birth place", "street", "place", "spouse", "relative"} {
		typed[field] = canary()
		j.c.remember("the typed "+field, typed[field])
	}
	code, err := nobody()
	if err != nil {
		return err
	}
	j.c.remember("the typed fiscal code", code)
	err = j.v.say(ctx,
		answer{"need", answers{"choice": "declaration"}, "facts"},
		answer{"facts", answers{"fact": "residence,family,civil"}, "fill"},
		answer{"fill", answers{"choice": "typed"}, "person"},
		answer{"person", answers{"name": typed["name"], "family_name": typed["family name"], "fiscal_code": code}, "birth"},
		answer{"birth", answers{"birth_place": typed["birth place"], "birth_province": "MI", "birth_date": "10/12/1985"}, "address"},
		answer{"address", answers{"street": typed["street"], "number": "7", "place": typed["place"], "province": "MI"}, "since"},
		answer{"since", answers{"since": "01/02/2003"}, "civil"},
		answer{"civil", answers{"status": "married", "with": typed["spouse"]}, "relatives"},
		answer{"relatives", answers{"relative": typed["relative"], "birth": "Milano 01/02/2010", "relation": "figlia", "add": "1"}, "relatives"},
		answer{"relatives", answers{"action": "next"}, "review"})
	if err != nil {
		return err
	}
	if !strings.Contains(j.v.page.text, typed["name"]) {
		return fmt.Errorf("%w: the review does not show what was typed", errPage)
	}
	if err := j.v.submit(ctx, nil); err != nil {
		return err
	}
	return j.previewed(ctx)
}

// measure goes the way of a certificate to the QR, and of a self-declaration, and measures every page on it.
func (j *journey) measure(ctx context.Context) error {
	if err := j.visit(ctx); err != nil {
		return err
	}
	j.v.arrived = j.c.figures.sample
	if err := j.v.chooseCertificate(ctx, "login"); err != nil {
		return err
	}
	if _, err := j.v.showQR(ctx); err != nil {
		return err
	}
	if err := j.v.open(ctx, j.v.base+"/code"); err != nil {
		return err
	}
	if err := j.c.figures.sample(ctx, j.v); err != nil {
		return err
	}
	if err := j.v.exit(ctx); err != nil {
		return err
	}
	if err := j.visit(ctx); err != nil {
		return err
	}
	j.v.arrived = j.c.figures.sample
	err := j.v.say(ctx,
		answer{"need", answers{"choice": "declaration"}, "facts"},
		answer{"facts", answers{"fact": "residence,family"}, "fill"},
		answer{"fill", answers{"choice": "blank"}, "review"})
	if err != nil {
		return err
	}
	if err := j.v.submit(ctx, nil); err != nil {
		return err
	}
	if err := j.previewed(ctx); err != nil {
		return err
	}
	if err := j.c.figures.sample(ctx, j.v); err != nil {
		return err
	}
	return j.v.exit(ctx)
}

// crowd lets n citizens in, one after the other, who look around and go.
func (j *journey) crowd(ctx context.Context, n int) error {
	for range n {
		if err := j.visit(ctx); err != nil {
			return err
		}
		err := j.v.say(ctx,
			answer{"need", answers{"choice": "declaration"}, "facts"},
			answer{"facts", answers{"fact": "residence,family"}, "fill"},
			answer{"fill", answers{"choice": "blank"}, "review"})
		if err != nil {
			return err
		}
		if err := j.v.exit(ctx); err != nil {
			return err
		}
		j.v.client.CloseIdleConnections()
	}
	return nil
}

// nobody returns a fiscal code that is right and cannot be anybody's: no place has a code with the letter Y.
func nobody() (string, error) {
	for check := 'A'; check <= 'Z'; check++ {
		code := "QZXWKY85T10Y999" + string(check)
		if _, err := citizen.ParseFiscalCode(code); err == nil {
			return code, nil
		}
	}
	return "", citizen.ErrFiscalCode
}

// leaveRequest asks for a certificate that cannot be had now, and leaves the request.
func (j *journey) leaveRequest(ctx context.Context) error {
	if err := j.visit(ctx); err != nil {
		return err
	}
	if err := j.v.chooseCertificate(ctx, "request"); err != nil {
		return err
	}
	if err := j.v.submit(ctx, nil); err != nil {
		return err
	}
	if err := j.previewed(ctx); err != nil {
		return err
	}
	var err error
	if j.slip, err = j.v.slipCode(wire.PickupAlphabet); err != nil {
		return err
	}
	return nil
}

// collect types the slip's code. The request may still be on its way through the hub.
func (j *journey) collect(ctx context.Context, slip string) error {
	if err := j.visit(ctx); err != nil {
		return err
	}
	return j.v.say(ctx,
		answer{"need", answers{"choice": "collect"}, "collect"},
		answer{"collect", answers{"code": slip, "action": "enter"}, "login"})
}
