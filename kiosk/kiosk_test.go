package kiosk

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"sportello.example/sync/citizen"
)

func catalogue(t *testing.T) *Catalogue {
	t.Helper()
	c, err := LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogueHoldsTheDecree(t *testing.T) {
	c := catalogue(t)
	if n := len(c.Certificates()); n != 15 {
		t.Errorf("%d certificates, the decree of 3 November 2021 lists 15", n)
	}
	for _, g := range c.Groups() {
		n := 0
		for _, cert := range c.Certificates() {
			if cert.Group == g {
				n++
			}
		}
		if n == 0 || n > 6 {
			t.Errorf("group %s has %d certificates: a screen shows 1 to 6", g, n)
		}
	}
	if n := len(c.Exemptions()); n != 10 {
		t.Errorf("%d exemptions, want the ten that need no description", n)
	}
	if _, ok := c.Exemption(OtherExemption); ok {
		t.Error("the exemption that needs a description is offered")
	}
}

func TestCombine(t *testing.T) {
	c := catalogue(t)
	for _, tt := range []struct {
		name  string
		slugs []string
		want  string // reason, "" when it may be issued
	}{
		{"nothing", nil, ""},
		{"one alone", []string{"residenza"}, ""},
		{"residence and family", []string{"residenza", "stato_famiglia"}, ""},
		{"married and unmarried", []string{"matrimonio", "stato_libero"}, "same_facts"},
		{"the other way round", []string{"stato_libero", "matrimonio"}, "same_facts"},
		{"civil status twice", []string{"stato_civile", "stato_famiglia"}, "same_facts"},
		{"third one conflicts with the first", []string{"stato_famiglia", "nascita", "stato_civile"}, "same_facts"},
		{"abroad and resident", []string{"residenza_aire", "residenza"}, "registry"},
		{"abroad and anybody", []string{"residenza_aire", "nascita"}, ""},
		{"unknown", []string{"morte"}, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := c.Combine(tt.slugs)
			if got.Reason != tt.want || ok != (tt.want == "") {
				t.Errorf("Combine(%q) = %+v, %v; want reason %q", tt.slugs, got, ok, tt.want)
			}
		})
	}
}

func TestQuestions(t *testing.T) {
	typed := Answers{Service: SelfDeclaration, Facts: AllFacts(), Fill: Typed}
	for _, tt := range []struct {
		name string
		a    Answers
		want []Step
		open Step // "" when everything is answered
	}{
		{"nobody has chosen yet", Answers{}, []Step{StepNeed}, StepNeed},
		{"public body: a declaration is enough", Answers{Service: Certificates, Recipient: ToPublic}, []Step{StepNeed, StepRecipient, StepAdvice}, StepAdvice},
		{
			"private, exempt",
			Answers{Service: Certificates, Recipient: ToPrivate, Certificates: []string{"residenza"}, Chosen: true, Holder: Self, Stamp: StampExempt},
			[]Step{StepNeed, StepRecipient, StepCertificate, StepHolder, StepStamp, StepExemption},
			StepExemption,
		},
		{
			"private, stamp due",
			Answers{Service: Certificates, Recipient: ToPrivate, Certificates: []string{"residenza"}, Chosen: true, Holder: Self, Stamp: StampDue},
			[]Step{StepNeed, StepRecipient, StepCertificate, StepHolder, StepStamp},
			"",
		},
		{
			"chosen but not confirmed",
			Answers{Service: Certificates, Recipient: ToCourt, Certificates: []string{"nascita"}, Holder: Self, Stamp: StampDue},
			[]Step{StepNeed, StepRecipient, StepCertificate, StepHolder, StepStamp},
			StepCertificate,
		},
		{"blank form", Answers{Service: SelfDeclaration, Facts: AllFacts(), Fill: Blank}, []Step{StepNeed, StepFacts, StepFill}, ""},
		{"typed form", typed, []Step{StepNeed, StepFacts, StepFill, StepPerson, StepBirth, StepAddress, StepSince, StepCivil, StepRelatives}, StepPerson},
		{
			"typed form, one fact",
			Answers{Service: SelfDeclaration, Facts: []Fact{FactCivil}, Fill: Typed},
			[]Step{StepNeed, StepFacts, StepFill, StepPerson, StepBirth, StepAddress, StepCivil},
			StepPerson,
		},
		{"pick-up", Answers{Service: Pickup}, []Step{StepNeed, StepCollect}, StepCollect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.a.Questions(); !slices.Equal(got, tt.want) {
				t.Errorf("questions %v, want %v", got, tt.want)
			}
			if got, _ := tt.a.Open(); got != tt.open {
				t.Errorf("first open question %q, want %q", got, tt.open)
			}
		})
	}
}

