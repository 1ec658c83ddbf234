package paper

import "time"

// DeclarationForm is what a self-declaration says (art. 46 D.P.R. 445/2000). What is empty is a line to be filled in
// by hand; the zero form with facts is the blank form. Without any fact all of them are printed, to be ticked by hand.
type DeclarationForm struct {
	Person    Person
	Residence *Residence // declare the residence; nil: not declared
	Civil     *Civil     // declare the civil status; nil: not declared
	HasFamily bool       // declare the composition of the family
	Family    []Relative // at most MaxRelatives, the declarer is not among them; none and a named Person: lives alone
}

// NoFacts reports whether no fact was chosen.
func (f DeclarationForm) NoFacts() bool { return f.Residence == nil && f.Civil == nil && !f.HasFamily }

// Person is who declares.
type Person struct {
	Name, FamilyName          string
	BirthPlace, BirthProvince string // province: two letters, or the country
	BirthDate                 string // dd/mm/yyyy, as it was typed
	Place, Province           string // where the person lives
	Street, Number            string
	FiscalCode                string // optional
}

// Residence is the declared residence: Person's address, and since when.
type Residence struct {
	Since string // dd/mm/yyyy, "" when unknown
}

// CivilStatus is a civil status.
type CivilStatus string

// The civil statuses that can be declared (art. 46 letter e; L. 76/2016).
const (
	Free      CivilStatus = "free"      // celibe, nubile o di stato libero
	Married   CivilStatus = "married"   //
	Partnered CivilStatus = "partnered" // unito civilmente
	Widowed   CivilStatus = "widowed"   //
)

// Civil is the declared civil status; a zero Status is chosen by hand.
type Civil struct {
	Status CivilStatus
	With   string // name of the husband, wife or partner; not with Free
}

// MaxRelatives is how many members of the family a form has room for.
const MaxRelatives = 10

// Relative is one member of the family.
type Relative struct {
	Name     string // family name and name
	Birth    string // place and date
	Relation string
}

// SlipForm is the slip for a request that was left while the line was down.
type SlipForm struct {
	Code         string // pick-up code, six characters
	Branch       string
	Left         time.Time // printed in its own location: hand in the branch's time
	Expires      time.Time // the same; zero: not printed
	Certificates []string  // official names, at most 10
	Language     string    // it, en: help beside the Italian text
}
