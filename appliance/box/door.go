package box

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sportello.example/firmware/program"
	"sportello.example/kiosk/staff"
	"sportello.example/provisioning/durable"
	"sportello.example/provisioning/throttle"
)

const (
	// staffFile holds what the staff code is checked against.
	staffFile = "staff"
	// staffRounds makes one guess by who has stolen the disk cost about 0.1 s: of 10⁸ codes that is four months.
	staffRounds = 600_000
	// staffTries in staffWindow from one place, such as a kiosk at which children play, and staffTriesAll from all: of 10⁸
	// codes, who guesses from everywhere all year has a chance of one in 142.
	staffTries    = 5
	staffTriesAll = 20
	staffWindow   = 15 * time.Minute
)

// staffHash is the staff code as it is stored.
type staffHash struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"`
	Hash   []byte `json:"hash"` // PBKDF2-HMAC-SHA-256 (RFC 8018 §5.2), 32 bytes
}

// door lets those in who know the branch's staff code.
type door struct {
	dir string
	// Counted by the salt too: who makes a new code is not kept out by guesses at the old one.
	here, everywhere throttle.Failures
}

var _ staff.Door = (*door)(nil)

func newDoor(dir string, now func() time.Time) *door {
	return &door{
		dir:        dir,
		here:       throttle.Failures{Now: now, Max: staffTries, Window: staffWindow},
		everywhere: throttle.Failures{Now: now, Max: staffTriesAll, Window: staffWindow},
	}
}

// Enter checks a code (staff.Door).
func (d *door) Enter(from, code string) error {
	b, err := os.ReadFile(filepath.Join(d.dir, staffFile))
	if errors.Is(err, fs.ErrNotExist) {
		return staff.ErrNoCode
	} else if err != nil {
		return fmt.Errorf("staff code: %w", err)
	}
	var h staffHash
	if err := json.Unmarshal(b, &h); err != nil || h.Rounds < 1 || h.Rounds > 10*staffRounds {
		return fmt.Errorf("staff code: the file %s is damaged: make a new code with “appliance staff code”", staffFile)
	}
	made := string(h.Salt)
	if d.here.Blocked(made+from) || d.everywhere.Blocked(made) {
		return staff.ErrLocked
	}
	got, err := pbkdf2.Key(sha256.New, digits(code), h.Salt, h.Rounds, sha256.Size)
	if err != nil {
		return fmt.Errorf("staff code: %w", err)
	}
	if subtle.ConstantTimeCompare(got, h.Hash) != 1 {
		d.here.Add(made + from)
		d.everywhere.Add(made)
		return staff.ErrWrong
	}
	return nil
}

// digits drops what people type between digits.
func digits(code string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, code)
}

// newStaffCode makes a code of eight digits, stores what it is checked against, and returns it in two groups. A box that
// runs takes it at once. rounds are those of PBKDF2: staffRounds, but in tests.
func newStaffCode(dir string, rounds int) (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(100_000_000))
	if err != nil {
		return "", err
	}
	code := fmt.Sprintf("%08d", n)
	h := staffHash{Salt: make([]byte, 16), Rounds: rounds}
	_, _ = rand.Read(h.Salt) // never fails (crypto/rand)
	if h.Hash, err = pbkdf2.Key(sha256.New, code, h.Salt, h.Rounds, sha256.Size); err != nil {
		return "", err
	}
	b, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", &program.UsageError{Err: fmt.Errorf("data folder: %w", err), Hint: "name a folder that this user can write to with --data"}
	}
	if err := durable.Write(filepath.Join(dir, staffFile), b); err != nil {
		return "", fmt.Errorf("staff code: %w", err)
	}
	return code[:4] + " " + code[4:], nil
}

func staffCommand(o Options, load func(*cobra.Command) (Config, error)) *cobra.Command {
	cmd := &cobra.Command{Use: "staff", Short: "Who may open the staff pages", Args: program.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use: "code", Short: "Make a new code for the staff pages, and print it", Args: program.NoArgs,
		Long: "Prints a code of eight digits that opens http://<box>/staff/ from now on; the code before it opens nothing any more,\n" +
			"who is in stays in for eight hours at most. The box stores only what the code is checked against. It can run beside the box.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			code, err := newStaffCode(c.Data, staffRounds)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(o.Stdout, code)
			return err
		},
	})
	return cmd
}
