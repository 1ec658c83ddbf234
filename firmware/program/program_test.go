package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type config struct {
	Listen string            `toml:"listen"`
	Names  []string          `toml:"names"`
	Part   struct{ N int }   `toml:"part"`
	Free   map[string]string `toml:"free"`
}

func TestReport(t *testing.T) {
	cause := errors.New("no such thing")
	for _, tt := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"done", nil, 0, ""},
		{"failed", cause, 1, "x: error: no such thing\n"},
		{"failed, with a hint", fmt.Errorf("open: %w", &HintError{cause, "look again"}), 1, "x: error: open: no such thing\nx: hint: look again\n"},
		{"wrong usage", &UsageError{cause, "read the manual"}, 2, "x: error: no such thing\nx: hint: read the manual\n"},
		{"wrong usage that is plain", &UsageError{Err: cause}, 2, "x: error: no such thing\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			if code := Report(&b, "x", tt.err); code != tt.code || b.String() != tt.want {
				t.Errorf("exit code %d, %q; want %d, %q", code, b.String(), tt.code, tt.want)
			}
		})
	}
}

func TestReadConfig(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"right", "listen = \"a\"\nnames = [\"b\"]\n[part]\nn = 1\n", ""},
		{"unknown field", "listen = \"a\"\n\n[part]\nm = 1\n", `4: no field is called "part.m"`},
		{"not TOML", "listen", "1: "},
		{"wrong type", "listen = 1\n", "1: "},
		{"too large", "# " + strings.Repeat("x", maxConfig), "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.toml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := ReadConfig(path, &config{}, "hint")
			var usage *UsageError
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want a usage error with %q", err, tt.want)
			}
		})
	}
	if err := ReadConfig(filepath.Join(t.TempDir(), "nothing"), &config{}, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestStateDir(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", "/state")
	if got, err := StateDir("box"); err != nil || got != "/state/sportello/box" {
		t.Errorf("%q, %v", got, err)
	}
	t.Setenv("STATE_DIRECTORY", "/var/lib/sportello")
	if got, err := StateDir("box"); err != nil || got != "/var/lib/sportello" {
		t.Errorf("under systemd %q, %v", got, err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("listen = \"a\"\n[part]\nn = 1\n"))
	f.Add([]byte("kiosk = 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := ParseConfig(b, &config{}); err != nil && err.Error() == "" {
			t.Errorf("%q: an error without a word", b)
		}
	})
}
