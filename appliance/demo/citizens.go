package main

import (
	"fmt"
	"strings"

	"sportello.example/sync/hub/anpr/anprtest"
)

// citizens returns everybody one can be, with what is special of each.
func citizens() []person {
	all := anprtest.Citizens()
	byCode := map[string]anprtest.Citizen{}
	for _, c := range all {
		byCode[c.FiscalCode] = c
	}
	var out []person
	for _, c := range all {
		out = append(out, person{Name: c.Name + " " + c.FamilyName, FiscalCode: c.FiscalCode, Note: special(c, byCode)})
	}
	return out
}

// special says in a few words what there is to see with a citizen.
func special(c anprtest.Citizen, byCode map[string]anprtest.Citizen) string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if !c.Registered {
		return "ha SPID ma non è in ANPR: nessun documento · not in the registry"
	}
	if c.Partial {
		add("certificabilità parziale: solo residenza e famiglia · residence and family only")
	}
	if c.Abroad {
		add("vive all’estero (AIRE) · lives abroad")
	}
	if c.Community != "" {
		add("vive in convivenza · lives in a community")
	}
	if c.Contract != "" {
		add("contratto di convivenza con %s", c.Contract)
	}
	if c.Nationality != "italiana" {
		add("cittadinanza %s", c.Nationality)
	}
	switch c.Status {
	case anprtest.Widowed:
		add("stato civile: vedovanza")
	case anprtest.Partnered:
		add("unione civile con %s", c.Spouse)
	}
	var family []string
	for _, r := range c.Family {
		if m, ok := byCode[r.FiscalCode]; ok && m.Name+" "+m.FamilyName != c.Contract && m.Name+" "+m.FamilyName != c.Spouse {
			family = append(family, fmt.Sprintf("%s (%s)", m.Name, r.Relation))
		}
	}
	if c.Status == anprtest.Married {
		family = append([]string{"coniuge " + c.Spouse}, family...)
	}
	if len(family) > 0 {
		add("famiglia: %s", strings.Join(family, ", "))
	}
	return strings.Join(notes, "; ")
}
