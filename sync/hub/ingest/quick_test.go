package ingest_test

import (
	"encoding/json"
	"testing"

	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
)

// FuzzQuickBody checks that what is read quickly means the same to encoding/json.
func FuzzQuickBody(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"detail":{}}`, `{"session":"a","kiosk":1,"detail":{"mode":"self","certificates":["x","y"],"pages":3,"milliseconds":999999999}}`,
		`{"session":"a","session":"b"}`, `{"detail":{"pages":1},"detail":{"mode":"self"}}`, `{"kiosk":01}`, `{"kiosk":-1}`, `{"kiosk":1e3}`,
		`{"session":"\u0061"}`, `{"Session":"a"}`, `{"session":null}`, `{"session":"a",}`, `{,}`, `{"kiosk":1}x`, `[]`, `{"detail":{"certificates":[]}}`,
		`{"detail":{"certificates":["a",]}}`, `{"detail":{"milliseconds":9999999999}}`, ``, `{"session":"a`, "{\"session\":\"\x01\"}", `{"session":"è"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := ingest.QuickBody(b)
		if !ok {
			return
		}
		var want event.Body
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if got.Session != want.Session || got.Kiosk != want.Kiosk || got.Detail.Mode != want.Detail.Mode || got.Detail.Pages != want.Detail.Pages {
			t.Errorf("%q: got %+v, want %+v", b, got, want)
		}
	})
}

// TestQuickBody checks that what boxes write of a visit is read quickly.
func TestQuickBody(t *testing.T) {
	b, err := json.Marshal(event.Body{Session: "8a7f0c5e-0f4b-4c49-9a55-1f1d2f9b1c11", Kiosk: 3, Detail: event.Detail{
		Mode: "assisted", Language: "it", Step: "stamp", Service: "certificate", Recipient: "public", Certificates: []string{"residenza", "nascita"},
		Holder: "self", Stamp: "exempt", Exemption: 12, Outcome: "printed", Reason: "none", Pages: 2, Count: 7, Milliseconds: 90_000,
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, ok := ingest.QuickBody(b)
	if !ok || got.Session != "8a7f0c5e-0f4b-4c49-9a55-1f1d2f9b1c11" || got.Kiosk != 3 || got.Detail.Mode != "assisted" || got.Detail.Pages != 2 {
		t.Errorf("got %+v, %t of %s", got, ok, b)
	}
}
