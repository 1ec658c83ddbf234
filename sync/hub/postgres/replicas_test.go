package postgres_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/sync/crossdevice"
	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/postgres/pgtest"
	"sportello.example/sync/hub/spid"
	"sportello.example/sync/hub/spid/spidtest"
	"sportello.example/sync/uplink"
	"sportello.example/sync/wire"
)

// replica is one of the hubs beside a database, a process of its own.
type replica struct {
	config, public, box string // file; addresses
	cmd                 *exec.Cmd
	log                 bytes.Buffer
}

// replicas starts n hubs on one database and one folder of keys, behind one public address that hands each request to
// another of them.
func replicas(t *testing.T, dsn string, n int, more string) (hubs []*replica, public string) {
	t.Helper()
	dir := t.TempDir()
	var turn atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := hubs[int(turn.Add(1))%len(hubs)]
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: to.public})
			p.Out.Host = p.In.Host
		}}).ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	for i := range n {
		h := &replica{config: filepath.Join(dir, fmt.Sprintf("hub%d.toml", i)), public: freeAddress(t), box: freeAddress(t)}
		text := fmt.Sprintf("public_address = %q\npublic_url = %q\nbox_address = %q\ndata = %q\ndatabase = %q\n%s", h.public, srv.URL, h.box, filepath.Join(dir, "data"), dsn, more)
		if err := os.WriteFile(h.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hubs = append(hubs, h)
	}
	for _, h := range hubs { // all at once: they make keys and schema together
		h.start(t)
	}
	for _, h := range hubs {
		h.wait(t)
	}
	t.Cleanup(func() {
		for _, h := range hubs {
			h.kill()
		}
	})
	return hubs, srv.URL
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// run makes a command of the hub's program.
func (h *replica) run(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], append(args, "--config", h.config)...)
	cmd.Env = append(os.Environ(), beHub+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (h *replica) start(t *testing.T) {
	t.Helper()
	h.cmd = h.run(t)
	h.cmd.Stderr = &h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (h *replica) wait(t *testing.T) {
	t.Helper()
	for i, limit := 1, time.Now().Add(30*time.Second); ; i++ {
		time.Sleep(20 * time.Millisecond)
		if i%50 == 0 && h.cmd.Process.Signal(syscall.Signal(0)) == nil && ended(h.cmd.Process.Pid) {
			h.kill()
			h.start(t) // somebody else had its address for a moment
		}
		res, err := http.Get("http://" + h.public + "/healthz")
		if err == nil {
			_ = res.Body.Close()
			return
		}
		if time.Now().After(limit) {
			h.kill()
			t.Fatalf("hub does not come up: %v\n%s", err, h.log.String())
		}
	}
}

// ended reports whether a child has ended that nobody has waited for.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// kill ends a hub without a word.
func (h *replica) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

// simBox is a box that has enrolled, and its chain of events.
type simBox struct {
	*identity.Identity
	identity.Enrolment
	id     ingest.ChainID
	events [][]byte
	hashes []envelope.Hash // after each number; [0] before the first
}

func enrolled(t *testing.T, h *replica, branch string, events int) *simBox {
	t.Helper()
	out, err := h.run(t, "box", "add", "--branch", branch, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Token, CA string }
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := enroll.ParsePin(pem)
	if err != nil {
		t.Fatal(err)
	}
	b := &simBox{}
	if b.Identity, err = identity.Create(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if err := (&enroll.Client{Hub: "https://" + h.box, Now: time.Now}).Enrol(t.Context(), b.Identity, made.Token, pin); err != nil {
		t.Fatal(err)
	}
	if b.Enrolment, err = b.Identity.Enrolment(); err != nil {
		t.Fatal(err)
	}
	b.id = ingest.ChainID{Box: b.Box, Chain: envelope.Chain{Epoch: envelope.NewEpoch(), Stream: envelope.Session}}
	b.hashes = []envelope.Hash{envelope.Genesis(b.id.Chain)}
	for seq := range uint64(events) {
		e, err := envelope.Envelope{
			Box: b.Box, Chain: b.id.Chain, Seq: seq + 1, Kind: string(event.LineUp), Schema: event.SchemaBody, Body: []byte("{}"),
			At: envelope.Stamp{Wall: time.Now(), Boot: 1, Mono: time.Duration(seq) * time.Second, Quality: envelope.Synced},
		}.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		b.events, b.hashes = append(b.events, e), append(b.hashes, b.hashes[seq].Next(e))
	}
	return b
}

func (b *simBox) client(t *testing.T, h *replica) *uplink.Client {
	t.Helper()
	c, err := uplink.New("https://"+h.box, b.Identity, uplink.Options{Now: time.Now, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// deliver delivers all events, each batch to whichever hub luck says, and believes only what a hub has signed.
func (b *simBox) deliver(t *testing.T, hubs []*replica, luck *rand.Rand) {
	var clients []*uplink.Client
	for _, h := range hubs {
		clients = append(clients, b.client(t, h))
	}
	at := 0
	for limit := time.Now().Add(2 * time.Minute); at < len(b.events) && !t.Failed(); {
		if time.Now().After(limit) {
			t.Errorf("box %d has delivered %d of %d events", b.Box, at, len(b.events))
			return
		}
		to := min(at+1+luck.IntN(20), len(b.events))
		run := envelope.Run{Chain: b.id.Chain, First: uint64(at + 1), Prev: b.hashes[at], Head: b.hashes[to]}
		for _, e := range b.events[at:to] {
			run.Entries = append(run.Entries, envelope.Entry{Encoded: e})
		}
		r, err := clients[luck.IntN(len(clients))].Deliver(t.Context(), envelope.Batch{Box: b.Box, Runs: []envelope.Run{run}})
		if err != nil || len(r.Acks) != 1 {
			time.Sleep(10 * time.Millisecond) // that hub was killed
			continue
		}
		ack := r.Acks[0]
		if err := ack.Verify(b.Box, []ed25519.PublicKey{b.HubTokenKey}); err != nil || ack.Seq > uint64(len(b.events)) || ack.Head != b.hashes[ack.Seq] || ack.Fork {
			t.Errorf("box %d: %+v, %v", b.Box, ack, err)
		}
		at = int(ack.Seq)
		time.Sleep(time.Duration(luck.IntN(30)) * time.Millisecond)
	}
}

func TestHubsAreKilled(t *testing.T) {
	const boxes, events, kills = 3, 1500, 10
	dsn := pgtest.Start(t).New(t)
	hubs, _ := replicas(t, dsn, 2, "")
	var all []*simBox
	for i := range boxes {
		all = append(all, enrolled(t, hubs[i%2], "Biblioteca", events))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var wg sync.WaitGroup
	for i, b := range all {
		wg.Go(func() { b.deliver(t, hubs, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	luck := rand.New(rand.NewPCG(seed, 99))
	for range kills {
		time.Sleep(time.Duration(100+luck.IntN(400)) * time.Millisecond)
		h := hubs[luck.IntN(len(hubs))]
		h.kill()
		time.Sleep(time.Duration(luck.IntN(200)) * time.Millisecond)
		h.start(t)
		h.wait(t)
	}
	wg.Wait()
	s := open(t, dsn)
	for _, b := range all {
		whole(t, s, b.id, events)
		if got := held(t, s, b.id); got.Seq != events || got.Head != b.hashes[events] {
			t.Errorf("box %d: number %d, want %d", b.Box, got.Seq, events)
		}
	}
	as, err := s.Alarms(t.Context(), true)
	if err != nil || len(as) != 0 {
		t.Errorf("alarms: %+v, %v", as, err)
	}
}

func TestHubWithOtherKeys(t *testing.T) {
	dsn := pgtest.Start(t).New(t)
	hubs, _ := replicas(t, dsn, 1, "")
	other := &replica{config: filepath.Join(t.TempDir(), "other.toml")}
	text := fmt.Sprintf("public_address = %q\nbox_address = %q\ndata = %q\ndatabase = %q\n", freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "data"), dsn)
	if err := os.WriteFile(other.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := other.run(t)
	context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "other keys") || !strings.Contains(string(out), "copy the folders") {
		t.Errorf("a hub with other keys: %v: %s", err, out)
	}
	hubs[0].kill()
	hubs[0].start(t)
	hubs[0].wait(t)
}

func TestLoginAtTwoHubs(t *testing.T) {
	const maria = "RSSMRA80A01Y100Z"
	idp, err := spidtest.New(spidtest.Config{Addr: "127.0.0.1:0", Now: time.Now, Citizens: []spidtest.Citizen{{FiscalCode: maria, Name: "Maria", FamilyName: "Rossi"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- idp.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c := pgtest.Start(t)
	dsn := c.New(t)
	hubs, public := replicas(t, dsn, 2, fmt.Sprintf("[spid]\nidp_metadata = [%q]\n", idp.MetadataURL()))
	idp.Trust(public + spid.PathMetadata)
	b := enrolled(t, hubs[0], "Biblioteca Harar", 0)
	kiosk := crossdevice.NewBox(crossdevice.BoxConfig{Number: b.Box, Epoch: b.LoginEpoch, Keys: crossdevice.Keys{QR: b.KeyQR, Code: b.KeyCode}, Now: time.Now})
	for round := range 2 {
		c, encoded, err := kiosk.New(1)
		if err != nil {
			t.Fatal(err)
		}
		// The box asks one hub; the phone's requests go to both in turn.
		result := make(chan wire.Login, 1)
		client := b.client(t, hubs[round])
		go func() {
			l, err := client.Login(ctx, c.NonceHex(), 25*time.Second)
			if err != nil {
				t.Error(err)
			}
			result <- l
		}()
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		page, err := spidtest.Login(t.Context(), &http.Client{Jar: jar, Timeout: 20 * time.Second}, crossdevice.URL(public, encoded), maria)
		if err != nil {
			t.Fatalf("%v\n%s", err, page)
		}
		finished := time.Now()
		code, err := spidtest.Code(page)
		if err != nil {
			t.Fatalf("%v\n%s", err, page)
		}
		_, typed, err := kiosk.Enter(1, code)
		if err != nil {
			t.Fatal(err)
		}
		l := <-result
		if took := time.Since(finished); took > 2*time.Second {
			t.Errorf("the box heard of it after %v", took)
		}
		tok, err := crossdevice.OpenToken(l.Token, b.HubTokenKey, b.TokenKey(), typed, time.Now())
		if err != nil || tok.FiscalCode.Reveal() != maria {
			t.Errorf("state %v, token: %v", l.State, err)
		}
	}
	if dump := c.SQL(t, "t1", "SELECT encode(value, 'escape'), encode(secret, 'escape') FROM moment"); dump == "" || strings.Contains(dump, maria) || strings.Contains(dump, "Rossi") {
		t.Errorf("the database says %q", dump)
	}
}
