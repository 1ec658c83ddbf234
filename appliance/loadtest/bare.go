package loadtest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"sportello.example/sync/wire"
)

// bareRow is what a bare hub stores of an event.
type bareRow struct {
	box  string
	seq  int64
	id   [16]byte
	kind string
	at   int64
	body []byte
}

// bareStore writes rows in one transaction; a row that is there already is left as it is.
type bareStore interface {
	put(ctx context.Context, rows []bareRow) error
	count(ctx context.Context) (int64, error)
	close() error
}

// BareHub takes in plain JSON, a line for each event, compressed with zstd, and stores it in one table. It verifies
// nothing, and one commit serves all requests that wait.
type BareHub struct {
	store bareStore
	puts  chan barePut
	wg    sync.WaitGroup // of the writers
}

type barePut struct {
	rows []bareRow
	done chan error
}

// OpenBareSQLite returns a bare hub with a database in dir.
func OpenBareSQLite(ctx context.Context, dir string) (*BareHub, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "bare.db")+rawDSN+"&_pragma=wal_autocheckpoint(4000)&_pragma=cache_size(-32000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS ev (box TEXT NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, kind TEXT NOT NULL,
		at INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (box, seq)) WITHOUT ROWID`); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("bare hub: %w", err)
	}
	ins, err := db.PrepareContext(ctx, `INSERT INTO ev (box, seq, id, kind, at, body) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (box, seq) DO NOTHING`)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("bare hub: %w", err)
	}
	return startBare(&bareSQLite{db, ins}, 1), nil
}

// OpenBarePostgres returns a bare hub that stores in a database's table ev, which it makes anew.
func OpenBarePostgres(ctx context.Context, dsn string) (*BareHub, error) {
	p, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("bare hub: %w", err)
	}
	if _, err := p.Exec(ctx, `DROP TABLE IF EXISTS ev; CREATE TABLE ev (box text NOT NULL, seq bigint NOT NULL, id uuid NOT NULL, kind text NOT NULL,
		at bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (box, seq))`); err != nil {
		p.Close()
		return nil, fmt.Errorf("bare hub: %w", err)
	}
	return startBare(&barePostgres{p}, 2), nil
}

// maxBareGroup is how many events one commit takes at most, or a few more.
const maxBareGroup = 5000

func startBare(s bareStore, writers int) *BareHub {
	h := &BareHub{store: s, puts: make(chan barePut, 4096)}
	for range writers {
		h.wg.Go(h.write)
	}
	return h
}

func (h *BareHub) write() {
	for p := range h.puts {
		waiting, rows := []barePut{p}, p.rows
	more:
		for len(rows) < maxBareGroup {
			select {
			case p, ok := <-h.puts:
				if !ok {
					break more
				}
				waiting, rows = append(waiting, p), append(rows, p.rows...)
			default:
				break more
			}
		}
		err := h.store.put(context.Background(), rows)
		for _, w := range waiting {
			w.done <- err
		}
	}
}

// ServeHTTP takes a batch of the box that the path's last part names.
func (h *BareHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		n, err := h.store.count(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, n)
		return
	}
	rows, err := readBare(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	done := make(chan error, 1)
	h.puts <- barePut{rows, done}
	if err := <-done; err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, `{"ack":%d}`, rows[len(rows)-1].seq)
}

func readBare(r *http.Request) ([]bareRow, error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, 32<<20))
	if err != nil {
		return nil, err
	}
	if b, err = wire.Unzip(b, 32<<20); err != nil {
		return nil, err
	}
	box := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	var rows []bareRow
	for line := range bytes.Lines(b) {
		var p Plain
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, err
		}
		at, err := time.Parse(time.RFC3339Nano, p.At)
		if err != nil {
			return nil, err
		}
		row := bareRow{box: box, seq: p.Seq, kind: p.Kind, at: at.UnixMilli(), body: line}
		id, err := hex.DecodeString(strings.ReplaceAll(p.ID, "-", ""))
		if err != nil || len(id) != len(row.id) {
			return nil, fmt.Errorf("event %d: ID %q is no UUID", p.Seq, p.ID)
		}
		row.id = [16]byte(id)
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, errors.New("no events")
	}
	return rows, nil
}

// Close closes the hub when no request is under way any more.
func (h *BareHub) Close() error {
	close(h.puts)
	h.wg.Wait()
	return h.store.close()
}

type bareSQLite struct {
	db  *sql.DB
	ins *sql.Stmt
}

func (s *bareSQLite) put(ctx context.Context, rows []bareRow) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	ins := tx.StmtContext(ctx, s.ins)
	defer func() { _ = ins.Close() }()
	for _, r := range rows {
		if _, err := ins.ExecContext(ctx, r.box, r.seq, r.id[:], r.kind, r.at, r.body); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s *bareSQLite) count(ctx context.Context) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM ev`).Scan(&n)
	return n, err
}

