package anprtest

import (
	"strings"
	"time"
)

// Status is a civil status.
type Status string

// The civil states of the citizens.
const (
	Unmarried Status = "unmarried"
	Married   Status = "married"
	Partnered Status = "partnered" // civil union
	Widowed   Status = "widowed"
)

// Citizen is an invented person. No fiscal code can be anybody's: the place of birth has a code with the letter Y, which
// no municipality has.
type Citizen struct {
	FiscalCode       string
	Name, FamilyName string
	Sex              string // F | M
	Birth            time.Time
	BirthPlace       string
	BirthProvince    string // two letters, or the country
	Nationality      string // "italiana" or another
	Street           string // with its number
	City             string // "Milano (MI)", or where abroad
	Since            time.Time
	Status           Status
	Spouse           string     // whole name, with Married, Partnered and Widowed
	StatusSince      time.Time  // of the marriage, the union, the death
	Family           []Relative // the others of the registered family
	Registered       bool       // false: has a digital identity, but the registry does not know them
	Partial          bool       // "certificabilità parziale": only residence and family can be certified
	Abroad           bool       // AIRE
	Community        string     // the convivenza they live in, "" for a family
	Contract         string     // with whom they have a contratto di convivenza
}

// Relative is another member of a citizen's family.
type Relative struct {
	FiscalCode string
	Relation   string // of the relative to the citizen: "figlia"
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// Citizens returns the invented citizens, always the same ones in the same order.
func Citizens() []Citizen {
	cs := []Citizen{
		{ // 0
			Name: "Lucia", FamilyName: "Ferrarini", Sex: "F", Birth: day(1958, 4, 12), BirthPlace: "Pavia", BirthProvince: "PV",
			Street: "Via Valvassori Peroni 12", Since: day(1987, 9, 1), Status: Unmarried,
		},
		{ // 1–4: a family
			Name: "Marco", FamilyName: "D’Amico", Sex: "M", Birth: day(1981, 1, 30), BirthPlace: "Forlì", BirthProvince: "FC",
			Street: "Via San Domenico Savio 7", Since: day(2011, 6, 15), Status: Married, Spouse: "Giulia Contini", StatusSince: day(2010, 9, 18),
		},
		{
			Name: "Giulia", FamilyName: "Contini", Sex: "F", Birth: day(1984, 11, 5), BirthPlace: "Milano", BirthProvince: "MI",
			Street: "Via San Domenico Savio 7", Since: day(2011, 6, 15), Status: Married, Spouse: "Marco D’Amico", StatusSince: day(2010, 9, 18),
		},
		{
			Name: "Sofia", FamilyName: "D’Amico", Sex: "F", Birth: day(2013, 2, 20), BirthPlace: "Milano", BirthProvince: "MI",
			Street: "Via San Domenico Savio 7", Since: day(2013, 2, 20), Status: Unmarried,
		},
		{
			Name: "Nicolò", FamilyName: "D’Amico", Sex: "M", Birth: day(2018, 7, 9), BirthPlace: "Milano", BirthProvince: "MI",
			Street: "Via San Domenico Savio 7", Since: day(2018, 7, 9), Status: Unmarried,
		},
		{ // 5
			Name: "Ștefania", FamilyName: "Čolić", Sex: "F", Birth: day(1992, 8, 17), BirthPlace: "Rijeka", BirthProvince: "Croazia",
			Nationality: "croata", Street: "Via Quarenghi 21", Since: day(2019, 3, 4), Status: Unmarried,
		},
		{ // 6
			Name: "Pietro", FamilyName: "Dell’Acqua", Sex: "M", Birth: day(1975, 5, 23), BirthPlace: "Milano", BirthProvince: "MI",
			Street: "12, rue des Tables-Claudiennes", City: "69001 Lyon (Francia)", Since: day(2016, 10, 1), Status: Unmarried, Abroad: true,
		},
		{ // 7
			Name: "Teresa", FamilyName: "Esposti", Sex: "F", Birth: day(1941, 12, 3), BirthPlace: "Napoli", BirthProvince: "NA",
			Street: "Via Don Orione 19", Since: day(1966, 5, 2), Status: Widowed, Spouse: "Aldo Rivolta", StatusSince: day(2014, 1, 8),
		},
		{ // 8
			Name: "Niccolò", FamilyName: "Dalla Libertà", Sex: "M", Birth: day(1969, 6, 2), BirthPlace: "Cantù", BirthProvince: "CO",
			Street: "Via Albenga 2", Since: day(2001, 2, 12), Status: Unmarried, Partial: true,
		},
		{ // 9, 10: a civil union
			Name: "Elena", FamilyName: "Riccomini", Sex: "F", Birth: day(1979, 3, 14), BirthPlace: "Lucca", BirthProvince: "LU",
			Street: "Viale Tibaldi 41", Since: day(2015, 4, 1), Status: Partnered, Spouse: "Chiara Moroni", StatusSince: day(2017, 5, 27),
		},
		{
			Name: "Chiara", FamilyName: "Moroni", Sex: "F", Birth: day(1982, 10, 29), BirthPlace: "Monza", BirthProvince: "MB",
			Street: "Viale Tibaldi 41", Since: day(2015, 4, 1), Status: Partnered, Spouse: "Elena Riccomini", StatusSince: day(2017, 5, 27),
		},
		{ // 11
			Name: "Agnese", FamilyName: "Villani", Sex: "F", Birth: day(1950, 9, 8), BirthPlace: "Bergamo", BirthProvince: "BG",
			Street: "Via San Paolino 18", Since: day(1998, 10, 10), Status: Unmarried, Community: "Comunità religiosa San Paolino",
		},
		{ // 12, 13: a contract of cohabitation
			Name: "Paolo", FamilyName: "Grecchi", Sex: "M", Birth: day(1988, 2, 11), BirthPlace: "Lecco", BirthProvince: "LC",
			Street: "Via Oglio 18", Since: day(2020, 1, 20), Status: Unmarried, Contract: "Irene Fontanesi",
		},
		{
			Name: "Irene", FamilyName: "Fontanesi", Sex: "F", Birth: day(1990, 7, 1), BirthPlace: "Reggio nell’Emilia", BirthProvince: "RE",
			Street: "Via Oglio 18", Since: day(2020, 1, 20), Status: Unmarried, Contract: "Paolo Grecchi",
		},
		{ // 14: a digital identity and nothing else
			Name: "Karim", FamilyName: "El Haddadi", Sex: "M", Birth: day(1995, 5, 19), BirthPlace: "Lugano", BirthProvince: "Svizzera",
			Nationality: "svizzera", Street: "Via Passerini 5", Since: day(2026, 9, 1), Status: Unmarried,
		},
	}
	for i := range cs {
		c := &cs[i]
		if c.City == "" {
			c.City = "Milano (MI)"
		}
		if c.Nationality == "" {
			c.Nationality = "italiana"
		}
		c.Registered = c.FamilyName != "El Haddadi"
		c.FiscalCode = fiscalCode(c.FamilyName, c.Name, c.Birth, c.Sex, "Y"+string([]byte{'0' + byte(i/100), '0' + byte(i/10%10), '0' + byte(i%10)}))
	}
	for _, l := range []struct {
		a, b   int
		ab, ba string
	}{
		{1, 2, "moglie", "marito"},
		{1, 3, "figlia", "padre"},
		{1, 4, "figlio", "padre"},
		{2, 3, "figlia", "madre"},
		{2, 4, "figlio", "madre"},
		{3, 4, "fratello", "sorella"},
		{9, 10, "unita civilmente", "unita civilmente"},
		{12, 13, "convivente", "convivente"},
	} {
		cs[l.a].Family = append(cs[l.a].Family, Relative{cs[l.b].FiscalCode, l.ab})
		cs[l.b].Family = append(cs[l.b].Family, Relative{cs[l.a].FiscalCode, l.ba})
	}
	return cs
}

// fiscalCode makes a codice fiscale (D.M. 23 December 1976) for somebody born in the place with the given code.
func fiscalCode(familyName, name string, birth time.Time, sex, place string) string {
	cons, vow := letters(familyName)
	code := (cons + vow + "XXX")[:3]
	cons, vow = letters(name)
	if len(cons) > 3 {
		cons = cons[:1] + cons[2:] // of four consonants or more the second one is left out
	}
	code += (cons + vow + "XXX")[:3]
	d := birth.Day()
	if sex == "F" {
		d += 40
	}
	y := birth.Year() % 100
	code += string([]byte{
		'0' + byte(y/10), '0' + byte(y%10), "ABCDEHLMPRST"[birth.Month()-1], '0' + byte(d/10), '0' + byte(d%10),
	}) + place
	return code + string(checkLetter(code))
}

// letters splits a name into its consonants and its vowels, in upper case and without their accents.
func letters(name string) (consonants, vowels string) {
	plain := strings.NewReplacer("À", "A", "Ì", "I", "Ò", "O", "Ù", "U", "È", "E", "É", "E", "Č", "C", "Ć", "C", "Ș", "S")
	for _, r := range plain.Replace(strings.ToUpper(name)) {
		switch {
		case strings.ContainsRune("AEIOU", r):
			vowels += string(r)
		case r >= 'A' && r <= 'Z':
			consonants += string(r)
		}
	}
	return consonants, vowels
}

// checkLetter is the last letter of a code whose first fifteen characters are given.
func checkLetter(code string) byte {
	odd := [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}
	sum := 0
	for i := range 15 {
		v := int(code[i] - '0')
		if code[i] >= 'A' {
			v = int(code[i] - 'A')
		}
		if i%2 == 0 { // the first character is the first odd one
			v = odd[v]
		}
		sum += v
	}
	return 'A' + byte(sum%26)
}
