package desired

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRefuses has a box at version 5, which leaves it for none of these.
func TestRefuses(t *testing.T) {
	h := newHub(t)
	_, thief, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	sign := func(d Document, key ed25519.PrivateKey) Signed {
		d.Box = max(d.Box, boxNumber)
		if d.Issued.IsZero() {
			d.Issued, d.Expires = now, now.Add(time.Hour)
		}
		s, err := Sign(d, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	f, err := New(h.options(nil))
	if err != nil {
		t.Fatal(err)
	}
	five := Document{Box: boxNumber, Version: 5, Issued: now, Expires: now.Add(time.Hour), Notices: []Notice{{ID: "a", Text: text("cinque")}}}
	f.current.Store(f.succeed(nil, sign(five, h.key), `"5"`, five))
	changed := sign(Document{Version: 6}, h.key)
	changed.Body = bytes.Replace(changed.Body, []byte(`"version":6`), []byte(`"version":9`), 1)
	for name, tt := range map[string]struct {
		s    Signed
		want error
	}{
		"nothing":                    {Signed{}, ErrSignature},
		"signed by somebody else":    {sign(Document{Version: 6}, thief), ErrSignature},
		"changed on the way":         {changed, ErrSignature},
		"for another box":            {sign(Document{Version: 6, Box: 8}, h.key), ErrSignature},
		"no version":                 {sign(Document{}, h.key), ErrSignature},
		"older":                      {sign(Document{Version: 4}, h.key), ErrOlder},
		"the same number, other":     {sign(Document{Version: 5, Issued: now.Add(time.Hour)}, h.key), ErrOlder},
		"leave for a lower one":      {sign(Document{Version: 3, Rollback: 4}, h.key), ErrOlder},
		"for a newer program":        {sign(Document{Version: 6, MinProgram: "v1.3.0"}, h.key), ErrProgram},
		"for nobody knows whom":      {sign(Document{Version: 6, MinProgram: "tomorrow"}, h.key), ErrProgram},
		"name that leads elsewhere":  {sign(Document{Version: 6, Content: []Blob{{Name: "../x", SHA256: strings.Repeat("0", 64)}}}, h.key), ErrMalformed},
		"hash that leads elsewhere":  {sign(Document{Version: 6, Content: []Blob{{Name: "x", SHA256: "../../etc/passwd"}}}, h.key), ErrMalformed},
		"two files of one name":      {sign(Document{Version: 6, Content: []Blob{{Name: "x", SHA256: strings.Repeat("0", 64)}, {Name: "x", SHA256: strings.Repeat("1", 64)}}}, h.key), ErrMalformed},
		"a file that is too large":   {sign(Document{Version: 6, Content: []Blob{{Name: "x", SHA256: strings.Repeat("0", 64), Size: MaxBlob + 1}}}, h.key), ErrMalformed},
		"a notice that is too long":  {sign(Document{Version: 6, Notices: []Notice{{ID: "a", Text: text(strings.Repeat("x", 301))}}}, h.key), ErrMalformed},
		"more notices than are read": {sign(Document{Version: 6, Notices: make([]Notice, 51)}, h.key), ErrMalformed},
	} {
		if _, take, err := f.judge(tt.s); !errors.Is(err, tt.want) || take {
			t.Errorf("%s: got %v, %v, want %v", name, take, err, tt.want)
		}
	}
	for name, tt := range map[string]struct {
		d    Document
		take bool
	}{
		"newer":                  {Document{Version: 6}, true},
		"much newer":             {Document{Version: 60, MinProgram: "v1.2.3-rc.1"}, true},
		"past its date":          {Document{Version: 6, Issued: now.Add(-time.Hour), Expires: now.Add(-time.Minute)}, true},
		"the same":               {five, false},
		"signed anew":            {Document{Version: 5, Notices: five.Notices, Issued: now.Add(time.Hour)}, true},
		"leave to go back":       {Document{Version: 3, Rollback: 5}, true},
		"leave from a later one": {Document{Version: 3, Rollback: 9}, true},
	} {
		if _, take, err := f.judge(sign(tt.d, h.key)); err != nil || take != tt.take {
			t.Errorf("%s: got %v, %v", name, take, err)
		}
	}
}

// TestRefusedDocumentsAreNotAskedForAgain has a hub that insists.
func TestRefusedDocumentsAreNotAskedForAgain(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 2})
	o := h.options(h.serve())
	var said safeBuffer
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	f, _ := follow(t, o)
	at(t, f, 2)
	h.publish(Document{Version: 1})
	until(t, "the older one to be refused", func() bool { return strings.Contains(said.String(), "desired state refused") })
	h.mu.Lock()
	asked := len(h.tags)
	h.mu.Unlock()
	f.LineUp() // ends the pause
	until(t, "another request", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.tags) > asked })
	h.mu.Lock()
	tag := h.tags[asked]
	h.mu.Unlock()
	if !strings.HasPrefix(tag, `"2.`) || !strings.Contains(tag, `, "1.`) {
		t.Errorf("asked with %s", tag)
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
}

