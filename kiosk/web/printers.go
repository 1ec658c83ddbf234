package web

import (
	"cmp"
	"errors"
	"slices"

	"sportello.example/kiosk"
)

// printerChoice is a printer that a citizen can choose.
type printerChoice struct {
	UUID, Name string
	Chosen     bool
}

// printers returns the branch's printers by name when a document in hand could go to several, and which of them it goes to
// as things are. A slip goes where the box thinks best: that may be a receipt printer.
func (s *Server) printers(v visit) (all []kiosk.PrinterStatus, on kiosk.PrinterStatus) {
	all = s.cfg.Printer.Printers()
	on = s.cfg.Printer.Status()
	if len(all) < 2 || v.view.Document == "slip" {
		return nil, on
	}
	uuid := cmp.Or(v.view.Printer, on.UUID)
	for _, good := range []func(kiosk.PrinterStatus) bool{
		func(p kiosk.PrinterStatus) bool { return p.UUID == uuid }, usable, func(kiosk.PrinterStatus) bool { return true },
	} {
		if i := slices.IndexFunc(all, good); i >= 0 {
			return all, all[i]
		}
	}
	return all, on
}

func usable(p kiosk.PrinterStatus) bool {
	return p.State == kiosk.PrinterReady || p.State == kiosk.PrinterBusy
}

// printerName returns what a printer calls itself; one that says nothing goes by its place in the branch's list.
func printerName(t *texts, all []kiosk.PrinterStatus, p kiosk.PrinterStatus) string {
	if p.Name != "" {
		return p.Name
	}
	n := slices.IndexFunc(all, func(o kiosk.PrinterStatus) bool { return o.UUID == p.UUID })
	return t.t("printers.number", "n", n+1)
}

// choose chooses a printer. One that has been retired since the page was drawn is no answer: the page is drawn anew.
func (s *Server) choose(v visit, uuid string) error {
	err := s.desk.ChoosePrinter(v.session, uuid)
	if errors.Is(err, kiosk.ErrUnknown) {
		return kiosk.ErrNotNow
	}
	return err
}

// where names the printer on which a visit prints; "" when the branch has only one.
func (s *Server) where(t *texts, v visit) string {
	all, on := s.printers(v)
	if all == nil || v.view.Printer == "" || on.UUID != v.view.Printer {
		return ""
	}
	return printerName(t, all, on)
}

// others returns the printers that could print what another one could not.
func (s *Server) others(v visit) []kiosk.PrinterStatus {
	return slices.DeleteFunc(s.cfg.Printer.Printers(), func(p kiosk.PrinterStatus) bool {
		return !usable(p) || p.UUID == "" || p.UUID == v.view.Printer
	})
}
