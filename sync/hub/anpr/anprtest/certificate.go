package anprtest

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"codeberg.org/go-pdf/fpdf"
	"github.com/skip2/go-qrcode"
)

// Titillium Web, under the SIL Open Font License that is beside it.
var (
	//go:embed fonts/TitilliumWeb-Regular.ttf
	regular []byte
	//go:embed fonts/TitilliumWeb-Bold.ttf
	bold []byte
)

// sentencePrivate must stand on every certificate for private use, which is void without it (art. 40 D.P.R. 445/2000).
const sentencePrivate = "Il presente certificato non può essere prodotto agli organi della pubblica amministrazione o ai privati gestori di " +
	"pubblici servizi"

// order is a certificate to be made.
type order struct {
	kinds     []kind
	holder    Citizen
	family    []member // of holder, in the registry's order
	recipient string   // private | abroad | court
	exempt    string   // the rule, "" when stamp duty is due
	serial    string
	at        time.Time
	letter    bool // on US Letter: the simulator's fault, never a registry's
}

type member struct {
	Citizen
	relation string
}

const (
	left    = 20.0
	width   = 170.0
	footTop = 188.0 // of what the paper is for and who sealed it
	sealTop = 240.0
	family  = "text"
)

// page is a certificate being drawn, from top to bottom.
type page struct {
	*fpdf.Fpdf
	y float64
}

// drawCertificate makes the PDF, not yet sealed.
func drawCertificate(o order) ([]byte, error) {
	size := "A4"
	if o.letter {
		size = "Letter"
	}
	p := &page{Fpdf: fpdf.New("P", "mm", size, "")}
	p.AddUTF8FontFromBytes(family, "", regular)
	p.AddUTF8FontFromBytes(family, "B", bold)
	p.SetAutoPageBreak(false, 0)
	p.SetMargins(0, 0, 0)
	p.SetCellMargin(0)
	p.SetCatalogSort(true)
	p.SetCreationDate(o.at.UTC())
	p.SetModificationDate(o.at.UTC())
	p.SetTitle("Certificato (facsimile)", true)
	p.SetLang("it-IT")
	p.newPage(o)
	p.head(o)
	for _, k := range o.kinds {
		p.statement(o, k)
	}
	p.foot(o)
	if err := p.seal(o); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := p.Output(&out); err != nil {
		return nil, fmt.Errorf("draw the certificate: %w", err)
	}
	return out.Bytes(), nil
}

func (p *page) font(style string, size float64, grey int) {
	p.SetFont(family, style, size)
	p.SetTextColor(grey, grey, grey)
}

// watermark says across the page, under everything else, that this is no certificate.
func (p *page) watermark() {
	const word = "FACSIMILE"
	p.TransformBegin()
	p.TransformRotate(52, 105, 148)
	p.SetFont(family, "B", 122)
	p.SetTextColor(241, 217, 217)
	p.Text(105-p.GetStringWidth(word)/2, 163, word)
	p.TransformEnd()
}

// newPage begins a sheet: the watermark is on every one, and every one but the first says what it belongs to.
func (p *page) newPage(o order) {
	p.AddPage()
	p.watermark()
	p.y = 15
	p.font("", 8.5, 90)
	p.SetXY(left, 284)
	p.CellFormat(width, 4, fmt.Sprintf("Certificato n. %s, foglio %d", o.serial, p.PageNo()), "", 0, "R", false, 0, "")
}

// text writes s from x, wrapped to w, aligned as align says, and goes on below it.
func (p *page) text(x, w float64, s, align string) {
	_, mm := p.GetFontSize()
	p.SetXY(x, p.y)
	p.MultiCell(w, mm*1.3, s, "", align, false)
	p.y = p.GetY()
}

func (p *page) rule(grey int) {
	p.SetDrawColor(grey, grey, grey)
	p.SetLineWidth(0.2)
	p.Line(left, p.y, left+width, p.y)
}

