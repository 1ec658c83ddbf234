package kiosk

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
)

//go:embed catalogue/*.json
var catalogueFiles embed.FS

// Certificate is one row of the municipality's catalogue (ANPR table 13). How many there are is data: the decree of
// 3 November 2021 lists fifteen, and the list has grown since.
type Certificate struct {
	Code  int    `json:"anpr_tab13"`
	Slug  string `json:"slug"`   // names the certificate in events, messages and translations
	Name  string `json:"nome"`   // official Italian name
	Group string `json:"-"`      // residence | family | events | citizenship: how the kiosk arranges them
	Who   string `json:"platea"` // all | residenti | aire: whom it can be issued for
}

// Exemption is one row of the list of reasons for which no stamp duty is due (ANPR table 39).
type Exemption struct {
	Code   int    `json:"id"`
	Reason string `json:"motivo"` // official Italian words
	Law    string `json:"norma"`
}

// OtherExemption is the row that needs a description in the citizen's own words: the counter takes it, a kiosk does not.
const OtherExemption = 99

// Catalogue is what the municipality issues and on what terms. It is read-only and safe for concurrent use.
type Catalogue struct {
	certificates []Certificate
	exemptions   []Exemption
	forbidden    [][2]int
}

// Groups are the sections of the catalogue, in the order in which a kiosk shows them.
var groups = []struct {
	name  string
	codes []int
}{
	{"residence", []int{8, 10, 14}},
	{"family", []int{12, 16, 13, 15}},
	{"status", []int{11, 17, 3, 18, 19}},
	{"person", []int{1, 5, 7}},
}

// LoadCatalogue reads the catalogue built into the program.
func LoadCatalogue() (*Catalogue, error) {
	var certs struct {
		Certificates []Certificate `json:"certificati"`
		Forbidden    [][2]int      `json:"contestuale_coppie_vietate"`
	}
	if err := readCatalogue("certificates", &certs); err != nil {
		return nil, err
	}
	c := &Catalogue{forbidden: certs.Forbidden}
	if err := readCatalogue("exemptions", &c.exemptions); err != nil {
		return nil, err
	}
	byCode := map[int]Certificate{}
	for _, cert := range certs.Certificates {
		byCode[cert.Code] = cert
	}
	for _, g := range groups {
		for _, code := range g.codes {
			cert, ok := byCode[code]
			if !ok {
				continue // the municipality does not issue it
			}
			cert.Group = g.name
			c.certificates = append(c.certificates, cert)
			delete(byCode, code)
		}
	}
	for _, cert := range certs.Certificates { // rows that the arrangement above has never heard of
		if _, left := byCode[cert.Code]; left {
			cert.Group = "other"
			c.certificates = append(c.certificates, cert)
		}
	}
	return c, nil
}

func readCatalogue(name string, into any) error {
	b, err := catalogueFiles.ReadFile("catalogue/" + name + ".json")
	if err != nil {
		return fmt.Errorf("catalogue: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("catalogue %s: %w", name, err)
	}
	return nil
}

// Certificates returns every certificate, group by group.
func (c *Catalogue) Certificates() []Certificate { return slices.Clone(c.certificates) }

// Groups returns the names of the groups that hold a certificate, in order.
func (c *Catalogue) Groups() []string {
	var names []string
	for _, cert := range c.certificates {
		if !slices.Contains(names, cert.Group) {
			names = append(names, cert.Group)
		}
	}
	return names
}

// Certificate returns the row with that slug.
func (c *Catalogue) Certificate(slug string) (Certificate, bool) {
	i := slices.IndexFunc(c.certificates, func(cert Certificate) bool { return cert.Slug == slug })
	if i < 0 {
		return Certificate{}, false
	}
	return c.certificates[i], true
}

// Exemptions returns the reasons a kiosk offers: all rows but OtherExemption.
func (c *Catalogue) Exemptions() []Exemption {
	return slices.DeleteFunc(slices.Clone(c.exemptions), func(e Exemption) bool { return e.Code == OtherExemption })
}

// Exemption returns the row with that code.
func (c *Catalogue) Exemption(code int) (Exemption, bool) {
	for _, e := range c.Exemptions() {
		if e.Code == code {
			return e, true
		}
	}
	return Exemption{}, false
}

// Conflict says why two certificates cannot stand on one sheet.
type Conflict struct {
	A, B   Certificate
	Reason string // same_facts: one holds what the other says, or they exclude each other · registry: residents only with abroad only
}

// Combine checks whether the certificates may be issued together (contestuale). It returns the first conflict, in the
// order of the slugs, and false; or true when there is none. An unknown slug conflicts with everything.
func (c *Catalogue) Combine(slugs []string) (Conflict, bool) {
	for i, a := range slugs {
		ca, ok := c.Certificate(a)
		if !ok {
			return Conflict{Reason: "unknown"}, false
		}
		for _, b := range slugs[i+1:] {
			cb, ok := c.Certificate(b)
			if !ok {
				return Conflict{Reason: "unknown"}, false
			}
			pair := [2]int{min(ca.Code, cb.Code), max(ca.Code, cb.Code)}
			switch {
			case slices.Contains(c.forbidden, pair):
				return Conflict{A: ca, B: cb, Reason: "same_facts"}, false
			case ca.Who == "aire" && cb.Who == "residenti", ca.Who == "residenti" && cb.Who == "aire":
				return Conflict{A: ca, B: cb, Reason: "registry"}, false
			}
		}
	}
	return Conflict{}, true
}
