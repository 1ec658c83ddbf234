package desired

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func text(s string) map[string]string { return map[string]string{"it": s} }

// random returns bytes that do not compress.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1, byte(n)}).Read(b)
	return b
}

func TestFollow(t *testing.T) {
	h := newHub(t)
	prices := h.blob("prices.json", []byte("old prices"))
	h.publish(Document{Version: 1, Content: []Blob{prices}, SealKeys: [][]byte{[]byte("seal")}, Notices: []Notice{
		{ID: "a", Severity: Info, Text: text("Ciao")},
		{ID: "b", Severity: Emergency, Text: text("Uscite")},
		{ID: "c", Severity: Warning, Text: text("Domani"), From: time.Now().Add(time.Hour)},
		{ID: "d", Severity: Warning, Text: text("Ieri"), Until: time.Now().Add(-time.Hour)},
	}})
	o := h.options(h.serve())
	changes := make(chan uint64, 10)
	o.OnChange = func(d Document) error { changes <- d.Version; return nil }
	f, stop := follow(t, o)
	if d, _, _ := f.Current(); d.Version != 0 && f.Version() != 1 {
		t.Errorf("at first: %+v", d)
	}
	if v := <-changes; v != 1 {
		t.Errorf("OnChange with version %d", v)
	}
	d, since, fresh := f.Current()
	if d.Version != 1 || time.Since(since) > time.Minute || !fresh || string(f.SealKey()) != "seal" || read(t, f, "prices.json") != "old prices" {
		t.Errorf("got %+v since %v, %v", d, since, fresh)
	}
	if _, err := f.Open("other"); !errors.Is(err, ErrBlob) {
		t.Errorf("a file that there is not: %v", err)
	}
	if ns := f.Notices(); len(ns) != 2 || ns[0].ID != "b" || ns[1].ID != "a" || ns[0].Received.IsZero() {
		t.Errorf("got %+v", ns)
	}
	watch := f.Watch(t.Context())
	start := time.Now()
	second := h.blob("prices.json", []byte("new prices"))
	h.publish(Document{Version: 2, Content: []Blob{second}, Notices: []Notice{{ID: "a", Severity: Info, Text: text("Ciao")}}})
	<-watch
	at(t, f, 2)
	if took := time.Since(start); took > time.Second {
		t.Errorf("held request brings the change after %v", took)
	}
	if got := f.Notices()[0].Received; !got.Equal(since) {
		t.Errorf("a notice that was there is received %v, not %v", got, since)
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
	until(t, "files that nobody names to go", func() bool { return slices.Equal(stored(t, o), []string{second.SHA256}) })
	stop()

	again, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if d, _, _ := again.Current(); d.Version != 3 {
		t.Errorf("after a restart: %+v", d)
	}
}

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
	f, _ := follow(t, h.options(h.serve()))
	at(t, f, 2)
	h.publish(Document{Version: 1})
	until(t, "the older one to be refused", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.asked) >= 2 })
	f.LineUp() // ends the pause
	until(t, "another request", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.asked) >= 3 })
	h.mu.Lock()
	tag := h.tags[2]
	h.mu.Unlock()
	if !strings.HasPrefix(tag, `"2.`) || !strings.Contains(tag, `, "1.`) {
		t.Errorf("asked with %s", tag)
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
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

// TestKeysAreLearned changes the hub's key twice: the box has only the first from its enrolment.
func TestKeysAreLearned(t *testing.T) {
	h := newHub(t)
	o := h.options(h.serve())
	first := h.keys()
	o.Keys = func() []ed25519.PublicKey { return first }
	_, next, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	public := func(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }
	h.publish(Document{Version: 1, SignKeys: [][]byte{public(h.key), public(next)}})
	f, stop := follow(t, o)
	at(t, f, 1)
	h.key = next
	h.publish(Document{Version: 2, SignKeys: [][]byte{public(next)}})
	at(t, f, 2)
	stop()
	f, stop = follow(t, o)
	if f.Version() != 2 || len(f.SignKeys()) != 2 {
		t.Errorf("after a restart: version %d, %d keys", f.Version(), len(f.SignKeys()))
	}
	h.publish(Document{Version: 3})
	at(t, f, 3)
	stop()
}

// TestClock has a box that wakes up in 1970, and one whose document is past its date.
func TestClock(t *testing.T) {
	h := newHub(t)
	issued := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	until := issued.Add(2 * time.Hour)
	h.publish(Document{Version: 1, Issued: issued, Expires: issued.Add(24 * time.Hour), Notices: []Notice{
		{ID: "a", Severity: Info, Text: text("Ciao"), From: issued.Add(-time.Hour), Until: until},
	}})
	o := h.options(h.serve())
	clock, ok := time.Unix(100, 0), false
	o.Now, o.ClockOK = func() time.Time { return clock }, func() bool { return ok }
	f, stop := follow(t, o)
	at(t, f, 1)
	stop()
	if _, since, fresh := f.Current(); !fresh || !since.Equal(issued) {
		t.Errorf("in 1970: since %v, fresh %v", since, fresh)
	}
	if ns := f.Notices(); len(ns) != 1 || !ns[0].Received.Equal(issued) {
		t.Errorf("in 1970: %+v", ns)
	}
	clock, ok = issued.Add(48*time.Hour), true
	if d, _, fresh := f.Current(); fresh || d.Version != 1 {
		t.Errorf("past its date: fresh %v, %+v", fresh, d)
	}
	if ns := f.Notices(); len(ns) != 0 {
		t.Errorf("past their date: %+v", ns)
	}
}

func TestResume(t *testing.T) {
	h := newHub(t)
	body := random(400_000)
	b := h.blob("large.bin", body)
	h.publish(Document{Version: 1, Content: []Blob{b}})
	o := h.options(h.behindCutter(60_000))
	o.jitter = func(int64) int64 { return 0 }
	deadline := time.Now().Add(60 * time.Second)
	var last int64
	for n := 0; ; n++ { // each life of the program brings a piece
		f, stop := follow(t, o)
		until(t, "a piece", func() bool {
			st, err := os.Stat(f.blobPath(b) + part)
			return f.Version() == 1 || err == nil && st.Size() > last
		})
		done := f.Version() == 1
		stop()
		if done {
			if got := read(t, f, "large.bin"); got != string(body) {
				t.Error("the file is another one")
			}
			t.Logf("%d lives of the program", n+1)
			break
		}
		if st, err := os.Stat(f.blobPath(b) + part); err == nil {
			last = st.Size()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d bytes", last, len(body))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// What was on the way when the line was cut comes twice.
	if h.served > 8*b.Size {
		t.Errorf("%d bytes were sent for a file of %d", h.served, b.Size)
	}
}

func TestWrongBytesAreNotUsed(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, _ := follow(t, o)
	at(t, f, 1)
	h.set(func() { h.wrong = true })
	b := h.blob("a.bin", random(100_000))
	h.publish(Document{Version: 2, Content: []Blob{b}})
	until(t, "bytes to be sent and thrown away", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.served >= b.Size && !slices.Contains(stored(t, o), b.SHA256+part)
	})
	if f.Version() != 1 {
		t.Errorf("version %d is followed", f.Version())
	}
	h.set(func() { h.wrong = false })
	f.LineUp()
	at(t, f, 2)
	if len(read(t, f, "a.bin")) != 100_000 {
		t.Error("the file is not whole")
	}
}

// TestNoticesDoNotWaitForFiles has a line that is busy with a large file when an emergency is announced.
func TestNoticesDoNotWaitForFiles(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, stop := follow(t, o)
	at(t, f, 1)
	stall := make(chan struct{})
	h.set(func() { h.stall = stall })
	b := h.blob("large.bin", random(1<<20))
	h.publish(Document{Version: 2, Content: []Blob{b}})
	until(t, "half of the file", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.served > 0 })
	start := time.Now()
	h.publish(Document{Version: 3, Content: []Blob{b}, Notices: []Notice{{ID: "a", Severity: Emergency, Text: text("Uscite")}}})
	until(t, "the notice", func() bool { return len(f.Notices()) == 1 })
	if took := time.Since(start); took > time.Second || f.Version() != 1 {
		t.Errorf("after %v at version %d", took, f.Version())
	}
	until(t, "the notice on disk", func() bool {
		r, err := load(filepath.Join(o.Dir, pendingFile))
		return err == nil && bytes.Contains(r.Signed.Body, []byte("Uscite"))
	})
	stop()
	f, err := New(o) // without a line, after a restart
	if err != nil {
		t.Fatal(err)
	}
	if ns := f.Notices(); len(ns) != 1 || f.Version() != 1 {
		t.Errorf("after a restart: %+v at version %d", ns, f.Version())
	}
	close(stall)
	f, _ = follow(t, o)
	at(t, f, 3)
	if _, err := os.Stat(filepath.Join(o.Dir, pendingFile)); err == nil {
		t.Error("what was pending is still there")
	}
}

// TestFullDisk uses the kernel's own full device.
func TestFullDisk(t *testing.T) {
	h := newHub(t)
	h.publish(Document{Version: 1})
	o := h.options(h.serve())
	f, stop := follow(t, o)
	at(t, f, 1)
	stop()
	b := h.blob("a.bin", random(100_000))
	small := h.blob("b.bin", []byte("small"))
	trap := filepath.Join(o.Dir, blobDir, b.SHA256+part)
	if err := os.Symlink("/dev/full", trap); err != nil {
		t.Fatal(err)
	}
	h.publish(Document{Version: 2, Content: []Blob{small, b}})
	f, stop = follow(t, o)
	until(t, "room to be made", func() bool { return len(stored(t, o)) == 0 })
	if d, _, fresh := f.Current(); d.Version != 1 || !fresh {
		t.Errorf("with a full disk: %+v, %v", d, fresh)
	}
	f.LineUp() // there is room again: the trap is gone
	at(t, f, 2)
	stop()
}

func TestDamage(t *testing.T) {
	h := newHub(t)
	b := h.blob("a.bin", random(10_000))
	one := h.blob("one.bin", random(100))
	src := h.serve()
	begin := func(t *testing.T) Options {
		o := h.options(src)
		h.publish(Document{Version: 1, Content: []Blob{one}})
		f, stop := follow(t, o)
		at(t, f, 1)
		h.publish(Document{Version: 2, Content: []Blob{b}})
		at(t, f, 2)
		stop()
		return o
	}
	t.Run("a file", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, blobDir, b.SHA256))
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Open("a.bin"); !errors.Is(err, ErrBlob) || !slices.Equal(f.Missing(), []string{"a.bin"}) || f.Version() != 2 {
			t.Errorf("got %v, missing %q at version %d", err, f.Missing(), f.Version())
		}
		g, _ := follow(t, o)
		until(t, "the file", func() bool { return len(g.Missing()) == 0 })
		if len(read(t, g, "a.bin")) != 10_000 {
			t.Error("the file is not whole")
		}
	})
	t.Run("the state", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, stateFile))
		f, _ := follow(t, o)
		if f.Version() != 1 && f.Version() != 2 {
			t.Errorf("at version %d", f.Version())
		}
		at(t, f, 2)
	})
	t.Run("the state, without a line", func(t *testing.T) {
		o := begin(t)
		flip(t, filepath.Join(o.Dir, stateFile))
		f, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if f.Version() != 1 || len(read(t, f, "one.bin")) != 100 {
			t.Errorf("at version %d, not the previous one", f.Version())
		}
	})
	t.Run("everything", func(t *testing.T) {
		o := begin(t)
		for _, name := range []string{stateFile, previousFile, filepath.Join(blobDir, b.SHA256), filepath.Join(blobDir, one.SHA256)} {
			flip(t, filepath.Join(o.Dir, name))
		}
		f, err := New(o)
		if err != nil || f.Version() != 0 {
			t.Fatalf("at version %d, %v", f.Version(), err)
		}
		g, _ := follow(t, o)
		at(t, g, 2)
		if len(read(t, g, "a.bin")) != 10_000 {
			t.Error("the file is not whole")
		}
	})
}

