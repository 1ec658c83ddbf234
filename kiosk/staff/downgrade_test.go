package staff

import (
	"testing"

	"sportello.example/kiosk/locale"
)

func TestThatAKnownKeyIsGoneIsSaid(t *testing.T) {
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	p := &page{lang: texts.Language("en")}
	v := p.candidate(Candidate{UUID: uuid, URI: "ipp://192.0.2.7/ipp/print", Source: "dnssd", Known: true, OldKeys: []string{"ab"}, Refused: "plain"})
	if !v.Changed || p.err != nil {
		t.Errorf("a printer in use with a key answers in the clear, and it looks like any: %+v, %v", v, p.err)
	}
}