// TestOlderProgram has a hub that asks for a newer program: this one keeps what it has, says so once, and goes on when it
// is let in again.
func TestOlderProgram(t *testing.T) {
	h := newHub(t)
	o := h.options(h.serve())
	var said safeBuffer
	o.Log = slog.New(slog.NewTextHandler(&said, nil))
	h.publish(Document{Version: 1, Notices: []Notice{{ID: "a", Text: text("uno")}}})
	f, _ := follow(t, o)
	at(t, f, 1)
	h.publish(Document{Version: 2, MinProgram: "v1.3.0"})
	until(t, "it to be said", func() bool {
		return strings.Contains(said.String(), `asks for release \"v1.3.0\" or later, this is \"v1.2.3\"`)
	})
	f.LineUp()
	until(t, "another request", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.asked) >= 3 })
	if n := strings.Count(said.String(), "desired state refused"); n != 1 || f.Version() != 1 || len(f.Notices()) != 1 {
		t.Errorf("said %d times, at version %d with %d notices", n, f.Version(), len(f.Notices()))
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
}

// safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestGoingBack(t *testing.T) {
	h := newHub(t)
	h.hold = true
	o := h.options(h.serve())
	f, stop := follow(t, o)
	three := h.publish(Document{Version: 3})
	at(t, f, 3)
	seven := h.publish(Document{Version: 7, Notices: []Notice{{ID: "a", Text: text("sette")}}})
	at(t, f, 7)
	leave := Document{Version: 3, Rollback: 7, Notices: []Notice{{ID: "b", Text: text("indietro")}}}
	leave = h.publish(leave)
	at(t, f, 3)
	stop()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		d    Document
		take bool
		want error
	}{
		"again":                    {leave, false, nil},
		"signed anew":              {func() Document { d := leave; d.Issued = d.Issued.Add(time.Hour); return d }(), true, nil},
		"what it was before":       {three, false, ErrOlder},
		"what it came from":        {seven, false, ErrOlder},
		"the same leave, further":  {Document{Version: 2, Rollback: 7, Box: boxNumber}, false, ErrOlder},
		"another leave":            {Document{Version: 2, Rollback: 8, Box: boxNumber}, true, nil},
		"onwards":                  {Document{Version: 8, Box: boxNumber}, true, nil},
		"onwards, but not so far":  {Document{Version: 6, Box: boxNumber}, false, ErrOlder},
		"a leave from long before": {Document{Version: 1, Rollback: 3, Box: boxNumber}, false, ErrOlder},
	} {
		s, err := Sign(tt.d, h.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, take, err := f.judge(s); take != tt.take || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, %v, want %v, %v", name, take, err, tt.take, tt.want)
		}
	}
}

func TestProgramFits(t *testing.T) {
	for _, tt := range []struct {
		release, least string
		want           bool
	}{
		{"v1.2.3", "", true},
		{"devel", "v9.0.0", true},
		{"", "v9.0.0", true},
		{"v1.2.3", "v1.2.3", true},
		{"v1.2.3", "v1.2.4", false},
		{"v1.10.0", "v1.9.9", true},
		{"v1.2.3+dirty", "v1.2.3", true},
		{"v1.2.4-0.20261122090000-0123456789ab", "v1.2.3", true},
		{"v1.2.4-0.20261122090000-0123456789ab", "v1.2.4", false},
		{"v1.2.4-0.20261122090000-0123456789ab", "v1.2.4-0.20261121090000-ffffffffffff", true},
		{"v1.2.4-0.20261120090000-0123456789ab+dirty", "v1.2.4-0.20261121090000-0123456789ab", false},
		{"v1.0.0-rc.10", "v1.0.0-rc.9", true},
		{"v1.0.0-rc", "v1.0.0-rc.1", false},
		{"v1.2.3", "1.2.3", false},
		{"v1.2.3", "v2", false},
	} {
		if got := programFits(tt.release, tt.least); got != tt.want {
			t.Errorf("%s for %s: got %v", tt.release, tt.least, got)
		}
	}
}
