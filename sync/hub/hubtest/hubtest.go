// Package hubtest is a hub for tests that need a whole one: the real handler of boxes on a real database, in a process of
// its own if need be, with any number of boxes that have enrolled.
package hubtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite"

	"sportello.example/provisioning/admit"
	"sportello.example/provisioning/ca"
	"sportello.example/provisioning/enroll"
	"sportello.example/provisioning/identity"
	"sportello.example/provisioning/throttle"
	"sportello.example/sync/hub/anpr"
	"sportello.example/sync/hub/fleet"
	"sportello.example/sync/hub/ingest"
	"sportello.example/sync/hub/postgres"
	"sportello.example/sync/hub/sqlite"
	"sportello.example/sync/hub/stats"
	"sportello.example/sync/hub/web"
	"sportello.example/sync/seal"
	"sportello.example/sync/wire"
)

// Town is what a hub and its boxes know of each other: keys, certificates, and a database in which the boxes have
// enrolled. It lies in a directory, so that a hub can be another process.
type Town struct {
	Dir  string `json:"dir"`
	DSN  string `json:"dsn"` // of a PostgreSQL database; "": SQLite in Dir
	Sign []byte `json:"sign"`
	Seal []byte `json:"seal"`

	Boxes [][]byte `json:"boxes"` // certificates of simulated boxes, from number 1
}

const (
	hubDB    = "hub.db"
	townFile = "town.json"
)

// store is what the databases of a hub have in common.
type store interface {
	fleet.Store
	ingest.Store
	stats.Counter
	io.Closer
	Backup(ctx context.Context, file string) error
}

func (t *Town) open(ctx context.Context) (store, error) {
	if t.DSN != "" {
		return postgres.Open(ctx, t.DSN, postgres.Options{Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	}
	return sqlite.Open(ctx, filepath.Join(t.Dir, hubDB))
}

// NewTown makes keys and a database in dir, or in the PostgreSQL database at dsn, in which n boxes are enrolled.
func NewTown(ctx context.Context, dir, dsn string, n int) (*Town, error) {
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := seal.NewKey()
	if err != nil {
		return nil, err
	}
	t := &Town{Dir: dir, DSN: dsn, Sign: sign.Seed()}
	if t.Seal, err = key.Bytes(); err != nil {
		return nil, err
	}
	authority, err := t.authority()
	if err != nil {
		return nil, err
	}
	s, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	f := fleet.New(s, time.Now)
	// Simulated boxes share a key pair: nobody makes a connection with it.
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var (
		mu    sync.Mutex
		group errgroup.Group
	)
	group.SetLimit(8)
	enrol := func() error {
		b, token, err := f.Add(ctx, "Biblioteca", 2)
		if err != nil {
			return err
		}
		der, err := authority.Issue(pair.Public(), b.Number, b.Branch)
		if err != nil {
			return err
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		mu.Lock()
		for len(t.Boxes) < int(b.Number) {
			t.Boxes = append(t.Boxes, nil)
		}
		t.Boxes[b.Number-1] = der
		mu.Unlock()
		_, err = f.Use(ctx, enroll.HashToken(token), enroll.Key{ID: ca.KeyID(cert), TokenKey: make([]byte, 32)})
		return err
	}
	for range n {
		group.Go(enrol)
	}
	if err := errors.Join(group.Wait(), s.Close()); err != nil {
		return nil, err
	}
	return t, t.save()
}

func (t *Town) save() error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(t.Dir, townFile), b, 0o600)
}

// At writes the same town for a hub that runs in another directory, a copy of the town's, on another database.
func (t *Town) At(dir, dsn string) error {
	other := *t
	other.Dir, other.DSN = dir, dsn
	return other.save()
}

// LoadTown returns the town in dir.
func LoadTown(dir string) (*Town, error) {
	b, err := os.ReadFile(filepath.Join(dir, townFile))
	if err != nil {
		return nil, err
	}
	t := &Town{}
	if err := json.Unmarshal(b, t); err != nil {
		return nil, err
	}
	t.Dir = dir
	return t, nil
}

func (t *Town) authority() (*ca.CA, error) {
	return ca.LoadOrCreate(filepath.Join(t.Dir, "ca"), time.Now)
}

// SignKey returns the key with which the hub signs its words.
func (t *Town) SignKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(t.Sign) }

