// Package pgtest runs a private PostgreSQL for tests, from the binaries that Debian installs, on a Unix socket in a
// temporary folder. A test that needs it fails when it is not installed: it says what to install.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// install is what to do when there is no PostgreSQL.
const install = "PostgreSQL is not installed, and this test is nothing without it: apt install postgresql"

// Cluster is one running PostgreSQL with databases of its own.
type Cluster struct {
	bin, dir string
	settings []string
	cmd      *exec.Cmd
	done     chan struct{} // closed when cmd has ended
	n        atomic.Int64
}

var shared struct {
	sync.Mutex
	main    bool
	cluster *Cluster
}

// Run runs the tests of a binary, whose TestMain it is for, and stops the PostgreSQL that they share.
func Run(m *testing.M) int {
	shared.main = true
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// New returns the address of an empty database, which is dropped when the test ends. All databases of a test binary
// are in one PostgreSQL, which does not wait for the disk. The binary's TestMain must call Run.
func New(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.main {
		t.Fatal("pgtest: TestMain does not call pgtest.Run")
	}
	if shared.cluster == nil {
		c, err := start("fsync=off", "full_page_writes=off")
		if err != nil {
			t.Fatal(err)
		}
		shared.cluster = c
	}
	return shared.cluster.New(t)
}

// Start starts a PostgreSQL for one test, with settings such as "max_connections=20" on top of the defaults: it waits
// for the disk before it confirms anything.
func Start(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// New makes an empty database and returns its address.
func (c *Cluster) New(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(c.n.Add(1), 10)
	if err := c.sql("postgres", "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.sql("postgres", "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	return c.DSN(name)
}

// DSN returns the address of a database.
func (c *Cluster) DSN(name string) string {
	return (&url.URL{Scheme: "postgres", Path: "/" + name, RawQuery: url.Values{"host": {c.dir}, "user": {"postgres"}}.Encode()}).String()
}

// SQL runs statements in a database, by psql.
func (c *Cluster) SQL(t testing.TB, name, text string) string {
	t.Helper()
	out, err := c.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", c.dir, "-U", "postgres", "-d", name, "-c", text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (c *Cluster) sql(name, text string) error {
	_, err := c.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", c.dir, "-U", "postgres", "-d", name, "-c", text)
	return err
}

// Restart stops the database as a crash of its machine would, if hard, or cutting all connections, and starts it again.
func (c *Cluster) Restart(t testing.TB, hard bool) {
	t.Helper()
	sig := syscall.SIGINT
	if hard {
		sig = syscall.SIGQUIT
	}
	if err := errors.Join(c.stop(sig), c.serve()); err != nil {
		t.Fatal(err)
	}
}

// Stop stops the database.
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	if err := c.stop(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// Standby makes a copy of the cluster that follows it, named name, and starts it.
func (c *Cluster) Standby(t testing.TB, name string) *Cluster {
	t.Helper()
	s, err := folder(c.bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	_, err = c.run("pg_basebackup", "-h", c.dir, "-U", "postgres", "-D", s.data(), "-R", "-X", "stream", "-c", "fast",
		"-d", "application_name="+name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.serve(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Promote makes a standby a database of its own.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	if _, err := c.run("pg_ctl", "promote", "-w", "-D", c.data()); err != nil {
		t.Fatal(err)
	}
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// start makes a cluster and starts it.
func start(settings ...string) (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	c, err := folder(bin)
	if err != nil {
		return nil, err
	}
	c.settings = settings
	if _, err := c.run("initdb", "-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if err := c.serve(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// prefix begins the names of clusters' folders.
const prefix = "sportello-pgtest-"

var sweep sync.Once

// sweepFolders removes what test binaries that were killed have left: folders that are older than an hour, in which no
// server runs. It is of no consequence when it cannot.
func sweepFolders() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range dirs {
		st, err := os.Stat(dir)
		if err != nil || time.Since(st.ModTime()) < time.Hour {
			continue
		}
		first, _, _ := strings.Cut(readText(filepath.Join(dir, "data", "postmaster.pid")), "\n")
		if pid, err := strconv.Atoi(first); err == nil && strings.Contains(readText(fmt.Sprintf("/proc/%d/cmdline", pid)), dir) {
			continue
		}
		_ = os.RemoveAll(dir)
	}
}

// readText returns a file's text, "" when it cannot be read.
func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// folder makes the folder of a cluster, which belongs to whom the database runs as.
func folder(bin string) (*Cluster, error) {
	sweep.Do(sweepFolders)
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir}
	if cred, err := credential(); err != nil {
		return nil, errors.Join(err, c.close())
	} else if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// binaries returns the folder of the newest PostgreSQL.
func binaries() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errors.New(install)
}

// credential says whom the database runs as: it refuses to run as root. It is nil for who is not root.
func credential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else is somebody too
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%s (%w)", install, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func (c *Cluster) command(name string, args ...string) (*exec.Cmd, error) {
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	// A test binary that is killed takes its database with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGQUIT}
	return cmd, nil
}

// run runs one of PostgreSQL's programs to its end and returns what it printed.
func (c *Cluster) run(name string, args ...string) (string, error) {
	cmd, err := c.command(name, args...)
	if err != nil {
		return "", err
	}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, problem.String())
	}
	return out.String(), nil
}

// serve starts the server and waits until it answers.
func (c *Cluster) serve() error {
	args := []string{"-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "shared_buffers=64MB"}
	for _, s := range c.settings {
		args = append(args, "-c", s)
	}
	cmd, err := c.command("postgres", args...)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	c.cmd, c.done = cmd, done
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if _, err := c.run("pg_isready", "-q", "-h", c.dir); err == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
			continue
		}
		text, _ := os.ReadFile(filepath.Join(c.dir, "log"))
		return fmt.Errorf("postgres does not come up: %s", text)
	}
}

// stop ends the server: SIGINT is its fast shutdown, SIGQUIT leaves everything as a crash does.
func (c *Cluster) stop(sig syscall.Signal) error {
	if c.cmd == nil {
		return nil
	}
	_ = c.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-c.done:
	case <-time.After(time.Minute):
		_ = c.cmd.Process.Kill()
		return errors.New("postgres did not stop within a minute")
	}
	c.cmd = nil
	return nil
}

// close ends the server and removes all that it has.
func (c *Cluster) close() error {
	return errors.Join(c.stop(syscall.SIGQUIT), os.RemoveAll(c.dir))
}

// SQL runs statements in a database that New made, and returns what they return.
func SQL(t testing.TB, dsn, text string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return shared.cluster.SQL(t, strings.TrimPrefix(u.Path, "/"), text)
}

// Restore replaces a database that New made by a backup, as the documentation says.
func Restore(t testing.TB, dsn, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := shared.cluster.command("pg_restore", "--clean", "--if-exists", "--no-owner", "--exit-on-error", "--single-transaction", "-d", dsn)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = bytes.NewReader(b) // whom the programs run as need not be able to read the file
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_restore: %v: %s", err, out)
	}
}