func (s *bareSQLite) close() error { return errors.Join(s.ins.Close(), s.db.Close()) }

type barePostgres struct{ p *pgxpool.Pool }

func (s *barePostgres) put(ctx context.Context, rows []bareRow) error {
	n := len(rows)
	box, seq, id, kind, at, body := make([]string, n), make([]int64, n), make([][16]byte, n), make([]string, n), make([]int64, n), make([][]byte, n)
	for i, r := range rows {
		box[i], seq[i], id[i], kind[i], at[i], body[i] = r.box, r.seq, r.id, r.kind, r.at, r.body
	}
	_, err := s.p.Exec(ctx, `INSERT INTO ev SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::bigint[], $6::bytea[])
		ORDER BY 1, 2 ON CONFLICT DO NOTHING`, box, seq, id, kind, at, body)
	return err
}

func (s *barePostgres) count(ctx context.Context) (n int64, err error) {
	err = s.p.QueryRow(ctx, `SELECT count(*) FROM ev`).Scan(&n)
	return n, err
}

func (s *barePostgres) close() error {
	s.p.Close()
	return nil
}

// bareBatch is how many events DrainRaw sends at once.
const bareBatch = 500

// DrainRaw sends all that a raw queue in dir holds to the bare hub at base as box, batch by batch, deletes what has been
// answered, and returns how many bytes of bodies went out.
func DrainRaw(ctx context.Context, dir, base, box string) (sent int64, err error) {
	q, err := OpenRaw(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	t := &http.Transport{DisableCompression: true}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t}
	for last := int64(0); ; {
		batch, to, err := q.after(ctx, last)
		if err != nil || to == last {
			return sent, err
		}
		last = to
		if batch, err = wire.Zip(batch); err != nil {
			return sent, err
		}
		sent += int64(len(batch))
		if err := PostBare(ctx, client, base, box, batch); err != nil {
			return sent, err
		}
		if _, err := q.db.ExecContext(ctx, `DELETE FROM q WHERE seq <= ?`, last); err != nil {
			return sent, err
		}
	}
}

// after reads what follows number last, and returns it with the last number read.
func (r *Raw) after(ctx context.Context, last int64) (lines []byte, to int64, err error) {
	rows, err := r.db.QueryContext(ctx, `SELECT seq, body FROM q WHERE seq > ? ORDER BY seq LIMIT ?`, last, bareBatch)
	if err != nil {
		return nil, last, err
	}
	defer func() { _ = rows.Close() }()
	to = last
	for rows.Next() {
		var body []byte
		if err := rows.Scan(&to, &body); err != nil {
			return nil, last, err
		}
		lines = append(append(lines, body...), '\n')
	}
	return lines, to, rows.Err()
}

// PostBare sends one compressed batch of a box to the bare hub at base.
func PostBare(ctx context.Context, client *http.Client, base, box string, batch []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/"+url.PathEscape(box), bytes.NewReader(batch))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Encoding", "zstd")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}
