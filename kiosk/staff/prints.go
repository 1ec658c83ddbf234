package staff

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"sportello.example/kiosk"
)

// printsPage is what the page about undecided prints shows.
type printsPage struct{ Prints []printView }

type printView struct {
	ID, Code, Title, Since string
	Evidence               []string
	Why                    string
	CanReprint             bool
}

func (s *Server) printsPage(r *http.Request, p *page) error {
	undecided, err := s.cfg.Spool.Undecided(r.Context())
	if err != nil {
		return fmt.Errorf("undecided prints: %w", err)
	}
	p.Undecided = len(undecided)
	var d printsPage
	for _, pr := range undecided {
		d.Prints = append(d.Prints, s.print(p, pr))
	}
	p.Data = d
	return p.err
}

// print says in words what is known of a print.
func (s *Server) print(p *page, pr Print) printView {
	v := printView{
		ID: pr.ID, Code: shortCode(pr.ID), Since: p.since(pr.At), Why: pr.Why, CanReprint: s.cfg.Desk.Waiting(pr.ID),
		Title: p.t("staff.print.what", "kind", p.kind(pr.Kind), "kiosk", pr.Kiosk, "printer", pr.Name),
	}
	say := func(text string) { v.Evidence = append(v.Evidence, text) }
	say(p.count("staff.print.pages", pr.Pages))
	switch {
	case pr.Sent <= 0:
		say(p.t("staff.print.sent.none"))
	case pr.Bytes > 0 && pr.Sent >= pr.Bytes:
		say(p.t("staff.print.sent.all", "n", pr.Sent))
	default:
		say(p.t("staff.print.sent.some", "n", pr.Sent, "of", pr.Bytes))
	}
	switch pr.JobState {
	case "":
		say(p.t("staff.print.said.nothing"))
	case "pending", "pending-held", "processing", "processing-stopped", "canceled", "aborted", "completed":
		say(p.t("staff.print.said."+pr.JobState) + " (" + pr.JobState + ")")
	default:
		say(p.t("staff.print.said.other") + " (" + pr.JobState + ")")
	}
	switch {
	case pr.Sheets < 0:
		say(p.t("staff.print.sheets.unknown"))
	case pr.Sheets == 0:
		say(p.t("staff.print.sheets.none"))
	default:
		say(p.count("staff.print.sheets", pr.Sheets))
	}
	if pr.Restarted {
		say(p.t("staff.print.restarted"))
	}
	if pr.Number > 0 {
		say(p.t("staff.print.reprint", "n", pr.Number))
	}
	return v
}

// decide takes what somebody found in the tray. It is stored first: only then does the kiosk go on. A reprint is not even
// stored when nobody waits for it any more. Who closes the page between the two does not keep the kiosk waiting.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, v *visit) error {
	ctx, id, verdict := context.WithoutCancel(r.Context()), r.PostForm.Get("id"), kiosk.Verdict(r.PostForm.Get("verdict"))
	p := s.page(v, "prints", prints)
	switch verdict {
	case kiosk.VerdictOut, kiosk.VerdictNothing:
	case kiosk.VerdictReprint:
		if !s.cfg.Desk.Waiting(id) {
			s.said(v, p.t("staff.print.left"))
			return seeOther(w, r, prints)
		}
	default:
		return kiosk.ErrUnknown
	}
	printer := s.printerOf(r, id)
	if err := s.cfg.Spool.Decide(ctx, id, verdict, v.who.by); errors.Is(err, ErrGone) {
		s.said(v, p.t("staff.print.gone"))
		return seeOther(w, r, prints)
	} else if pe := (*kiosk.PrintError)(nil); errors.As(err, &pe) && pe.Trouble == kiosk.TroubleBlocked {
		s.said(v, p.t("staff.print.blocked"))
		return seeOther(w, r, home)
	} else if err != nil {
		return fmt.Errorf("decide about print %s: %w", shortCode(id), err)
	}
	s.noneLeft(r, printer)
	said := p.t("staff.print.decided." + string(verdict))
	err := s.cfg.Desk.Settle(ctx, id, verdict)
	switch {
	case err == nil, errors.Is(err, kiosk.ErrNoSession) && verdict != kiosk.VerdictReprint:
	case errors.Is(err, kiosk.ErrNoSession):
		said = p.t("staff.print.left")
	case errors.Is(err, kiosk.ErrDiskFull):
		said = p.t("staff.print.full")
	default:
		return fmt.Errorf("settle print %s: %w", shortCode(id), err)
	}
	s.said(v, said)
	return seeOther(w, r, prints)
}

// printerOf returns the UUID of the printer of an undecided print, "" when there is no such print.
func (s *Server) printerOf(r *http.Request, id string) string {
	undecided, err := s.cfg.Spool.Undecided(r.Context())
	if i := slices.IndexFunc(undecided, func(pr Print) bool { return pr.ID == id }); err == nil && i >= 0 {
		return undecided[i].Printer
	}
	return ""
}

// noneLeft clears the alarm about a printer's uncertain prints with the last of them.
func (s *Server) noneLeft(r *http.Request, printer string) {
	undecided, err := s.cfg.Spool.Undecided(r.Context())
	if err != nil || slices.ContainsFunc(undecided, func(pr Print) bool { return pr.Printer == printer }) {
		return
	}
	s.cfg.Alarms.Clear(AlarmUncertain, printer)
}
