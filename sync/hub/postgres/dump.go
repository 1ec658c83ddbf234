package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrBackup means that a file is not a sound backup of a hub's database.
var ErrBackup = errors.New("not a sound backup")

const countRows = `SELECT count(*), coalesce(sum(count), 0)::bigint FROM event`

// contents is what a copy must hold.
type contents struct {
	tips
	rows, events int64 // of the table event: how many, and how many numbers they stand for
}

// readContents returns what a transaction sees. It reads all events, as pg_dump does.
func readContents(ctx context.Context, tx pgx.Tx) (c contents, err error) {
	if c.tips, err = readTips(ctx, tx); err != nil {
		return contents{}, err
	}
	return c, tx.QueryRow(ctx, countRows).Scan(&c.rows, &c.events)
}

// verify reads a whole copy, as a restore would, and compares how far its branches have come and how many events it has
// with what it must hold. What is compressed in it has a checksum, which pg_restore compares; the definitions of tables
// have none. It fails with ErrBackup.
func verify(ctx context.Context, file string, want contents) error {
	path, err := program("pg_restore")
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop() // it has nobody to write to any more
	cmd := exec.CommandContext(ctx, path, "--file=-", "--no-owner", file)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("pg_restore: %w", err)
	}
	have := holdings{tips: map[tip]int64{}}
	readErr := have.read(bufio.NewReaderSize(out, 256<<10))
	if readErr != nil {
		stop()
	}
	if err := cmd.Wait(); readErr == nil && err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%w: pg_restore: %w: %s", ErrBackup, err, bytes.TrimSpace(problem.Bytes())))
	}
	if readErr != nil {
		return fmt.Errorf("%w: %w", ErrBackup, readErr)
	}
	return have.compare(want)
}

// tip names a branch.
type tip struct{ numbering, stream, number int64 }

// holdings is what was found in a copy.
type holdings struct {
	tips         map[tip]int64 // the last number of each branch
	rows, events int64
}

func (h *holdings) compare(want contents) error {
	for i, num := range want.num {
		t := tip{num, int64(want.stream[i]), int64(want.number[i])}
		if seq, ok := h.tips[t]; !ok || seq != want.seq[i] {
			return fmt.Errorf("%w: branch %d of numbering %d, stream %d, ends with number %d instead of %d", ErrBackup, t.number, t.numbering, t.stream, seq, want.seq[i])
		}
	}
	if len(h.tips) != len(want.num) || h.rows != want.rows || h.events != want.events {
		return fmt.Errorf("%w: %d branches, %d rows and %d events instead of %d, %d and %d", ErrBackup,
			len(h.tips), h.rows, h.events, len(want.num), want.rows, want.events)
	}
	return nil
}

// read reads the SQL that pg_restore writes. A table's rows stand between COPY and \. in the format of COPY: a line each,
// with tabs between the columns.
func (h *holdings) read(r *bufio.Reader) error {
	var take func([]string) error // of the table whose rows come, nil between tables
	var columns []int
	data := false
	for {
		line, err := firstOf(r)
		switch {
		case errors.Is(err, io.EOF) && data:
			return errors.New("it ends within a table")
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case data && string(line) == `\.`:
			data, take = false, nil
		case data && take != nil:
			values, err := pick(line, columns)
			if err != nil {
				return err
			}
			if err := take(values); err != nil {
				return err
			}
		case !data && bytes.HasPrefix(line, []byte("COPY ")) && bytes.HasSuffix(line, []byte(" FROM stdin;")):
			data = true
			if columns, take, err = h.table(string(line)); err != nil {
				return err
			}
		}
	}
}

// firstOf returns a line, or the beginning of one that is longer than what r holds: pieces of files are.
func firstOf(r *bufio.Reader) ([]byte, error) {
	line, more, err := r.ReadLine()
	if !more || err != nil {
		return line, err
	}
	line = bytes.Clone(line)
	for more && err == nil {
		_, more, err = r.ReadLine()
	}
	return line, err
}

// table returns which columns of a table count, and what is done with their values; no function when none does.
func (h *holdings) table(copying string) (columns []int, take func([]string) error, err error) {
	name, list, ok := strings.Cut(strings.TrimPrefix(copying, "COPY "), " (")
	if !ok {
		return nil, nil, fmt.Errorf("cannot read %q", copying)
	}
	list, _, _ = strings.Cut(list, ")")
	_, name, _ = strings.Cut(name, ".") // of its schema
	var names []string
	switch {
	case name == "branch":
		names = []string{"numbering", "stream", "number", "seq"}
		take = h.branch
	case strings.HasPrefix(name, "event"):
		names = []string{"count"}
		take = h.event
	default:
		return nil, nil, nil
	}
	all := strings.Split(list, ", ")
	for _, n := range names {
		at := -1
		for i, c := range all {
			if strings.Trim(c, `"`) == n {
				at = i
			}
		}
		if at < 0 {
			return nil, nil, fmt.Errorf("table %s has no column %s", name, n)
		}
		columns = append(columns, at)
	}
	return columns, take, nil
}

func pick(line []byte, columns []int) ([]string, error) {
	fields := bytes.Split(line, []byte{'\t'})
	var out []string
	for _, c := range columns {
		if c >= len(fields) {
			return nil, errors.New("a row is cut off")
		}
		out = append(out, string(fields[c]))
	}
	return out, nil
}

func (h *holdings) branch(values []string) error {
	var n [4]int64
	for i, v := range values {
		var err error
		if n[i], err = strconv.ParseInt(v, 10, 64); err != nil {
			return fmt.Errorf("a branch: %w", err)
		}
	}
	h.tips[tip{n[0], n[1], n[2]}] = n[3]
	return nil
}

func (h *holdings) event(values []string) error {
	n, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return fmt.Errorf("an event: %w", err)
	}
	h.rows++
	h.events += n
	return nil
}
