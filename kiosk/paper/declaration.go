package paper

// The words of the form, from art. 46, 75, 76 and 37 of D.P.R. 445/2000. They are an act under Italian law and so not
// in the kiosk's translations.
const (
	textAware = "consapevole delle sanzioni penali previste dall’art. 76 del D.P.R. 28 dicembre 2000, n. 445 per le ipotesi di " +
		"falsità in atti e dichiarazioni mendaci, e della decadenza dai benefici eventualmente conseguiti per effetto di una " +
		"dichiarazione non veritiera (art. 75),"
	textPrivacy = "Informativa (art. 13 Reg. UE 2016/679): i dati sono trattati dal destinatario della dichiarazione per il " +
		"procedimento per cui è resa. La postazione della biblioteca non conserva copia né dati di questo modulo."
	textStamp = "Esente da imposta di bollo (art. 37 D.P.R. 445/2000). Non occorre autentica della firma né copia del documento " +
		"d’identità. Ha la stessa validità del certificato che sostituisce (art. 48)."
	textDuty = "Pubbliche amministrazioni, gestori di pubblici servizi e privati devono accettarla (artt. 2, 43 e 46 D.P.R. 445/2000; " +
		"art. 30-bis D.L. 76/2020). Chi la riceve può verificare quanto dichiarato."
)

const indent = 6.5 // of a fact, beside its box

func drawDeclaration(s *sheet, f DeclarationForm) {
	s.y += 1.5
	s.font("B", 15, 0)
	s.para(left, column, "Dichiarazione sostitutiva di certificazione", "C")
	s.font("", 11, 0)
	s.para(left, column, "(art. 46 D.P.R. 28 dicembre 2000, n. 445)", "C")
	s.y += 4

	drawPerson(s, f.Person)

	s.y += 1.5
	s.font("", 10.5, 0)
	s.para(left, column, textAware, "L")
	s.y += 2
	s.font("B", 13, 0)
	s.need(14)
	s.para(left, column, "DICHIARA", "C")
	s.y += 2

	all := f.NoFacts()
	if f.Residence != nil || all {
		drawResidence(s, f)
	}
	if f.Civil != nil || all {
		drawCivil(s, f.Civil)
	}
	if f.HasFamily || all {
		drawFamily(s, f)
	}
	if all {
		s.need(13)
		s.box(left, s.y+5.2, false)
		s.row(left+indent, column-indent, field{label: "altro (art. 46, lettera …… )", share: 1})
	}
	drawEnd(s)
}

func drawPerson(s *sheet, p Person) {
	s.font("", 10.5, 0)
	s.line(left, column, "Il/La sottoscritto/a", "L")
	s.y += 1
	s.row(left, column, field{label: "Cognome", value: p.FamilyName, share: 1}, field{label: "Nome", value: p.Name, share: 1})
	s.row(left, column,
		field{label: "nato/a a (Comune)", value: p.BirthPlace, share: 5},
		field{label: "provincia o Stato estero", value: p.BirthProvince, share: 2.2},
		field{label: "il (giorno, mese, anno)", value: p.BirthDate, share: 2, guide: date})
	s.row(left, column,
		field{label: "residente a (Comune)", value: p.Place, share: 7},
		field{label: "provincia o Stato estero", value: p.Province, share: 2.2})
	s.row(left, column,
		field{label: "in (via, viale, piazza)", value: p.Street, share: 7},
		field{label: "numero civico", value: p.Number, share: 2.2})
	s.row(left, column*0.66,
		field{label: "codice fiscale (facoltativo)", value: p.FiscalCode, share: 1, guide: comb})
}

// fact prints the box and the sentence of a fact.
func fact(s *sheet, on bool, text string, room float64) {
	s.font("B", 10.5, 0)
	s.need(s.leading() + room)
	s.box(left, s.y+0.5, on)
	s.para(left+indent, column-indent, text, "L")
	s.y += 0.8
}

func drawResidence(s *sheet, f DeclarationForm) {
	since := ""
	if f.Residence != nil {
		since = f.Residence.Since
	}
	p := f.Person
	fact(s, f.Residence != nil, "di essere residente", 12)
	s.row(left+indent, column-indent,
		field{label: "a (Comune)", value: p.Place, share: 5},
		field{label: "in (via, numero civico)", value: join(p.Street, " ", p.Number), share: 6.4},
		field{label: "dal", value: since, share: 3, guide: date})
	s.y += 2
}

// join puts sep between a and b where there are both.
func join(a, sep, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + sep + b
}

