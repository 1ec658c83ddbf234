package loadtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver that the box uses
)

// Raw is the plainest durable queue in SQLite: one table, one connection, WAL and synchronous=FULL.
type Raw struct {
	db  *sql.DB
	ins *sql.Stmt
}

const rawDSN = "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"

// OpenRaw opens a queue in dir.
func OpenRaw(ctx context.Context, dir string) (*Raw, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "raw.db")+rawDSN)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS q (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL)`); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("raw queue: %w", err)
	}
	ins, err := db.PrepareContext(ctx, `INSERT INTO q (kind, at, body) VALUES (1, ?, ?)`)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("raw queue: %w", err)
	}
	return &Raw{db, ins}, nil
}

// Close closes the queue.
func (r *Raw) Close() error {
	_ = r.ins.Close()
	return r.db.Close()
}

// Put stores one event. It is on the disk when Put returns.
func (r *Raw) Put(ctx context.Context, body []byte) error {
	_, err := r.ins.ExecContext(ctx, Begin.UnixMilli(), body)
	return err
}

// PutAll stores bodies in one transaction.
func (r *Raw) PutAll(ctx context.Context, bodies [][]byte) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	ins := tx.StmtContext(ctx, r.ins)
	defer func() { _ = ins.Close() }()
	for _, b := range bodies {
		if _, err := ins.ExecContext(ctx, Begin.UnixMilli(), b); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// maxGroup is how many events one commit of Group takes at most.
const maxGroup = 256

// Group stores each body for one of n producers, each of which waits until its own is on the disk before it comes with
// its next. One goroutine commits whatever waits.
func (r *Raw) Group(ctx context.Context, n int, bodies [][]byte) error {
	type put struct {
		body []byte
		done chan error
	}
	puts := make(chan put, n)
	var wg sync.WaitGroup
	errs := make([]error, n)
	for p := range n {
		wg.Go(func() {
			done := make(chan error, 1)
			for i := p; i < len(bodies) && errs[p] == nil; i += n {
				puts <- put{bodies[i], done}
				errs[p] = <-done
			}
		})
	}
	go func() {
		wg.Wait()
		close(puts)
	}()
	var waiting []put
	var batch [][]byte
	for p := range puts {
		waiting, batch = append(waiting[:0], p), append(batch[:0], p.body)
	more:
		for len(waiting) < maxGroup {
			select {
			case p, ok := <-puts:
				if !ok {
					break more
				}
				waiting, batch = append(waiting, p), append(batch, p.body)
			default:
				break more
			}
		}
		err := r.PutAll(ctx, batch)
		for _, w := range waiting {
			w.done <- err
		}
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// AppendSync appends each body to one file in dir and syncs its data each time: less than this no queue can do.
func AppendSync(dir string, bodies [][]byte) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, "append.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	for _, b := range bodies {
		if _, err := f.Write(b); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
	}
	return nil
}
