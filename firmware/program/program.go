// Package program is what the programs of a release have in common, so that who knows one knows them all: errors that
// say what to do, exit codes, one strict configuration file, where data goes, how the log is written.
//
// Exit codes are 0 done, 1 failed, 2 wrong usage; messages are "NAME: error: …", then "NAME: hint: …".
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// UsageError is a mistake in how the program was called or configured, with what to do about it ("" when that is plain).
type UsageError struct {
	Err  error
	Hint string
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// HintError is a failure about which something can be done.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *HintError) Unwrap() error { return e.Err }

// Main runs a program's commands with args and returns the exit code. The context of the commands ends with SIGINT and
// SIGTERM.
func Main(name string, args []string, stderr io.Writer, cmd *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd.SetArgs(args)
	return Report(stderr, name, cmd.ExecuteContext(ctx))
}

// Report says an error to a person and returns the exit code.
func Report(w io.Writer, name string, err error) int {
	if err == nil {
		return 0
	}
	code, hint := 1, ""
	var usage *UsageError
	var failed *HintError
	switch {
	case errors.As(err, &usage):
		code, hint = 2, usage.Hint
	case errors.As(err, &failed):
		hint = failed.Hint
	}
	_, _ = fmt.Fprintf(w, "%s: error: %v\n", name, err)
	if hint != "" {
		_, _ = fmt.Fprintf(w, "%s: hint: %s\n", name, hint)
	}
	return code
}

// NoArgs refuses arguments, for cobra.Command.Args; of a command that is misspelled it says the nearest one.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := fmt.Sprintf("“%s -h” lists the commands", cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean “%s %s”?", cmd.CommandPath(), strings.Join(near, "”, “"))
	}
	return &UsageError{Err: fmt.Errorf("unknown command %q", args[0]), Hint: hint}
}

// FlagError makes a UsageError of what is wrong with a flag, for cobra.Command.SetFlagErrorFunc.
func FlagError(cmd *cobra.Command, err error) error {
	return &UsageError{Err: err, Hint: fmt.Sprintf("“%s -h” lists the flags", cmd.CommandPath())}
}

// Logger returns a logger that writes text, or JSON when format is "json".
func Logger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

const maxConfig = 1 << 20 // bytes

// ReadConfig reads a TOML file into a configuration. A field it does not know is an error that says where. Errors are
// *UsageError; hint says where the fields are explained.
func ReadConfig(path string, into any, hint string) error {
	st, err := os.Stat(path)
	if err != nil {
		return &UsageError{Err: err, Hint: "name an existing file with --config, or leave --config out"}
	}
	if st.Size() > maxConfig {
		return &UsageError{Err: fmt.Errorf("%s: larger than %d bytes", path, maxConfig)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return &UsageError{Err: err}
	}
	if err := ParseConfig(b, into); err != nil {
		return &UsageError{Err: fmt.Errorf("%s:%w", path, err), Hint: hint}
	}
	return nil
}

// ParseConfig is ReadConfig for what has been read already; its errors begin with the line.
func ParseConfig(b []byte, into any) error {
	err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(into)
	var strict *toml.StrictMissingError
	var at *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, _ := strict.Errors[0].Position()
		return fmt.Errorf("%d: no field is called %q", line, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &at):
		line, _ := at.Position()
		return fmt.Errorf("%d: %w", line, err)
	case err != nil:
		return fmt.Errorf(" %w", err)
	}
	return nil
}

// StateDir is where a program keeps its data: the folder systemd gives it, else one of the user with that name.
func StateDir(name string) (string, error) {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "sportello", name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &UsageError{Err: err, Hint: "name a folder with --data"}
	}
	return filepath.Join(home, ".local", "state", "sportello", name), nil
}
