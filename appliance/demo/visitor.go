package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A visitor is a citizen at kiosk 1 who does what is written here, through the same pages as everybody.
type visitor struct {
	*walker
	base string // http://127.0.0.1:8080/k/1

	// arrived is called on every page that a script leads to; nil: nothing is done there.
	arrived func(context.Context, *visitor) error
}

func newVisitor(kiosk string) (*visitor, error) {
	w, err := newWalker()
	if err != nil {
		return nil, err
	}
	return &visitor{walker: w, base: "http://" + kiosk + "/k/1"}, nil
}

// an answer is given on a page, and leads to the next one.
type answer struct {
	page  string
	give  answers
	leads string
}

// say gives answers one after the other and checks after each that the next page is the right one.
func (v *visitor) say(ctx context.Context, script ...answer) error {
	for _, a := range script {
		if err := v.expect("/" + a.page); err != nil {
			return err
		}
		if err := v.submit(ctx, a.give); err != nil {
			return err
		}
		if err := v.expect("/" + a.leads); err != nil {
			return err
		}
		if v.arrived == nil {
			continue
		}
		if err := v.arrived(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// begin touches the screen and chooses Italian.
func (v *visitor) begin(ctx context.Context) error {
	if err := v.open(ctx, v.base); err != nil {
		return err
	}
	if !strings.HasSuffix(v.page.url.Path, "/k/1") {
		return fmt.Errorf("%w: the kiosk is not free: %s", errPage, v.page.name())
	}
	if err := v.open(ctx, v.base+"/language"); err != nil {
		return err
	}
	return v.say(ctx, answer{"language", answers{"language": "it"}, "need"})
}

// chooseCertificate answers every question up to the last, which leads to the page last.
func (v *visitor) chooseCertificate(ctx context.Context, last string) error {
	return v.say(ctx,
		answer{"need", answers{"choice": "certificate"}, "recipient"},
		answer{"recipient", answers{"choice": "private"}, "certificate"},
		answer{"certificate", answers{"toggle": certificateSlug}, "certificate"},
		answer{"certificate", answers{"action": "next"}, "holder"},
		answer{"holder", answers{"choice": "self"}, "stamp"},
		answer{"stamp", answers{"choice": "due"}, last})
}

// certificateSlug is the certificate that -check asks for.
const certificateSlug = "residenza"

// showQR asks for the QR and reads it off the screen.
func (v *visitor) showQR(ctx context.Context) (string, error) {
	if err := v.say(ctx, answer{"login", answers{"action": "qr"}, "qr"}); err != nil {
		return "", err
	}
	return readQR(v.page.body)
}

// typeCode types the phone's code and says "yes, that is me"; the page after that is leads.
func (v *visitor) typeCode(ctx context.Context, code, leads string) error {
	if err := v.open(ctx, v.base+"/code"); err != nil {
		return err
	}
	if err := v.say(ctx, answer{"code", answers{"code": code, "action": "enter"}, "identity"}); err != nil {
		return err
	}
	err := v.until(ctx, 15*time.Second, "the question “is that you?”", func() bool {
		_, ok := v.formFor(answers{"action": "yes"})
		return ok
	})
	if err != nil {
		return err
	}
	if err := v.submit(ctx, answers{"action": "yes"}); err != nil {
		return err
	}
	if leads == "preview" {
		return nil // by way of "preparing"
	}
	return v.expect("/" + leads)
}

// preview waits for the preview and looks at every sheet's picture; it returns the pictures.
func (v *visitor) preview(ctx context.Context) ([][]byte, error) {
	err := v.until(ctx, 50*time.Second, "the preview", func() bool { return v.at("/preview") || v.at("/problem") })
	if err != nil {
		return nil, err
	}
	if err := v.expect("/preview"); err != nil {
		return nil, err
	}
	var pictures [][]byte
	for _, src := range v.page.assets {
		if !strings.Contains(src, "/page/") {
			continue
		}
		png, err := v.fetch(ctx, src)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, png)
	}
	if len(pictures) == 0 {
		return nil, fmt.Errorf("%w: the preview shows no sheet", errPage)
	}
	return pictures, nil
}

// fetch gets a picture that the page shows.
func (v *visitor) fetch(ctx context.Context, src string) ([]byte, error) {
	u, err := v.resolve(src)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", u.Path, err)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", u.Path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", u.Path, err)
	}
	if resp.StatusCode != http.StatusOK || len(b) == 0 {
		return nil, fmt.Errorf("%w: picture %s: %s", errPage, u.Path, resp.Status)
	}
	return b, nil
}

// exit presses "Esci" and says that it is meant.
func (v *visitor) exit(ctx context.Context) error {
	if err := v.open(ctx, v.base+"/exit"); err != nil {
		return err
	}
	for _, f := range v.page.forms {
		if f.post && strings.HasSuffix(f.action, "/exit") {
			form, _ := f.fill(nil)
			if err := v.send(ctx, f, form); err != nil {
				return err
			}
			return v.expect("/goodbye")
		}
	}
	return fmt.Errorf("%w: %s has no form to exit", errPage, v.page.name())
}

// print presses "Stampa" and waits for "take your sheets". It returns when the button was pressed.
func (v *visitor) print(ctx context.Context) (pressed time.Time, err error) {
	pressed = now()
	if err := v.submit(ctx, answers{"action": "print"}); err != nil {
		return pressed, err
	}
	err = v.until(ctx, 30*time.Second, "“take your sheets”", func() bool { return v.at("/take") || v.at("/problem") })
	if err != nil {
		return pressed, err
	}
	return pressed, v.expect("/take")
}

// leave says that all sheets are there, and goes.
func (v *visitor) leave(ctx context.Context) error {
	if err := v.submit(ctx, answers{"action": "all"}); err != nil {
		return err
	}
	return v.expect("/goodbye")
}

// slipCode reads the pick-up code off the preview of the slip: six characters of an alphabet, in two groups.
func (v *visitor) slipCode(alphabet string) (string, error) {
	words := strings.Fields(v.page.text)
	group := func(s string) bool {
		return len(s) == 3 && strings.Trim(s, alphabet) == ""
	}
	for i := range len(words) - 1 {
		if group(words[i]) && group(words[i+1]) {
			return words[i] + words[i+1], nil
		}
	}
	return "", errors.New("no pick-up code on the preview of the slip")
}
