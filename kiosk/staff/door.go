package staff

import "errors"

// Errors of a Door.
var (
	ErrWrong  = errors.New("wrong staff code")
	ErrLocked = errors.New("too many wrong staff codes: wait a quarter of an hour")
	ErrNoCode = errors.New("this box has no staff code yet: “appliance staff code” makes one")
)

// Door lets those in who know the branch's staff code.
type Door interface {
	// Enter is nil when the code is right; else it is one of the errors above, or says that the code cannot be read. from
	// is the network address of who typed it: wrong codes from one place must not keep the staff out in another for long.
	// It may take a second.
	Enter(from, code string) error
}
