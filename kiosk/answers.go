package kiosk

import (
	"slices"

	"sportello.example/kiosk/paper"
)

// Service is what a citizen came for.
type Service string

// The services of a kiosk.
const (
	Certificates    Service = "certificate"
	SelfDeclaration Service = "declaration" // art. 46 D.P.R. 445/2000
	Pickup          Service = "collect"     // a request that was left while the line was down
)

// Recipient is who will receive the paper.
type Recipient string

// The recipients. A public body or the manager of a public service may not accept a certificate (art. 40
// D.P.R. 445/2000): for them a self-declaration is what the law asks for.
const (
	ToPublic  Recipient = "public"
	ToUtility Recipient = "utility"
	ToPrivate Recipient = "private"
	ToAbroad  Recipient = "abroad"
	ToCourt   Recipient = "court"
)

// Recipients lists them in the order in which the kiosk asks.
func Recipients() []Recipient { return []Recipient{ToPublic, ToUtility, ToPrivate, ToAbroad, ToCourt} }

// DeclarationIsEnough says whether the recipient must take a self-declaration instead of a certificate.
func (r Recipient) DeclarationIsEnough() bool { return r == ToPublic || r == ToUtility }

// Holder is whom the certificate speaks of.
type Holder string

// The holders: oneself, or a member of one's own registered family (D.M. 3 November 2021, art. 2).
const (
	Self   Holder = "self"
	Family Holder = "family"
)

// Stamp says whether the stamp duty of EUR 16 is due.
type Stamp string

// The answers about stamp duty.
const (
	StampDue    Stamp = "due"
	StampExempt Stamp = "exempt"
)

// Mode says who works the kiosk.
type Mode string

// The modes of a session.
const (
	SelfService Mode = "self"
	Assisted    Mode = "assisted" // a facilitator stands beside the citizen
)

// Fill says how a self-declaration is filled in.
type Fill string

// The ways to fill in a self-declaration.
const (
	Typed Fill = "typed"
	Blank Fill = "blank" // by hand, on paper
)

// Step is one page of the kiosk: one question, or one thing to wait for. The names are part of the pages' addresses
// and of events.
type Step string

// The steps.
const (
	StepNeed        Step = "need"
	StepRecipient   Step = "recipient"
	StepAdvice      Step = "advice" // a self-declaration is enough, and free
	StepCertificate Step = "certificate"
	StepHolder      Step = "holder"
	StepStamp       Step = "stamp"
	StepExemption   Step = "exemption"
	StepCollect     Step = "collect" // type the pick-up code
	StepLogin       Step = "login"   // how to prove who you are
	StepQR          Step = "qr"
	StepCode        Step = "code"
	StepIdentity    Step = "identity" // is that you?
	StepMember      Step = "member"   // which member of the family
	StepReview      Step = "review"
	StepPreparing   Step = "preparing"
	StepFacts       Step = "facts" // what a self-declaration declares
	StepFill        Step = "fill"
	StepPerson      Step = "person"
	StepBirth       Step = "birth"
	StepAddress     Step = "address"
	StepSince       Step = "since"
	StepCivil       Step = "civil"
	StepRelatives   Step = "relatives"
	StepRequest     Step = "request" // leave the request, the line is down
	StepPreview     Step = "preview"
	StepPrinting    Step = "printing"
	StepTake        Step = "take"
	StepProblem     Step = "problem"
	StepGoodbye     Step = "goodbye"
)

// Answers is what a citizen has chosen. The zero value is somebody who has not answered anything.
type Answers struct {
	Service      Service
	Recipient    Recipient
	Certificates []string // slugs
	Chosen       bool     // the choice of certificates was confirmed
	Holder       Holder
	Stamp        Stamp
	Exemption    int    // code of ANPR table 39, with StampExempt
	PickupCode   string // of a request that was found at the hub
	Member       string // wire.Member.Ref, with Family
	Fill         Fill
	Facts        []Fact
	Form         paper.DeclarationForm // what was typed, with Typed
	Filled       []Step                // the pages of the form that were answered
}

// Fact is something a self-declaration can declare here.
type Fact string

// The facts of art. 46 that the kiosk offers.
const (
	FactResidence Fact = "residence"
	FactFamily    Fact = "family"
	FactCivil     Fact = "civil"
)

// AllFacts lists them in the order in which the kiosk asks.
func AllFacts() []Fact { return []Fact{FactResidence, FactFamily, FactCivil} }

// Questions returns, in order, the steps that these answers lead through before anybody has to prove who they are
// (certificates) or before the sheet can be drawn (self-declarations).
func (a Answers) Questions() []Step {
	switch a.Service {
	case Certificates:
		steps := []Step{StepNeed, StepRecipient}
		if a.Recipient.DeclarationIsEnough() {
			return append(steps, StepAdvice)
		}
		steps = append(steps, StepCertificate, StepHolder, StepStamp)
		if a.Stamp == StampExempt {
			steps = append(steps, StepExemption)
		}
		return steps
	case SelfDeclaration:
		steps := []Step{StepNeed, StepFacts, StepFill}
		if a.Fill != Typed {
			return steps
		}
		steps = append(steps, StepPerson, StepBirth, StepAddress)
		if slices.Contains(a.Facts, FactResidence) {
			steps = append(steps, StepSince)
		}
		if slices.Contains(a.Facts, FactCivil) {
			steps = append(steps, StepCivil)
		}
		if slices.Contains(a.Facts, FactFamily) {
			steps = append(steps, StepRelatives)
		}
		return steps
	case Pickup:
		return []Step{StepNeed, StepCollect}
	default:
		return []Step{StepNeed}
	}
}

// answered says whether the question of step has an answer.
func (a Answers) answered(step Step) bool {
	switch step {
	case StepNeed:
		return a.Service != ""
	case StepRecipient:
		return a.Recipient != ""
	case StepAdvice:
		return false // it leads away, never on
	case StepCertificate:
		return a.Chosen && len(a.Certificates) > 0
	case StepHolder:
		return a.Holder != ""
	case StepStamp:
		return a.Stamp != ""
	case StepExemption:
		return a.Exemption != 0
	case StepCollect:
		return a.PickupCode != ""
	case StepFacts:
		return len(a.Facts) > 0
	case StepFill:
		return a.Fill != ""
	default:
		return slices.Contains(a.Filled, step)
	}
}

// Open returns the first question without an answer, and false when all are answered.
func (a Answers) Open() (Step, bool) {
	for _, s := range a.Questions() {
		if !a.answered(s) {
			return s, true
		}
	}
	return "", false
}

// Before returns the question that comes before step on the way these answers lead; "" for the first one.
func (a Answers) Before(step Step) Step {
	qs := a.Questions()
	if i := slices.Index(qs, step); i > 0 {
		return qs[i-1]
	} else if i == 0 {
		return ""
	}
	return qs[len(qs)-1]
}