// states are the civil states in the words of the form, and whether somebody's name belongs to them.
var states = [...]struct {
	status CivilStatus
	text   string
	label  string
}{
	{Free, "di essere di stato libero (celibe, nubile, già coniugato/a o unito/a civilmente)", ""},
	{Married, "di essere coniugato/a", "con (cognome e nome)"},
	{Partnered, "di essere unito/a civilmente", "con (cognome e nome)"},
	{Widowed, "di essere vedovo/a", "di (cognome e nome)"},
}

func drawCivil(s *sheet, c *Civil) {
	if c == nil {
		c = &Civil{}
	}
	for _, st := range states {
		switch {
		case c.Status == "" && st.label != "": // by hand: the name beside the box
			s.need(13)
			s.box(left, s.y+4.2, false)
			s.font("B", 10.5, 0)
			s.pdf.SetXY(left+indent, s.y+3.6)
			s.pdf.CellFormat(56, s.leading(), st.text, "", 0, "L", false, 0, "")
			s.row(left+indent+56, column-indent-56, field{label: st.label, share: 1})
		case c.Status == "" || c.Status == st.status:
			fact(s, c.Status != "", st.text, 12)
			if c.Status == st.status && st.label != "" {
				s.row(left+indent, column-indent, field{label: st.label, value: c.With, share: 1})
			}
		}
	}
	s.y += 2
}

// columns of the family's table, millimetres.
var columns = [3]float64{72, 60, 35.5}

func drawFamily(s *sheet, f DeclarationForm) {
	fact(s, f.HasFamily, "che la famiglia anagrafica è composta da", 20)
	p := f.Person
	rows := [][3]string{{join(p.FamilyName, " ", p.Name), join(p.BirthPlace, ", ", p.BirthDate), "dichiarante"}}
	for _, m := range f.Family {
		rows = append(rows, [3]string{m.Name, m.Birth, m.Relation})
	}
	if p == (Person{}) && len(f.Family) == 0 {
		rows = append(rows, make([][3]string, 3)...) // to write in
	}
	tableHead(s)
	for _, r := range rows {
		tableRow(s, r)
	}
	s.y += 2
}

func tableHead(s *sheet) {
	x := left + indent
	s.pdf.SetFillColor(235, 238, 242)
	s.pdf.Rect(x, s.y, column-indent, 5.2, "F")
	s.font("B", 8.5, 0)
	for i, t := range []string{"Cognome e nome", "Luogo e data di nascita", "Rapporto"} {
		s.pdf.SetXY(x+1.2, s.y)
		s.pdf.CellFormat(columns[i], 5.2, t, "", 0, "L", false, 0, "")
		x += columns[i]
	}
	s.y += 5.2
}

// tableRow prints one person of the family; what is empty is a cell to write in.
func tableRow(s *sheet, cells [3]string) {
	s.font("", 10, 0)
	lead := s.leading()
	lines, n := [3][]string{}, 1
	for i, c := range cells {
		if c != "" {
			lines[i] = s.wrap(c, columns[i]-2.4)
			n = max(n, len(lines[i]))
		}
	}
	h := max(7, float64(n)*lead+1.4)
	if s.y+h > bottom {
		s.newPage()
		tableHead(s)
		s.font("", 10, 0)
	}
	x := left + indent
	for i, ls := range lines {
		for k, l := range ls {
			s.pdf.SetXY(x+1.2, s.y+(h-float64(len(ls))*lead)/2+float64(k)*lead)
			s.pdf.CellFormat(columns[i], lead, l, "", 0, "L", false, 0, "")
		}
		if i > 0 {
			s.pdf.SetDrawColor(190, 190, 190)
			s.pdf.Line(x, s.y, x, s.y+h)
		}
		x += columns[i]
	}
	s.y += h
	s.rule(left+indent, right, s.y, 140)
}

// drawEnd prints where to sign and the notes, all on one page.
func drawEnd(s *sheet) {
	const height = 44
	s.need(height)
	s.y = max(s.y, bottom-height) // at the foot of the page, where a form is signed
	s.row(left, column,
		field{label: "Luogo", share: 3}, field{label: "Data", share: 2, guide: date},
		field{label: "Firma per esteso e leggibile", share: 5})
	s.y += 3.4
	s.rule(left, right, s.y, 200)
	s.y += 2
	s.font("", 8.2, 60)
	for _, t := range []string{textPrivacy, textStamp, textDuty} {
		s.para(left, column, t, "L")
		s.y += 0.8
	}
}