func (p *page) head(o order) {
	p.SetFillColor(0, 102, 204)
	p.Rect(left, p.y, 1.4, 17, "F")
	p.font("B", 14, 0)
	p.text(left+5, width, "Ministero dell’Interno", "L")
	p.font("", 11, 0)
	p.text(left+5, width, "Anagrafe Nazionale della Popolazione Residente", "L")
	p.font("", 9, 90)
	p.text(left+5, width, "FACSIMILE: documento di prova su dati inventati, senza alcun valore", "L")
	p.y += 8
	title := "Certificato " + o.kinds[0].Name
	if len(o.kinds) > 1 {
		title = "Certificato contestuale"
	}
	p.font("B", 18, 0)
	p.text(left, width, title, "C")
	if len(o.kinds) > 1 {
		var names []string
		for _, k := range o.kinds {
			names = append(names, k.Name)
		}
		p.font("", 11, 0)
		p.text(left, width, strings.Join(names, ", "), "C")
	}
	p.y += 5
	p.font("", 11, 0)
	p.text(left, width, "In base alle risultanze dell’Anagrafe Nazionale della Popolazione Residente si certifica che", "L")
	p.y += 3
	h := o.holder
	p.font("B", 15, 0)
	p.text(left, width, h.FamilyName+" "+h.Name, "L")
	p.y += 1
	p.font("", 11, 0)
	p.text(left, width, fmt.Sprintf("%s a %s (%s) il %s", ending(h, "nat"), h.BirthPlace, h.BirthProvince, italian(h.Birth)), "L")
	p.text(left, width, "codice fiscale "+h.FiscalCode, "L")
	p.y += 3
}

// ending puts the ending of the citizen's sex to a word: nato, nata.
func ending(c Citizen, stem string) string {
	if c.Sex == "F" {
		return stem + "a"
	}
	return stem + "o"
}

func italian(t time.Time) string { return t.Format("02/01/2006") }

// statement prints what one type of certificate says.
func (p *page) statement(o order, k kind) {
	if p.y+15+6.5*float64(len(o.family)+1) > 280 {
		p.newPage(o)
	}
	p.rule(170)
	p.y += 2.5
	if len(o.kinds) > 1 {
		p.font("B", 10, 70)
		p.text(left, width, strings.ToUpper(k.Name[:1])+k.Name[1:], "L")
		p.y += 0.8
	}
	p.font("", 11, 0)
	for _, s := range sentences(o, k) {
		p.text(left, width, s, "L")
	}
	switch k.Slug {
	case "stato_famiglia", "stato_famiglia_stato_civile", "stato_famiglia_parentela", "stato_famiglia_aire":
		p.table(o, k)
	}
	p.y += 3
}

// sentences is what k says about the holder.
func sentences(o order, k kind) []string {
	h := o.holder
	since := italian(h.Since)
	switch k.Slug {
	case "nascita":
		return []string{fmt.Sprintf("è %s a %s (%s) il %s.", ending(h, "nat"), h.BirthPlace, h.BirthProvince, italian(h.Birth))}
	case "matrimonio":
		return []string{fmt.Sprintf("ha contratto matrimonio con %s il %s.", h.Spouse, italian(h.StatusSince))}
	case "cittadinanza":
		return []string{"ha la cittadinanza " + h.Nationality + "."}
	case "esistenza_in_vita":
		return []string{"è in vita."}
	case "residenza":
		return []string{fmt.Sprintf("è residente in questo Comune, in %s, %s, dal %s.", h.Street, h.City, since)}
	case "residenza_aire":
		return []string{fmt.Sprintf("è %s nell’Anagrafe degli italiani residenti all’estero (AIRE) del Comune di Milano dal %s,",
			ending(h, "iscritt"), since), fmt.Sprintf("con residenza in %s, %s.", h.Street, h.City)}
	case "stato_civile":
		return []string{"è di stato civile: " + civil(h) + "."}
	case "stato_famiglia", "stato_famiglia_aire":
		return []string{fmt.Sprintf("la famiglia anagrafica in %s, %s, è così composta:", h.Street, h.City)}
	case "stato_famiglia_stato_civile":
		return []string{fmt.Sprintf("la famiglia anagrafica in %s, %s, è così composta, con lo stato civile di ciascuno:", h.Street, h.City)}
	case "stato_famiglia_parentela":
		return []string{fmt.Sprintf("la famiglia anagrafica in %s, %s, è così composta, con i rapporti di parentela:", h.Street, h.City)}
	case "residenza_convivenza":
		return []string{fmt.Sprintf("è residente in questo Comune, in %s, nella convivenza “%s”, dal %s.", h.Street, h.Community, since)}
	case "stato_libero":
		return []string{"è di stato libero."}
	case "unione_civile":
		return []string{fmt.Sprintf("ha costituito unione civile con %s il %s.", h.Spouse, italian(h.StatusSince))}
	case "contratto_convivenza":
		return []string{fmt.Sprintf("ha stipulato un contratto di convivenza con %s.", h.Contract)}
	}
	return nil
}

