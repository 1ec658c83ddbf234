package line_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
)

const (
	partitions = 200
	lines      = 8                // boxes that live through them at the same time
	healed     = 30 * time.Second // in which a queue must be empty after the line has healed
	seedVar    = "LINE_TEST_SEED" // runs the same again
)

// badLines are the ways in which a line is bad, and what they are called by the proxy.
var badLines = []struct {
	name, kind string
	cuts       bool                      // connections do not live through it
	how        func(r *rand.Rand) string // attributes
}{
	{"slow", "bandwidth", false, func(r *rand.Rand) string { return fmt.Sprintf(`{"rate":%d}`, 1+r.IntN(20)) }},
	{"late", "latency", false, func(r *rand.Rand) string { return fmt.Sprintf(`{"latency":%d,"jitter":%d}`, r.IntN(400), r.IntN(200)) }},
	{"in slices", "slicer", false, func(r *rand.Rand) string {
		return fmt.Sprintf(`{"average_size":%d,"size_variation":%d,"delay":%d}`, 20+r.IntN(500), 10, r.IntN(3000))
	}},
	{"swallows", "timeout", true, func(*rand.Rand) string { return `{"timeout":0}` }}, // and never hangs up
	{"swallows and hangs up", "timeout", true, func(r *rand.Rand) string { return fmt.Sprintf(`{"timeout":%d}`, 1+r.IntN(300)) }},
	{"resets", "reset_peer", true, func(r *rand.Rand) string { return fmt.Sprintf(`{"timeout":%d}`, r.IntN(200)) }},
	{"cuts after some bytes", "limit_data", true, func(r *rand.Rand) string { return fmt.Sprintf(`{"bytes":%d}`, 1+r.IntN(6000)) }},
	{"closes late", "slow_close", false, func(r *rand.Rand) string { return fmt.Sprintf(`{"delay":%d}`, r.IntN(500)) }},
	{"down", "", true, nil},
}

var ways = []string{"upstream", "downstream"}

// line is a way to the hub that can be bad.
type line struct {
	t    *testing.T
	name string
	hub  string // host and port
	at   string // where the hub seems to be
	p    *toxiproxy.Proxy
	cut  bool // no connection lives through what is wrong
}

// newLine starts a line to the hub at base.
func newLine(t *testing.T, name, base string) *line {
	t.Helper()
	l := &line{t: t, name: name, hub: strings.TrimPrefix(base, "https://"), at: "127.0.0.1:0"}
	l.replace()
	t.Cleanup(func() { within(l.p.Stop) })
	return l
}

// replace hangs up on everybody and starts afresh, at the same address: a proxy that has had toxics that close
// connections does not work again.
func (l *line) replace() {
	l.t.Helper()
	if l.p != nil {
		within(l.p.Stop)
	}
	server := quiet(toxiproxy.NewServer, toxiproxy.NewMetricsContainer(nil))
	for tries := 0; ; tries++ {
		l.p = toxiproxy.NewProxy(server, l.name, l.at, l.hub)
		err := server.Collection.Add(l.p, true)
		if err == nil {
			break
		}
		if tries == 100 {
			l.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // the old one still has the address
	}
	l.at = l.p.Listen
}

// within reports whether do has ended within a second. A proxy whose connections end while it is told to change can be
// stuck for ever; then it is left alone, and its connections with it, as they would be behind a router that is stuck.
func within(do func()) bool {
	done := make(chan struct{})
	go func() {
		do()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(time.Second):
		return false
	}
}

// breaks makes the line bad in one or two ways, in one direction or both, for the connections there are too. It says in
// which.
func (l *line) breaks(r *rand.Rand) string {
	l.t.Helper()
	var names []string
	which := []int{r.IntN(len(badLines)), r.IntN(len(badLines))}[r.IntN(2):]
	slices.Sort(which) // the proxy's bandwidth changes what others before it still look at, so it is the first
	for i, n := range which {
		f, first := badLines[n], r.IntN(len(ways))
		l.cut = l.cut || f.cuts
		if f.how == nil {
			names = append(names, f.name)
			within(l.p.Stop)
			continue
		}
		for _, way := range ways[first : first+1+r.IntN(len(ways)-first)] {
			names = append(names, f.name+" "+way)
			p, toxic := l.p, fmt.Sprintf(`{"name":"%d%s","type":%q,"stream":%q,"toxicity":1,"attributes":%s}`, i, way, f.kind, way, f.how(r))
			l.cut = !within(func() {
				if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
					l.t.Error(err)
				}
			}) || l.cut
		}
	}
	return strings.Join(names, ", ")
}

// heals makes the line good. Connections live on if they can.
func (l *line) heals() {
	l.t.Helper()
	p := l.p
	if !l.cut && within(func() { p.Toxics.ResetToxics(context.Background()) }) {
		return
	}
	l.cut = false
	l.replace()
}

// TestPartitions breaks the lines of boxes again and again while they have something to say. No queue may be stuck once
// the line is good again, and the hub must have every event once.
func TestPartitions(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any will do
	if s := os.Getenv(seedVar); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedVar, seed)
	town, base := startHub(t, lines)
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		downs   atomic.Int64
		put     int
		slowest time.Duration
		took    []time.Duration
	)
	for n := range lines {
		number := uint32(n + 1) //nolint:gosec // a few
		l := newLine(t, fmt.Sprint("line", number), base)
		b := startBox(t, town, number, "https://"+l.at, func() { downs.Add(1) })
		defer b.stop()
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(number)))
			for round := range partitions / lines {
				if l.replace(); r.IntN(4) > 0 { // mostly there are connections when the line breaks
					time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
				}
				what := l.breaks(r)
				count := 1 + r.IntN(120)
				for i := range count {
					b.put(t, fmt.Sprintf("box %d, %d.%d", number, round, i), r.IntN(4))
					if r.IntN(10) == 0 {
						time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
					}
				}
				time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
				l.heals()
				d, err := b.drain(t, healed)
				mu.Lock()
				put, slowest, took = put+count, max(slowest, d), append(took, d)
				mu.Unlock()
				if err != nil {
					t.Errorf("line %d, round %d (%s): %v after %v", number, round, what, err, d)
					return
				}
			}
		})
	}
	wg.Wait()
	sum := time.Duration(0)
	for _, d := range took {
		sum += d
	}
	t.Logf("%d partitions healed, the line was down %d times, drained after %v on average, %v at most", len(took), downs.Load(), (sum / time.Duration(max(1, len(took)))).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if n := downs.Load(); n < partitions/10 {
		t.Errorf("the line was down %d times only: what was tested?", n)
	}
	if len(took) != partitions {
		t.Errorf("%d partitions, want %d", len(took), partitions)
	}
	stored, err := town.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for session, n := range stored {
		if n != 1 {
			t.Errorf("event %s is stored %d times", session, n)
		}
	}
	if len(stored) != put {
		t.Errorf("the hub has %d events, want %d", len(stored), put)
	}
}
