package kiosk

import (
	"slices"

	"sportello.example/kiosk/paper"
)

// declarationForm returns the sheet the answers ask for: what was typed, or with Blank the same facts as empty lines.
func declarationForm(a Answers) paper.DeclarationForm {
	f := paper.DeclarationForm{}
	if a.Fill == Typed {
		f = cloneForm(a.Form)
	}
	f.HasFamily = slices.Contains(a.Facts, FactFamily)
	if !f.HasFamily {
		f.Family = nil
	}
	switch {
	case !slices.Contains(a.Facts, FactResidence):
		f.Residence = nil
	case f.Residence == nil:
		f.Residence = &paper.Residence{}
	}
	switch {
	case !slices.Contains(a.Facts, FactCivil):
		f.Civil = nil
	case f.Civil == nil:
		f.Civil = &paper.Civil{}
	}
	return f
}
