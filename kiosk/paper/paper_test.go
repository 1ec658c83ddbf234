package paper_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk/paper"
)

// sixty is a name of 60 characters without a space to break it at.
const sixty = "Wolfeschlegelsteinhausenbergerdorffwelchevoralternwarengewis"

func typed() paper.DeclarationForm {
	return paper.DeclarationForm{
		Person: paper.Person{
			Name: "Nicolò", FamilyName: "D’Amico", BirthPlace: "Forlì", BirthProvince: "FC", BirthDate: "03/04/1950",
			Place: "Milano", Province: "MI", Street: "Via Valvassori Peroni", Number: "56", FiscalCode: "DMCNCL50D03Y001L",
		},
		Residence: &paper.Residence{Since: "01/09/2003"},
		Civil:     &paper.Civil{Status: paper.Married, With: "Ștefania Čolić"},
		HasFamily: true,
		Family:    []paper.Relative{{Name: "Čolić Ștefania", Birth: "Rijeka, 12/12/1955", Relation: "moglie"}},
	}
}

func crowded() paper.DeclarationForm {
	f := typed()
	p := &f.Person
	p.Name, p.FamilyName, p.BirthPlace, p.Place, p.Street = sixty, sixty, sixty, sixty, sixty
	p.BirthProvince, f.Civil.With = "Repubblica federale tedesca", sixty
	f.Family = nil
	for range paper.MaxRelatives {
		f.Family = append(f.Family, paper.Relative{Name: sixty, Birth: sixty, Relation: "figlia della convivente"})
	}
	return f
}

func slip() paper.SlipForm {
	at := time.Date(2026, 11, 22, 15, 7, 0, 0, time.UTC)
	return paper.SlipForm{
		Code: "C4F7H2", Branch: "Valvassori Peroni", Left: at, Expires: at.AddDate(0, 0, 30),
		Certificates: []string{"Certificato di Residenza"}, Language: "en",
	}
}

func pageCount(pdf []byte) int { return bytes.Count(pdf, []byte("/Type /Page\n")) }

func TestDeclaration(t *testing.T) {
	foreign := typed()
	foreign.Person.FamilyName, foreign.Person.Name = "Nguyễn", "Παύλος Юлия"
	for _, tt := range []struct {
		name  string
		form  paper.DeclarationForm
		pages int
	}{
		{"blank", paper.DeclarationForm{}, 1},
		{"blank, with facts", paper.DeclarationForm{Residence: &paper.Residence{}, Civil: &paper.Civil{}, HasFamily: true}, 1},
		{"typed", typed(), 1},
		{"a name that needs the other typeface", foreign, 1},
		{"60 characters everywhere and a family of eleven", crowded(), 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := paper.Declaration(tt.form)
			if err != nil {
				t.Fatal(err)
			}
			if got := pageCount(a); got != tt.pages {
				t.Errorf("%d pages, want %d", got, tt.pages)
			}
			if !bytes.Contains(a, []byte("/MediaBox [0 0 595.28 841.89]")) {
				t.Error("not on A4")
			}
			b, err := paper.Sheets{}.Declaration(tt.form)
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("equal input, other bytes (%v)", err)
			}
		})
	}
}

func TestDeclarationWithoutNames(t *testing.T) {
	a, err := paper.Declaration(paper.DeclarationForm{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := paper.Declaration(typed())
	if err != nil {
		t.Fatal(err)
	}
	info := func(pdf []byte) string {
		_, after, _ := bytes.Cut(pdf, []byte("/Producer"))
		before, _, _ := bytes.Cut(after, []byte("endobj"))
		return string(before)
	}
	if info(a) == "" || info(a) != info(b) {
		t.Errorf("the document's properties say more than what it is:\n%q\n%q", info(a), info(b))
	}
}

func TestDeclarationRefuses(t *testing.T) {
	long := strings.Repeat("è", paper.MaxName+1)
	for _, tt := range []struct {
		name  string
		set   func(*paper.DeclarationForm)
		field string
		want  error
	}{
		{"a name of 101 characters", func(f *paper.DeclarationForm) { f.Person.Name = long }, "Person.Name", paper.ErrTooLong},
		{"a street of 101 characters", func(f *paper.DeclarationForm) { f.Person.Street = long }, "Person.Street", paper.ErrTooLong},
		{"a date with words", func(f *paper.DeclarationForm) { f.Residence.Since = "il primo maggio" }, "Residence.Since", paper.ErrTooLong},
		{"a line break", func(f *paper.DeclarationForm) { f.Person.FamilyName = "A\nB" }, "Person.FamilyName", paper.ErrCharacter},
		{"half a character", func(f *paper.DeclarationForm) { f.Person.FamilyName = "A\xc3" }, "Person.FamilyName", paper.ErrCharacter},
		{"letters that no typeface has", func(f *paper.DeclarationForm) { f.Civil.With = "李小龍" }, "Civil.With", paper.ErrCharacter},
		{"letters to be turned round", func(f *paper.DeclarationForm) { f.Family[0].Name = "محمد" }, "Family[0].Name", paper.ErrCharacter},
		{"an unknown civil status", func(f *paper.DeclarationForm) { f.Civil.Status = "happy" }, "Civil.Status", paper.ErrChoice},
		{"eleven relatives", func(f *paper.DeclarationForm) { f.Family = make([]paper.Relative, 11) }, "Family", paper.ErrTooMany},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := typed()
			tt.set(&f)
			_, err := paper.Declaration(f)
			var fe *paper.FieldError
			if !errors.As(err, &fe) || fe.Field != tt.field || !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %s: %v", err, tt.field, tt.want)
			}
			for _, secret := range []string{"D’Amico", "Valvassori", long} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error holds what was typed: %v", err)
				}
			}
		})
	}
}