// Keys returns the public half of SignKey, as a relay wants it.
func (t *Town) Keys() []ed25519.PublicKey {
	pub, _ := t.SignKey().Public().(ed25519.PublicKey) // always is one
	return []ed25519.PublicKey{pub}
}

// SealKey returns the key that opens what boxes seal.
func (t *Town) SealKey() (seal.PrivateKey, error) { return seal.ParseKey(t.Seal) }

// Identity makes an identity in dir with which a real box can call the hub. The box takes the place of the simulated one
// with its number.
func (t *Town) Identity(ctx context.Context, dir string, box uint32) (*identity.Identity, error) {
	id, err := identity.Create(dir)
	if err != nil {
		return nil, err
	}
	authority, err := t.authority()
	if err != nil {
		return nil, err
	}
	csr, err := id.CSR()
	if err != nil {
		return nil, err
	}
	asked, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	s, err := t.open(ctx)
	if err != nil {
		return nil, err
	}
	f := fleet.New(s, time.Now)
	token, err := f.Token(ctx, box)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	der, err := authority.Issue(asked.PublicKey, box, "Biblioteca")
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		_, err = f.Use(ctx, enroll.HashToken(token), enroll.Key{ID: ca.KeyID(cert), TokenKey: id.TokenKey().PublicKey().Bytes()})
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	key, err := t.SealKey()
	if err != nil {
		return nil, err
	}
	return id, id.Save(identity.Enrolment{
		Box: box, Branch: "Biblioteca", Kiosks: 2, PublicURL: "https://hub.example", Certificate: der, CA: authority.Certificate().Raw,
		LoginEpoch: 1, KeyQR: make([]byte, 32), KeyCode: make([]byte, 32), HubTokenKey: t.Keys()[0], HubSealKey: key.Public(),
	})
}

// Count returns how many events of visits the hub has, and how many different ones. They must be the same.
func (t *Town) Count(ctx context.Context) (s string, err error) {
	db, table, err := t.sql()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var all, different int
	if err := db.QueryRowContext(ctx, `SELECT count(*), count(DISTINCT hash) FROM `+table+` WHERE session <> ''`).Scan(&all, &different); err != nil {
		return "", fmt.Errorf("count events: %w", err)
	}
	return fmt.Sprintf("%d %d", all, different), nil
}

// BoxHeader names a simulated box to a hub that was started for them.
const BoxHeader = "X-Simulated-Box"

// Hub is the role of a real hub: the real handler of boxes on a real database. Its args are the town's directory and
// "tls", with which boxes call as they do in a town, or "simulated": then whoever names a box in BoxHeader passes for it,
// as after a proxy that has checked its certificate, so that 10,000 boxes can share a few connections. It writes its
// address, and answers the command "count" with what Count returns, and "backup" with "safe" when a backup has been made
// (and thrown away), so that boxes may forget what it holds.
func Hub(ctx context.Context, args []string, commands <-chan string, out io.Writer) error {
	t, err := LoadTown(args[0])
	if err != nil {
		return err
	}
	s, err := t.open(ctx)
	if err != nil {
		return err
	}
	handler, err := t.handler(s)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", address(args))
	if err != nil {
		return err
	}
	scheme := "http"
	if args[1] == "tls" {
		authority, err := t.authority()
		if err != nil {
			return err
		}
		conf := authority.TLSConfig()
		conf.NextProtos = []string{"http/1.1"}
		ln, scheme = tls.NewListener(ln, conf), "https"
	} else if handler, err = t.simulated(handler); err != nil {
		return err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	fmt.Fprintf(out, "%s://%s\n", scheme, ln.Addr())
	for c := range commands {
		answer, err := t.answer(ctx, s, c)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, answer)
	}
	_ = srv.Close()
	wg.Wait()
	return s.Close()
}

