package paper

import (
	"fmt"
	"time"
)

// words of the slip, in one language.
type words struct {
	title, code, what, branch, left, expires, next string
	steps                                          []string
	note                                           string
}

// slipWords returns the words of the slip in a language, and whether there are any. What step 2 says to choose is the title
// of that card in the translations (need.collect.title). They are here and not with the kiosk's
// translations because a sheet of paper has its own measure.
func slipWords(language string) (words, bool) {
	switch language {
	case "it":
		return words{
			title: "Richiesta in attesa", code: "Codice di ritiro", what: "Certificati richiesti", branch: "Sede",
			left: "Lasciata il", expires: "Vale fino al", next: "Che cosa succede ora",
			steps: []string{
				"La linea con il Comune è interrotta. La richiesta è al sicuro in questa postazione e parte da sola quando la linea torna.",
				"Tornare alla postazione con questo foglio, scegliere “Ritirare una richiesta” e scrivere il codice.",
				"Entrare con SPID o CIE dal proprio telefono: il certificato si prepara e si stampa subito.",
			},
			note: "Questo foglio non contiene dati personali e non è un certificato. Senza il codice la richiesta si può sempre rifare. " +
				"Uffici pubblici e gestori di pubblici servizi devono accettare un’autocertificazione, che qui si stampa anche senza linea.",
		}, true
	case "en":
		return words{
			title: "Request waiting", code: "Pick-up code", what: "Certificates asked for", branch: "Branch",
			left: "Left on", expires: "Valid until", next: "What happens next",
			steps: []string{
				"The line to the municipality is down. Your request is safe in this kiosk and leaves by itself when the line is back.",
				"Come back to the kiosk with this sheet, choose “Collect a request” and type the code.",
				"Log in with SPID or CIE on your own phone: the certificate is prepared and printed at once.",
			},
			note: "There is no personal data on this sheet, and it is not a certificate. Without the code you can always ask again. Public " +
				"offices and utilities must accept a self-declaration, which you can print here even while the line is down.",
		}, true
	}
	return words{}, false
}

func drawSlip(s *sheet, f SlipForm) {
	it, _ := slipWords("it")
	s.y += 4
	s.font("B", 20, 0)
	s.para(left, column, it.title, "L")
	s.y += 4
	drawCode(s, f.Code, it.code)
	s.y += 6

	for i, c := range f.Certificates {
		label := ""
		if i == 0 {
			label = it.what
		}
		s.pair(label, c)
	}
	if f.Branch != "" {
		s.pair(it.branch, f.Branch)
	}
	s.pair(it.left, moment(f.Left, "it"))
	if !f.Expires.IsZero() {
		s.pair(it.expires, moment(f.Expires, "it"))
	}
	s.y += 5
	s.steps(it, 13, 11.5)
	s.y += 2
	s.font("", 9.5, 60)
	s.para(left, column, it.note, "L")
	if f.Language == "it" {
		return
	}
	w, _ := slipWords(f.Language)
	s.y += 5
	s.rule(left, right, s.y, 150)
	s.y += 4
	s.font("B", 13, 0)
	s.para(left, column, w.title+" · "+w.code+" "+grouped(f.Code), "L")
	s.font("", 10.5, 0)
	when := w.left + " " + moment(f.Left, f.Language)
	if !f.Expires.IsZero() {
		when += " · " + w.expires + " " + moment(f.Expires, f.Language)
	}
	s.para(left, column, when, "L")
	s.y += 3
	s.steps(w, 11.5, 10.5)
	s.y += 1
	s.font("", 9.5, 60)
	s.para(left, column, w.note, "L")
}

// drawCode prints the code as large as it can be read from across a table.
func drawCode(s *sheet, code, label string) {
	const h = 46.0
	s.pdf.SetDrawColor(0, 102, 204)
	s.pdf.SetLineWidth(0.8)
	s.pdf.RoundedRect(left, s.y, column, h, 3, "1234", "D")
	s.font("", 12, 60)
	s.pdf.SetXY(left, s.y+4)
	s.pdf.CellFormat(column, 6, label, "", 0, "C", false, 0, "")
	s.font("B", 70, 0)
	s.pdf.SetXY(left, s.y+12)
	s.pdf.CellFormat(column, 28, grouped(code), "", 0, "C", false, 0, "")
	s.y += h
}

// grouped is the code as people read it out: three and three.
func grouped(code string) string { return code[:3] + " " + code[3:] }

// pair prints a label and, beside it, what it is.
func (s *sheet) pair(label, value string) {
	s.font("", 11.5, 85)
	s.pdf.SetXY(left, s.y)
	s.pdf.CellFormat(48, s.leading(), label, "", 0, "L", false, 0, "")
	s.font("B", 11.5, 0)
	s.para(left+50, column-50, value, "L")
	s.y += 0.8
}

// steps prints what happens next, numbered.
func (s *sheet) steps(w words, head, size float64) {
	s.font("B", head, 0)
	s.para(left, column, w.next, "L")
	s.y += 1.5
	for i, t := range w.steps {
		s.font("B", size, 0)
		s.pdf.SetXY(left, s.y)
		s.pdf.CellFormat(8, s.leading(), fmt.Sprintf("%d.", i+1), "", 0, "L", false, 0, "")
		s.font("", size, 0)
		s.para(left+8, column-8, t, "L")
		s.y += 1.4
	}
}

// moment is t as it is written out: "22 novembre 2026, ore 15:07".
func moment(t time.Time, language string) string {
	it := [...]string{
		"gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno",
		"luglio", "agosto", "settembre", "ottobre", "novembre", "dicembre",
	}
	if language == "it" {
		return fmt.Sprintf("%d %s %d, ore %s", t.Day(), it[t.Month()-1], t.Year(), t.Format("15:04"))
	}
	return t.Format("2 January 2006, 15:04")
}