func TestPage(t *testing.T) {
	answered := Answers{Service: Certificates, Recipient: ToPrivate, Certificates: []string{"residenza"}, Chosen: true, Holder: Family, Stamp: StampDue}
	for _, tt := range []struct {
		name   string
		v      View
		lineUp bool
		want   Step
	}{
		{"nothing chosen", View{Stage: StageAsking}, true, StepNeed},
		{"all answered, line up", View{Stage: StageAsking, Answers: answered}, true, StepLogin},
		{"all answered, line down", View{Stage: StageAsking, Answers: answered}, false, StepRequest},
		{"QR is shown", View{Stage: StageLogin, Answers: answered}, true, StepQR},
		{"code was right", View{Stage: StageLogin, Answers: answered, Verified: true}, false, StepIdentity},
		{"member is asked", View{Stage: StageConfirmed, Answers: answered}, true, StepMember},
		{"sheet in hand", View{Stage: StagePreview, Answers: answered}, true, StepPreview},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.v.Page(tt.lineUp); got != tt.want {
				t.Errorf("page %q, want %q", got, tt.want)
			}
			if !tt.v.Allows(tt.want, tt.lineUp) {
				t.Errorf("page %q is where the session is and is not allowed", tt.want)
			}
		})
	}
	asking := View{Stage: StageAsking, Answers: Answers{Service: Certificates, Recipient: ToPrivate}}
	if !asking.Allows(StepRecipient, true) {
		t.Error("going back to an answered question is refused")
	}
	if asking.Allows(StepStamp, true) || asking.Allows(StepQR, true) || asking.Allows(StepPreview, true) {
		t.Error("a page beyond the open question is allowed")
	}
	if printing := (View{Stage: StagePrinting, Answers: answered}); printing.Allows(StepPreview, true) || printing.Allows(StepNeed, true) {
		t.Error("while it prints another page is allowed")
	}
}

func TestPersonStaysOutOfLogs(t *testing.T) {
	p := NewPerson(citizen.NewName("Maria Antonietta"), citizen.NewName("Canarini"))
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "person", p, "pointer", &p, "inside", struct{ p Person }{p}) //nolint:sloglint // what careless code would write
	fmt.Fprintf(&b, "%v %+v %#v %v %#v", p, p, p, &p, struct{ p Person }{p})
	if strings.Contains(b.String(), "Canarini") || strings.Contains(b.String(), "Maria") {
		t.Errorf("the name leaks: %s", b.String())
	}
	if got, want := p.Masked(), "M*** A*** C***"; got != want {
		t.Errorf("masked %q, want %q", got, want)
	}
}

func TestNormalisePickupCode(t *testing.T) {
	for in, want := range map[string]string{
		"ghj-234": "GHJ234", " GHJ 234 ": "GHJ234", "GHJ0O1": "", "": "", "GHJ234'; DROP": "", "ghj·234": "GHJ234",
	} {
		if got := NormalisePickupCode(in); got != want {
			t.Errorf("NormalisePickupCode(%q) = %q, want %q", in, got, want)
		}
	}
	seen := map[string]bool{}
	for range 1000 {
		c, err := newPickupCode()
		if err != nil || NormalisePickupCode(c) != c || len(c) != PickupDigits {
			t.Fatalf("pick-up code %q, %v", c, err)
		}
		seen[c] = true
	}
	if len(seen) < 990 {
		t.Errorf("%d different codes of 1000", len(seen))
	}
}

func FuzzNormalisePickupCode(f *testing.F) {
	f.Add("ghj-234")
	f.Fuzz(func(t *testing.T, s string) {
		if got := NormalisePickupCode(s); NormalisePickupCode(got) != got {
			t.Errorf("%q is normalised to %q, which is not normal", s, got)
		}
	})
}
