package box

import (
	"io"
	"time"
)

// Options are what a program gives to the box's commands.
type Options struct {
	Name           string           // of the program, for messages; "": appliance
	Now            func() time.Time // nil: the machine's clock
	Stdin          io.Reader        // of the hidden command that draws pages; nil: the process's
	Stdout, Stderr io.Writer        // nil: the process's
}
