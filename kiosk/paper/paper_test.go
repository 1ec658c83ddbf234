package paper_test

import (
	"os"
	"testing"
	"time"

	"sportello.example/kiosk/paper"
)

func TestDraft(t *testing.T) {
	rossi := paper.Person{Name: "Nicolò", FamilyName: "D'Amico", BirthPlace: "Forlì", BirthProvince: "FC", BirthDate: "03/04/1950", Place: "Milano", Province: "MI", Street: "Via Valvassori Peroni", Number: "56", FiscalCode: "DMCNCL50D03Y001X"}
	long := "Wolfeschlegelsteinhausenbergerdorffwelchevoralternwarengewis"
	lp := paper.Person{Name: long + " Maria Ștefania Łucja", FamilyName: long, BirthPlace: long, BirthProvince: "Repubblica Federale Tedesca", BirthDate: "03/04/1950", Place: long, Province: "MI", Street: "Piazzale della Costituzione della Repubblica Italiana Antifascista", Number: "56/bis scala A", FiscalCode: "DMCNCL50D03Y001X"}
	var fam []paper.Relative
	for range 10 {
		fam = append(fam, paper.Relative{Name: long, Birth: "Città Sant'Angelo, 01/02/1990", Relation: "figlia della convivente"})
	}
	save := func(n string, b []byte, err error) {
		if err != nil {
			t.Fatal(n, err)
		}
		os.WriteFile("/tmp/h/pp/"+n+".pdf", b, 0o600)
	}
	b, err := paper.Declaration(paper.DeclarationForm{})
	save("blank", b, err)
	b, err = paper.Declaration(paper.DeclarationForm{Residence: &paper.Residence{}, HasFamily: true})
	save("blank2", b, err)
	b, err = paper.Declaration(paper.DeclarationForm{Person: rossi, Residence: &paper.Residence{Since: "01/09/2003"}, Civil: &paper.Civil{Status: paper.Married, With: "Șerban Ecaterina"}, HasFamily: true, Family: []paper.Relative{{"Șerban Ecaterina", "Cluj-Napoca, 12/12/1955", "moglie"}, {"D'Amico Zoë", "Milano, 01/01/1990", "figlia"}}})
	save("typed", b, err)
	b, err = paper.Declaration(paper.DeclarationForm{Person: lp, Residence: &paper.Residence{Since: "01/09/2003"}, Civil: &paper.Civil{Status: paper.Widowed, With: long}, HasFamily: true, Family: fam})
	save("long", b, err)
	rossi.FamilyName, rossi.Name = "Nguyễn", "Thị Hạnh"
	b, err = paper.Declaration(paper.DeclarationForm{Person: rossi, Civil: &paper.Civil{}})
	save("viet", b, err)
	for _, l := range []string{"it", "en"} {
		b, err = paper.Slip(paper.SlipForm{Code: "C4F7H2", Branch: "Valvassori Peroni", Left: time.Date(2026, 11, 22, 15, 7, 0, 0, time.UTC), Expires: time.Date(2026, 12, 22, 15, 7, 0, 0, time.UTC), Certificates: []string{"Certificato di Residenza", "Certificato di Stato di famiglia"}, Language: l})
		save("slip-"+l, b, err)
	}
}