func TestPortalIsNoHub(t *testing.T) {
	h := newHub(t)
	h.down = true
	o := h.options(h.serve())
	src := o.Source
	if _, _, _, err := src.State(t.Context(), "", 0); err == nil {
		t.Error("a portal's page is taken for a document")
	}
	var b bytes.Buffer
	if err := src.Blob(context.Background(), strings.Repeat("0", 64), 0, &b); err == nil || b.Len() > 0 {
		t.Errorf("a portal's page is taken for a file: %q, %v", b.String(), err)
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

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"version":1,"box":7,"notices":[{"id":"a","severity":"info","from":"2026-11-25T09:00:00Z","text":{"it":"Ciao"}}]}`))
	f.Add([]byte(`{"content":[{"name":"a.json","sha256":"` + strings.Repeat("0", 64) + `","size":1}],"seal_keys":["AAAA"],"until":"x"}`))
	f.Add([]byte(`{"issued":"-1","expires":"9999-12-31T23:59:59Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v", err)
			}
			return
		}
		for _, c := range d.Content {
			if filepath.Base(c.SHA256) != c.SHA256 || filepath.Base(c.Name) != c.Name || c.Size < 0 || c.Size > MaxBlob {
				t.Errorf("accepted %+v", c)
			}
		}
		d.Core()
		programFits("v1.2.3", d.MinProgram)
		for _, n := range d.Notices {
			n.active(time.Unix(1_800_000_000, 0))
		}
	})
}

func FuzzSigned(f *testing.F) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	keys := []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
	s, err := Sign(Document{Version: 1, Box: boxNumber}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body, s.Sig)
	f.Add([]byte("{}"), []byte("x"))
	f.Fuzz(func(t *testing.T, body, sig []byte) {
		d, err := Signed{body, sig}.Open(boxNumber, keys)
		if err == nil && !bytes.Equal(body, s.Body) {
			t.Errorf("opened what nobody signed: %+v", d)
		}
	})
}

func FuzzRecord(f *testing.F) {
	dir := f.TempDir()
	r := &record{Floor: 3, ETag: `"x"`, Posted: map[string]time.Time{"a": {}}}
	if err := r.save(filepath.Join(dir, stateFile)); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\n"))
	f.Add([]byte("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decodeRecord(b); err != nil && !errors.Is(err, errDamaged) {
			t.Errorf("got %v", err)
		}
	})
}
