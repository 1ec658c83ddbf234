package anpr

import (
	"errors"
	"testing"
)

func FuzzDecodeFamily(f *testing.F) {
	f.Add([]byte(`{"members":[{"fiscal_code":"FRRLCU58D52Y000I","name":"Lucia","family_name":"Ferrarini","year_of_birth":1958}]}`))
	f.Add([]byte(`{"members":[{"fiscal_code":"FRRLCU58D52Y000I"},{}]}`))
	f.Add([]byte(`{"members":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ps, err := decodeFamily(b, "FRRLCU58D52Y000I")
		if err != nil && !errors.Is(err, ErrDown) {
			t.Errorf("%q: %v", b, err)
		}
		if err == nil && (len(ps) == 0 || ps[0].FiscalCode != "FRRLCU58D52Y000I") {
			t.Errorf("%q: a family without the person asked for", b)
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add(404, []byte(`{"code":"not_registered"}`))
	f.Add(500, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		if err := refusal(status, b); !errors.Is(err, ErrDown) && !errors.Is(err, ErrNotRegistered) && !errors.Is(err, ErrNotCertifiable) {
			t.Errorf("%d %q: %v", status, b, err)
		}
	})
}
