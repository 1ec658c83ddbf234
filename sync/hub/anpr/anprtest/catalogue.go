package anprtest

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

//go:embed catalogue.json
var catalogueJSON []byte

// kind is a type of certificate (table 13 of the ANPR documentation).
type kind struct {
	Code    int    `json:"code"`
	Name    string `json:"name"`
	Slug    string `json:"slug"`
	For     string `json:"for"`     // all | residenti | aire
	Partial bool   `json:"partial"` // may be issued with "certificabilità parziale"
}

type catalogue struct {
	Certificates   []kind   `json:"certificates"`
	ForbiddenPairs [][2]int `json:"forbidden_pairs"`
	Exemptions     []struct {
		ID   int    `json:"id"`
		Rule string `json:"rule"`
	} `json:"exemptions"`
}

func readCatalogue() (catalogue, error) {
	var c catalogue
	if err := json.Unmarshal(catalogueJSON, &c); err != nil {
		return c, fmt.Errorf("catalogue: %w", err)
	}
	return c, nil
}

// errRefused means that the registry may not certify that about this person.
var errRefused = errors.New("not certifiable")

// choose returns the types asked for, or errRefused when they may not stand together on one sheet.
func (c catalogue) choose(slugs []string) ([]kind, error) {
	var ks []kind
	for _, s := range slugs {
		i := slices.IndexFunc(c.Certificates, func(k kind) bool { return k.Slug == s })
		if i < 0 {
			return nil, fmt.Errorf("unknown type: %w", errRefused)
		}
		if slices.Contains(ks, c.Certificates[i]) {
			return nil, fmt.Errorf("the same type twice: %w", errRefused)
		}
		ks = append(ks, c.Certificates[i])
	}
	for i, a := range ks {
		for _, b := range ks[i+1:] {
			if a.For == "aire" && b.For == "residenti" || a.For == "residenti" && b.For == "aire" ||
				slices.Contains(c.ForbiddenPairs, [2]int{a.Code, b.Code}) || slices.Contains(c.ForbiddenPairs, [2]int{b.Code, a.Code}) {
				return nil, fmt.Errorf("types %d and %d together: %w", a.Code, b.Code, errRefused)
			}
		}
	}
	if len(ks) == 0 {
		return nil, fmt.Errorf("no type: %w", errRefused)
	}
	return ks, nil
}

func (c catalogue) exemption(id int) (string, bool) {
	for _, e := range c.Exemptions {
		if e.ID == id {
			return e.Rule, true
		}
	}
	return "", false
}

// allows says whether k may be certified about p at the request of applicant, by the checks of the counter's service 6001.
func (k kind) allows(p Citizen, applicant string) bool {
	if p.Partial && !k.Partial || k.For == "aire" && !p.Abroad || k.For == "residenti" && p.Abroad {
		return false
	}
	switch k.Slug {
	case "matrimonio":
		return p.Status == Married
	case "cittadinanza":
		return p.Nationality == "italiana"
	case "stato_famiglia":
		return p.Community == ""
	case "stato_famiglia_stato_civile", "stato_famiglia_parentela":
		return len(p.Family) > 0
	case "residenza_convivenza":
		return p.Community != ""
	case "stato_libero":
		return p.Status == Unmarried || p.Status == Widowed
	case "unione_civile":
		return p.Status == Partnered
	case "contratto_convivenza":
		return p.Contract != "" && p.FiscalCode == applicant
	}
	return true
}