// answer does what a command of Hub says and returns the answer.
func (t *Town) answer(ctx context.Context, s store, command string) (string, error) {
	switch command {
	case "count":
		return t.Count(ctx)
	case "backup":
		file := filepath.Join(t.Dir, "backup")
		if err := s.Backup(ctx, file); err != nil {
			return "", err
		}
		return "safe", os.RemoveAll(file)
	}
	return "", fmt.Errorf("command %q", command)
}

// address is where the hub listens: at a third argument, or anywhere.
func address(args []string) string {
	if len(args) > 2 {
		return args[2]
	}
	return "127.0.0.1:0"
}

// handler returns the hub's handler of boxes.
func (t *Town) handler(s store) (http.Handler, error) {
	authority, err := t.authority()
	if err != nil {
		return nil, err
	}
	key, err := t.SealKey()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	f := fleet.New(s, time.Now)
	in := &ingest.Ingest{Store: s, Ring: seal.Ring{key}, Key: t.SignKey(), Now: time.Now, Log: log}
	if t.DSN != "" {
		in.Writers = 2
	}
	w, err := web.New(web.Config{
		Log: log, Now: time.Now, PublicURL: &url.URL{Scheme: "https", Host: "hub.example"}, Municipality: "Comune di Prova", Place: time.UTC,
		Enroll: &admit.Desk{
			Boxes: f, CA: authority, Log: log, Complete: func(context.Context, *identity.Enrolment) error { return nil },
			Wrong: &throttle.Failures{Now: time.Now, Max: 10, Window: time.Minute},
		},
		Registry: noRegistry{}, Fleet: f, Ingest: in, Reports: &stats.Reports{Counter: s, Boxes: f, Now: time.Now, Place: time.UTC},
	})
	if err != nil {
		return nil, err
	}
	return w.BoxHandler(), nil
}

// simulated lets whoever names a box pass for it.
func (t *Town) simulated(next http.Handler) (http.Handler, error) {
	states := make([]*tls.ConnectionState, len(t.Boxes))
	for i, der := range t.Boxes {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		states[i] = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert}}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, err := strconv.Atoi(r.Header.Get(BoxHeader)); err == nil && n > 0 && n <= len(states) {
			r.TLS = states[n-1]
		}
		next.ServeHTTP(w, r)
	}), nil
}

// Sessions returns how many events of each visit the hub has.
func (t *Town) Sessions(ctx context.Context) (n map[string]int, err error) {
	db, table, err := t.sql()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `SELECT session, count(*) FROM `+table+` WHERE session <> '' GROUP BY session`)
	if err != nil {
		return nil, fmt.Errorf("count events: %w", err)
	}
	defer func() { _ = rows.Close() }()
	n = map[string]int{}
	for rows.Next() {
		var session string
		var count int
		if err := rows.Scan(&session, &count); err != nil {
			return nil, fmt.Errorf("count events: %w", err)
		}
		n[session] = count
	}
	return n, rows.Err()
}

// sql opens the hub's database beside the hub, and returns it with the name of the table that holds events.
func (t *Town) sql() (db *sql.DB, table string, err error) {
	if t.DSN != "" {
		db, err = sql.Open("pgx", t.DSN)
		return db, "event", err
	}
	db, err = sql.Open("sqlite", "file:"+filepath.Join(t.Dir, hubDB)+"?mode=ro")
	return db, "entry", err
}

// noRegistry is a registry that does not answer.
type noRegistry struct{}

func (noRegistry) Family(context.Context, string) ([]wire.Member, error) { return nil, anpr.ErrDown }

func (noRegistry) Certificate(context.Context, string, wire.CertificateRequest) ([]byte, error) {
	return nil, anpr.ErrDown
}

func (noRegistry) Status() (bool, time.Time) { return false, time.Time{} }
