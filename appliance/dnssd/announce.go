package dnssd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Announcement is a service of ours that others shall find.
type Announcement struct {
	Instance string // for people to read, at most 63 bytes; one that another machine has gets a number
	Type     string // "_http._tcp"
	Host     string // name of this machine without ".local"; "" means what the system says
	// Claim is whether Host is ours to answer for: its A and AAAA records are probed for, answered and defended. Else
	// somebody else on this machine does (Avahi, or a test), and the addresses are only told beside the service.
	Claim bool
	// Renamed is told the names that are used when another machine has ours; nil: nobody is told. It must not block.
	Renamed    func(instance, host string)
	Port       int               //
	TXT        map[string]string // each "key=value" at most 255 bytes
	Interfaces []string          // names; empty means all that can multicast, without the loopback
	Log        *slog.Logger      //
	Now        func() time.Time
}

// Announce answers those who look for the service until ctx ends; then it says goodbye (RFC 6762 §10.1) and returns
// nil. Before it announces it probes for three quarters of a second whether the names are free (§8.1). While no
// interface is up it waits for one, and when addresses change it announces itself anew. An error means an announcement
// that can never work.
//
// One instance with several types is several announcements, which may run at once, also with one Host that each claims;
// so may Avahi on this machine. What they say of this machine's addresses is no conflict.
//
// If another machine has the instance name, it becomes "Name (2)", if one has the host name, "name-2", and so on.
func Announce(ctx context.Context, a Announcement) error {
	n, txt, err := check(a)
	if err != nil {
		return fmt.Errorf("announce %s %q: %w", a.Type, a.Instance, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	watching.Go(func() { watch(ctx, changed) })
	defer watching.Wait()
	defer cancel()

	r := &announcer{a: a, names: n, told: n, txt: txt, changed: changed}
	pause := time.Second
	for ctx.Err() == nil {
		ifaces, err := interfaces(a.Interfaces)
		var l *link
		if err == nil {
			l, err = open(ctx, ifaces, a.Log)
		}
		if err != nil {
			if pause == time.Second && ctx.Err() == nil {
				a.Log.Warn("service not announced", "type", a.Type, "err", err)
			}
			r.known = nil
			select {
			case <-changed:
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxPause)
			continue
		}
		pause = time.Second
		r.session(ctx, l)
	}
	return nil
}

// names are plain text.
type names struct{ instance, host string }

func check(a Announcement) (names, []string, error) {
	n := names{a.Instance, a.Host}
	if a.Port < 1 || a.Port > 65535 || a.Type == "" {
		return n, nil, fmt.Errorf("type %q on port %d", a.Type, a.Port)
	}
	if _, err := escapeLabel(n.instance); err != nil {
		return n, nil, err
	}
	keys := slices.Sorted(maps.Keys(a.TXT))
	if i := slices.Index(keys, "txtvers"); i > 0 {
		keys = slices.Insert(slices.Delete(keys, i, i+1), 0, "txtvers")
	}
	txt, err := formatTXT(a.TXT, keys)
	if err != nil {
		return n, nil, err
	}
	if len(txt) == 0 {
		txt = []string{""} // RFC 6763 §6.1
	}
	if n.host == "" {
		if n.host, err = os.Hostname(); err != nil {
			return n, nil, err
		}
	}
	n.host, _, _ = strings.Cut(n.host, ".")
	if _, err := escapeLabel(n.host); err != nil {
		return n, nil, fmt.Errorf("host: %w", err)
	}
	return n, txt, nil
}

// announcer is one run of Announce.
type announcer struct {
	a       Announcement
	names   names
	txt     []string
	changed <-chan struct{}
	known   []iface     // the interfaces on which the names are known to be free; nil while they are not
	lost    []time.Time // when names were lost, in the last minutes
	told    names       // those that the caller knows of
}

// session answers on the interfaces of l until ctx ends, they change, or a name is lost. It closes l, and says goodbye
// before if ctx has ended.
func (r *announcer) session(ctx context.Context, l *link) {
	defer l.close()
	now := r.a.Now()
	// The names were checked.
	instance, _ := escapeLabel(r.names.instance)
	host, _ := escapeLabel(r.names.host)
	free := slices.EqualFunc(r.known, l.ifaces, iface.same)
	r.known = nil
	s := newResponder(service{instance, r.a.Type, host, r.a.Port, r.txt, r.a.Claim}, l.ifaces, free, now)

	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		select {
		case <-ctx.Done():
			l.transmit(s.goodbye())
			return
		case <-r.changed:
			if is, err := interfaces(r.a.Interfaces); err != nil || !unchanged(is, l.ifaces) {
				if s.phase != probing {
					r.known = l.ifaces
				}
				return
			}
			continue
		case p := <-l.packets:
			v, out := s.take(p, ours(), r.a.Now())
			l.transmit(out)
			if v != fine {
				r.rename(ctx, v)
				return
			}
		case <-wake.C:
		}
		out, next := s.due(r.a.Now())
		l.transmit(out)
		if s.phase != probing {
			r.tell()
		}
		if wake.Stop(); !next.IsZero() {
			wake.Reset(max(next.Sub(r.a.Now()), 0))
		}
	}
}

func (l *link) transmit(out []message) {
	for _, m := range out {
		b, err := m.msg.Pack()
		switch {
		case err != nil:
			// Only what a stranger asked can be unfit for packing, in an answer to him alone.
		case m.to.IsValid():
			_ = l.sendTo(m.ifi, b, m.to)
		default:
			l.send(m.ifi, b)
		}
	}
}

// rename takes other names. A machine that claims each of them would have us change them without end: after ten of them
// it takes longer (RFC 6762 §8.1).
func (r *announcer) rename(ctx context.Context, v verdict) {
	old := r.names
	r.number(v)
	r.a.Log.Warn("another machine has our name", "type", r.a.Type, "instance", old.instance, "host", old.host,
		"new_instance", r.names.instance, "new_host", r.names.host)
	now := r.a.Now()
	r.lost = append(slices.DeleteFunc(r.lost, func(t time.Time) bool { return now.Sub(t) > contested }), now)
	if n := len(r.lost) - 10; n > 0 {
		sleep(ctx, min(time.Duration(n)*5*time.Second, time.Minute))
	}
}

func (r *announcer) number(v verdict) {
	if v == lostHost {
		r.names.host = numbered(r.names.host, "-", "")
	} else {
		r.names.instance = numbered(r.names.instance, " (", ")")
	}
}

// tell says which names are used, once they are known to be free.
func (r *announcer) tell() {
	if r.names == r.told {
		return
	}
	r.told = r.names
	if r.a.Renamed != nil {
		r.a.Renamed(r.names.instance, r.names.host)
	}
}

// numbered counts a name up: "Name", "Name (2)", "Name (3)".
func numbered(name, before, after string) string {
	base, n := name, 2
	if head, ok := strings.CutSuffix(name, after); ok {
		if i := strings.LastIndex(head, before); i > 0 {
			if old, err := strconv.Atoi(head[i+len(before):]); err == nil && old >= 2 && old < 1e6 {
				base, n = name[:i], old+1
			}
		}
	}
	number := before + strconv.Itoa(n) + after
	for len(base)+len(number) > maxInstance {
		_, size := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-size]
	}
	return base + number
}