func TestSlip(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   func(*paper.SlipForm)
		field string
		want  error
	}{
		{"Italian and English", func(*paper.SlipForm) {}, "", nil},
		{"Italian only", func(f *paper.SlipForm) { f.Language = "it" }, "", nil},
		{"no branch, no expiry", func(f *paper.SlipForm) { f.Branch, f.Expires = "", time.Time{} }, "", nil},
		{"ten certificates", func(f *paper.SlipForm) { f.Certificates = strings.Split(strings.Repeat("Certificato,", 9)+"x", ",") }, "", nil},
		{"eleven certificates", func(f *paper.SlipForm) { f.Certificates = make([]string, 11) }, "Certificates", paper.ErrTooMany},
		{"no code", func(f *paper.SlipForm) { f.Code = "" }, "Code", paper.ErrMissing},
		{"a code of five", func(f *paper.SlipForm) { f.Code = "C4F7H" }, "Code", paper.ErrMissing},
		{"a code in other letters", func(f *paper.SlipForm) { f.Code = "c4f7è2" }, "Code", paper.ErrCharacter},
		{"no time", func(f *paper.SlipForm) { f.Left = time.Time{} }, "Left", paper.ErrMissing},
		{"a language without words", func(f *paper.SlipForm) { f.Language = "fr" }, "Language", paper.ErrChoice},
		{"a branch in other letters", func(f *paper.SlipForm) { f.Branch = "图书馆" }, "Branch", paper.ErrCharacter},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := slip()
			tt.set(&f)
			b, err := paper.Slip(f)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if err == nil && pageCount(b) != 1 {
				t.Errorf("%d pages", pageCount(b))
			}
			var fe *paper.FieldError
			if tt.want != nil && (!errors.As(err, &fe) || fe.Field != tt.field) {
				t.Errorf("got %v, want field %s", err, tt.field)
			}
		})
	}
	a, errA := paper.Slip(slip())
	b, errB := paper.Sheets{}.Slip(slip())
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Error("equal input, other bytes")
	}
}

func FuzzDeclaration(f *testing.F) {
	f.Add("D’Amico", "Via Roma", "figlia", uint8(3))
	f.Add(sixty, strings.Repeat("W ", 50), "", uint8(10))
	f.Add("", "\u00a0", "Nguyễn", uint8(0))
	f.Fuzz(func(t *testing.T, name, street, relation string, n uint8) {
		form := paper.DeclarationForm{
			Person: paper.Person{Name: name, Street: street}, Residence: &paper.Residence{}, HasFamily: true,
			Family: make([]paper.Relative, n%12),
		}
		for i := range form.Family {
			form.Family[i] = paper.Relative{Name: name, Birth: street, Relation: relation}
		}
		b, err := paper.Declaration(form)
		var fe *paper.FieldError
		if err != nil && !errors.As(err, &fe) {
			t.Error(err)
		}
		if err == nil && pageCount(b) > 3 {
			t.Errorf("%d pages", pageCount(b))
		}
	})
}

func ExamplePrintable() {
	fmt.Println(paper.Printable("Nguyễn Ștefania Łucja"), paper.Printable("李小龍"))
	// Output: true false
}

func BenchmarkDeclaration(b *testing.B) {
	f := typed()
	for b.Loop() {
		if _, err := paper.Declaration(f); err != nil {
			b.Fatal(err)
		}
	}
}
