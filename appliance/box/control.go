package box

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"sportello.example/firmware/program"
)

// The files by which the commands of this program find a box that runs on the same data folder: where it listens, and a
// word that only who may read the folder can know.
const (
	addressFile = "address"
	controlFile = "control"
)

// errNotRunning means that no box runs on the data folder.
var errNotRunning = errors.New("the box is not running")

// writeControl says where the box listens and what its commands must show. remove takes both back.
func writeControl(dir, addr string) (token string, remove func(), err error) {
	token = rand.Text()
	for _, f := range []struct{ name, text string }{{controlFile, token}, {addressFile, callable(addr)}} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path+".new", []byte(f.text+"\n"), 0o600); err != nil {
			return "", nil, fmt.Errorf("write %s: %w", path, err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return "", nil, fmt.Errorf("write %s: %w", path, err)
		}
	}
	return token, func() {
		for _, name := range []string{addressFile, controlFile} {
			_ = os.Remove(filepath.Join(dir, name)) // the next start writes it anew
		}
	}, nil
}

// local lets only requests through that come from this machine, by address: a page from elsewhere in a browser on this
// machine must not read what the box says (DNS rebinding).
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
			http.Error(w, "only from the box itself", http.StatusForbidden)
			return
		}
		if name, _, err := net.SplitHostPort(r.Host); err != nil || (name != "localhost" && net.ParseIP(name) == nil) {
			http.Error(w, "ask by address", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next(w, r)
	}
}

// fromHere says whether a request comes from this machine: from its loopback, or from the very address that it went to, as
// it does when the box listens on one address of the branch's network.
func fromHere(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	if from.Addr().Unmap().IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	to, err := netip.ParseAddrPort(local.String())
	return err == nil && from.Addr().Unmap() == to.Addr().Unmap()
}

// callable returns where the box's commands reach a box that listens on addr: one that listens everywhere, by loopback.
func callable(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil || !at.Addr().IsUnspecified():
		return addr
	case at.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()).String()
	}
}

const bearer = "Bearer "

// commands lets only the box's own commands through: who may read the data folder.
func (b *Box) commands(next http.HandlerFunc) http.HandlerFunc {
	return local(func(w http.ResponseWriter, r *http.Request) {
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer)
		want := b.control.Load()
		if !ok || want == nil || subtle.ConstantTimeCompare([]byte(got), []byte(*want)) != 1 {
			http.Error(w, "only for who may read the box's data folder", http.StatusUnauthorized)
			return
		}
		next(w, r)
	})
}

// running is a box that runs on a data folder, as its commands see it.
type running struct{ addr, token string }

// find returns the box that runs on a data folder. It fails with errNotRunning.
func find(dir string) (running, error) {
	r := running{}
	for _, f := range []struct {
		name string
		into *string
	}{{addressFile, &r.addr}, {controlFile, &r.token}} {
		b, err := os.ReadFile(filepath.Join(dir, f.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return running{}, fmt.Errorf("%w on %s", errNotRunning, dir)
		case err != nil:
			return running{}, err
		}
		*f.into = strings.TrimSpace(string(b))
	}
	return r, nil
}

// call asks the box. A box whose files are left over from a crash is errNotRunning.
func (r running) call(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.addr+path, body)
	if err != nil {
		return nil, &program.HintError{Err: fmt.Errorf("the box's address file is damaged: %w", err), Hint: "restart the box"}
	}
	req.Header.Set("Authorization", bearer+r.token)
	// Never by a proxy, whatever the environment says: the word that opens the box would go there, and what it says.
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, fmt.Errorf("%w: %w", errNotRunning, err)
		}
		return nil, &program.HintError{Err: fmt.Errorf("the box does not answer: %w", err), Hint: "look at its log, then restart it"}
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("the box does not answer: %w", err)
	}
	said, hint, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return nil, &program.HintError{Err: errors.New(said), Hint: hint}
}

// refuse answers a command with an error and its hint.
func refuse(w http.ResponseWriter, err error) {
	text := err.Error()
	var h *program.HintError
	if errors.As(err, &h) {
		text += "\n" + h.Hint
	}
	http.Error(w, text, http.StatusConflict)
}