func civil(c Citizen) string {
	switch c.Status {
	case Married:
		return ending(c, "coniugat") + " con " + c.Spouse
	case Partnered:
		return ending(c, "unit") + " civilmente con " + c.Spouse
	case Widowed:
		return ending(c, "vedov") + " di " + c.Spouse
	case Unmarried:
	}
	if c.Sex == "F" {
		return "nubile"
	}
	return "celibe"
}

// table prints the family.
func (p *page) table(o order, k kind) {
	p.y += 1
	rows := append([]member{{o.holder, "intestatario"}}, o.family...)
	for _, m := range rows {
		third := ""
		switch k.Slug {
		case "stato_famiglia_parentela":
			third = m.relation
		case "stato_famiglia_stato_civile":
			third = civil(m.Citizen)
		}
		p.font("B", 10.5, 0)
		p.SetXY(left+2, p.y)
		p.CellFormat(62, 6.4, m.FamilyName+" "+m.Name, "", 0, "L", false, 0, "")
		p.font("", 10.5, 0)
		p.CellFormat(58, 6.4, fmt.Sprintf("%s, %s", m.BirthPlace, italian(m.Birth)), "", 0, "L", false, 0, "")
		p.CellFormat(48, 6.4, third, "", 0, "L", false, 0, "")
		p.y += 6.4
		p.rule(215)
	}
}

// foot prints what the paper is for, the stamp duty, the date and the number.
func (p *page) foot(o order) {
	if p.y > footTop {
		p.newPage(o)
	}
	p.y = footTop
	p.rule(170)
	p.y += 3
	p.font("B", 11, 0)
	switch o.recipient {
	case "abroad":
		p.text(left, width, "RILASCIATO PER L’ESTERO", "L")
	case "court":
		p.text(left, width, "RILASCIATO PER ESSERE PRODOTTO IN GIUDIZIO", "L")
	default:
		p.text(left, width, sentencePrivate+" (art. 40 D.P.R. 28 dicembre 2000, n. 445).", "L")
	}
	p.y += 2
	p.font("", 10, 0)
	if o.exempt == "" {
		p.text(left, width, "Imposta di bollo: euro 16,00, assolta in modo virtuale (pagoPA).", "L")
	} else {
		p.text(left, width, "Esente da imposta di bollo: "+o.exempt+".", "L")
	}
	p.text(left, width, "Il certificato ha validità di tre mesi dalla data di rilascio (art. 33 D.P.R. 30 maggio 1989, n. 223).", "L")
	p.y += 2
	p.text(left, width, "Milano, "+italian(o.at)+"        Certificato n. "+o.serial, "L")
}

// seal prints the QR code and, beside it, what it and the electronic seal are for.
func (p *page) seal(o order) error {
	const size, top = 34.0, sealTop
	q, err := qrcode.New("https://verifica.anpr.example/c?n="+o.serial, qrcode.Medium)
	if err != nil {
		return fmt.Errorf("draw the QR code: %w", err)
	}
	q.DisableBorder = true
	bits := q.Bitmap()
	cell := size / float64(len(bits))
	p.SetFillColor(0, 0, 0)
	for y, row := range bits {
		for x := 0; x < len(row); x++ {
			n := x
			for n < len(row) && row[n] {
				n++
			}
			if n > x { // a run of black modules is one rectangle, so that no hair line shows between them
				p.Rect(left+float64(x)*cell, top+float64(y)*cell, float64(n-x)*cell, cell, "F")
				x = n
			}
		}
	}
	p.y = top
	p.font("B", 10, 0)
	p.text(left+size+6, width-size-6, "Contrassegno generato elettronicamente", "L")
	p.font("", 9, 60)
	p.text(left+size+6, width-size-6, "Inquadrando il codice si arriva alla pagina di verifica, da cui si può aprire il documento informatico (art. 23, "+
		"comma 2-bis, D.Lgs. 82/2005). Il documento porta un sigillo elettronico di prova: FACSIMILE, senza alcun valore legale.", "L")
	p.y += 3
	p.font("", 9, 60)
	p.text(left+size+6, width-size-6, "Sigillo: "+sealName+"\nNumero: "+o.serial, "L")
	return nil
}
