package kiosk

import "slices"

// Page returns the page a session belongs on now.
func (v View) Page(lineUp bool) Step {
	switch v.Stage {
	case StageLogin:
		if v.Verified {
			return StepIdentity
		}
		return StepQR
	case StageConfirmed:
		if step, open := v.Answers.Open(); open {
			return step // an answer was changed and leads to a new question
		}
		if v.Answers.Holder == Family && v.Answers.Member == "" {
			return StepMember
		}
		return StepReview
	case StagePreparing:
		return StepPreparing
	case StagePreview:
		return StepPreview
	case StagePrinting:
		return StepPrinting
	case StageTake:
		return StepTake
	case StageProblem:
		return StepProblem
	case StageGoodbye:
		return StepGoodbye
	default:
		if step, open := v.Answers.Open(); open {
			return step
		}
		switch {
		case v.Answers.Service == SelfDeclaration:
			return StepReview
		case v.Answers.Service == Certificates && !lineUp:
			return StepRequest
		}
		return StepLogin
	}
}

// Allows says whether a page may be shown now: the page the session belongs on, any question that was answered before
// it (so that "back" works and keeps the answers), and what stands beside it.
func (v View) Allows(step Step, lineUp bool) bool {
	here := v.Page(lineUp)
	if step == here {
		return true
	}
	switch v.Stage {
	case StageAsking, StageConfirmed:
		qs := v.Answers.Questions()
		if i := slices.Index(qs, step); i >= 0 {
			open, some := v.Answers.Open()
			return !some || i <= slices.Index(qs, open)
		}
		if _, open := v.Answers.Open(); open {
			return false
		}
		switch step {
		case StepLogin:
			return v.Stage == StageAsking && v.Answers.Service != SelfDeclaration
		case StepRequest:
			return v.Stage == StageAsking && v.Answers.Service == Certificates
		case StepMember:
			return v.Stage == StageConfirmed && v.Answers.Holder == Family
		}
		return false
	case StageLogin:
		return !v.Verified && (step == StepCode || step == StepLogin)
	default:
		return false
	}
}

// Back returns the page that "back" leads to from step; "" where there is no way back.
func (v View) Back(step Step) Step {
	switch step {
	case StepQR:
		return StepLogin
	case StepCode:
		return StepQR
	case StepReview, StepMember, StepLogin, StepRequest:
		if step == StepReview && v.Stage == StageConfirmed && v.Answers.Holder == Family {
			return StepMember
		}
		qs := v.Answers.Questions()
		return qs[len(qs)-1]
	case StepIdentity, StepPreparing, StepPreview, StepPrinting, StepTake, StepProblem, StepGoodbye:
		return ""
	default:
		return v.Answers.Before(step)
	}
}
