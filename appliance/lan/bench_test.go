package lan_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sportello.example/appliance/dnssd"
	"sportello.example/appliance/lan/lantest"
	"sportello.example/kiosk"
)

// quiet is how long a responder may keep silent about what it has just told (RFC 6762 §6: a second; with jitter).
const quiet = 1500 * time.Millisecond

// BenchmarkDiscover finds everything on a clean network, side by side: our Browser, avahi-browse with nothing in its
// Avahi's cache, and CUPS's ippfind, which asks such an Avahi too. Times are medians until the last of all services was
// resolved (avahi-last, of what avahi-browse prints line by line) and until the program had ended (avahi, ippfind);
// x-avahi and x-avahi-last are ours divided by theirs. Use -benchtime=5x: a round takes ten seconds.
func BenchmarkDiscover(b *testing.B) {
	b.Run("printers=4", func(b *testing.B) {
		l := lantest.New(b)
		var cfgs []lantest.Config
		var names []string
		for n := range 4 {
			names = append(names, fmt.Sprintf("Sala %d", n+1))
			cfgs = append(cfgs, lantest.Config{Host: fmt.Sprintf("p%d", n+1), N: 11 + n, Name: names[n]})
		}
		l.Printers(b, cfgs...)
		discover(b, l, names)
	})
	b.Run("queues=10", func(b *testing.B) {
		l := lantest.New(b)
		var names []string
		for _, q := range l.PrintServer(b, "server", 50, 10) {
			names = append(names, q.Instance)
		}
		discover(b, l, names)
	})
}

func discover(b *testing.B, l *lantest.LAN, names []string) {
	probe := l.Host(b, "probe", 100)
	ours(b, l, names) // the first time some may still be announcing themselves
	var us, avahi, avahiLast, find []time.Duration
	cold := func() {
		probe.NoAvahi()
		probe.Avahi(b)
		time.Sleep(quiet)
	}
	for b.Loop() {
		time.Sleep(quiet)
		us = append(us, ours(b, l, names))

		cold()
		whole, last := listed(b, probe, 2*len(names), resolved,
			[]string{"avahi-browse", "-rpt", "_ipp._tcp"}, []string{"avahi-browse", "-rpt", "_ipps._tcp"})
		avahi, avahiLast = append(avahi, whole), append(avahiLast, last)

		cold()
		whole, _ = listed(b, probe, 2*len(names), strings.TrimSpace, []string{"ippfind", "_ipp._tcp", "_ipps._tcp"})
		find = append(find, whole)
	}
	b.ReportMetric(0, "ns/op") // a round has waits
	b.ReportMetric(ms(us), "ours-ms")
	b.ReportMetric(ms(avahi), "avahi-ms")
	b.ReportMetric(ms(avahiLast), "avahi-last-ms")
	b.ReportMetric(ms(find), "ippfind-ms")
	b.ReportMetric(ms(us)/ms(avahi), "x-avahi")
	b.ReportMetric(ms(us)/ms(avahiLast), "x-avahi-last")
}

// ours is how long a Browser takes from nothing until it has told of all names, by ipp and ipps.
func ours(b *testing.B, l *lantest.LAN, names []string) time.Duration {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), time.Minute)
	defer stop()
	began := time.Now()
	var took time.Duration
	browser := &dnssd.Browser{Types: printerTypes, Interfaces: []string{l.Interface()}, Log: logger(b), Now: time.Now}
	err := browser.Run(ctx, func(services []dnssd.Service) {
		if took == 0 && !slices.ContainsFunc(names, func(n string) bool { return !whole(services, n) }) {
			took = time.Since(began)
			stop()
		}
	})
	if err != nil || took == 0 {
		b.Fatalf("not all were found: %v", err)
	}
	return took
}

// resolved is the service that a line of avahi-browse -p says it has resolved, else "".
func resolved(line string) string {
	f := strings.Split(line, ";")
	if len(f) < 5 || f[0] != "=" {
		return ""
	}
	return f[3] + " " + f[4] // instance, type
}

// listed runs programs on h at once, whose lines must name want different services by service, and says how long they
// took to their end and to the last of those.
func listed(b *testing.B, h *lantest.Host, want int, service func(line string) string, programs ...[]string) (whole, last time.Duration) {
	b.Helper()
	out := &stamped{began: time.Now(), seen: map[string]bool{}, service: service}
	errs := make(chan error)
	for _, args := range programs {
		c := h.Command(b.Context(), append([]string{"stdbuf", "-oL"}, args...)...) // else it keeps lines back
		c.Stdout = &splitter{to: out}
		go func() { errs <- c.Run() }()
	}
	for range programs {
		if err := <-errs; err != nil {
			b.Fatalf("%v: %v", programs, err)
		}
	}
	if len(out.seen) != want {
		b.Fatalf("%v named %d services, want %d: %v", programs, len(out.seen), want, slices.Sorted(maps.Keys(out.seen)))
	}
	return time.Since(out.began), out.last
}

// stamped remembers when the last new service was named.
type stamped struct {
	began   time.Time
	service func(string) string

	mu   sync.Mutex
	seen map[string]bool
	last time.Duration
}

func (s *stamped) line(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := s.service(text); name != "" && !s.seen[name] {
		s.seen[name], s.last = true, time.Since(s.began)
	}
}

// splitter makes lines of what a program prints.
type splitter struct {
	to   *stamped
	rest string
}

func (s *splitter) Write(b []byte) (int, error) {
	s.rest += string(b)
	for {
		line, rest, whole := strings.Cut(s.rest, "\n")
		if !whole {
			return len(b), nil
		}
		s.rest = rest
		s.to.line(line)
	}
}

func ms(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}

// submitTest is what a driver does for a job: ask whether it would be taken, make it, send the document.
const submitTest = `{
	NAME "validate" OPERATION Validate-Job
	GROUP operation-attributes-tag
	ATTR charset attributes-charset utf-8
	ATTR naturalLanguage attributes-natural-language en
	ATTR uri printer-uri $uri
	ATTR name requesting-user-name sportello
	ATTR mimeMediaType document-format application/pdf
	GROUP job-attributes-tag
	ATTR keyword media iso_a4_210x297mm
	STATUS successful-ok
}
{
	NAME "create" OPERATION Create-Job
	GROUP operation-attributes-tag
	ATTR charset attributes-charset utf-8
	ATTR naturalLanguage attributes-natural-language en
	ATTR uri printer-uri $uri
	ATTR name requesting-user-name sportello
	ATTR name job-name ipptool
	GROUP job-attributes-tag
	ATTR keyword media iso_a4_210x297mm
	STATUS successful-ok
	EXPECT job-id OF-TYPE integer
}
{
	NAME "send" OPERATION Send-Document
	GROUP operation-attributes-tag
	ATTR charset attributes-charset utf-8
	ATTR naturalLanguage attributes-natural-language en
	ATTR uri printer-uri $uri
	ATTR integer job-id $job-id
	ATTR name requesting-user-name sportello
	ATTR mimeMediaType document-format application/pdf
	ATTR boolean last-document true
	FILE $filename
	STATUS successful-ok
}
{
	NAME "ask" OPERATION Get-Job-Attributes
	DELAY 0,0.01
	GROUP operation-attributes-tag
	ATTR charset attributes-charset utf-8
	ATTR naturalLanguage attributes-natural-language en
	ATTR uri printer-uri $uri
	ATTR integer job-id $job-id
	ATTR name requesting-user-name sportello
	STATUS successful-ok
	EXPECT job-state WITH-VALUE >4 REPEAT-NO-MATCH
}
`

// BenchmarkSubmit takes a page from “print” to job-state processing, side by side on the same printer by ipps: ours with
// everything (how the printer is, its key, the journal on the disk), and ipptool. Times are medians; x-ipptool is ours
// divided by ipptool's.
func BenchmarkSubmit(b *testing.B) {
	l := lantest.New(b)
	p := l.Printer(b, lantest.Config{Host: "p1", N: 11, Name: "Stampante"})
	p.Engine(b, "sleep 0.6\n"+lantest.Printed)
	box := newBox(b, l, setup{}, adopt(b, p))
	box.online(b, p)
	doc := document(b, p.Instance())
	file, test := filepath.Join(b.TempDir(), "page.pdf"), filepath.Join(b.TempDir(), "submit.test")
	for name, text := range map[string][]byte{file: doc, test: []byte(submitTest)} {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	idle := func() {
		until(b, "idle", time.Minute, p.Idle)
	}
	var us, tool []time.Duration
	for b.Loop() {
		idle()
		began, took := time.Now(), time.Duration(0)
		err := box.print(b.Context(), p, doc, func(now kiosk.PrintProgress) {
			if now.State == kiosk.PrintPrinting && took == 0 {
				took = time.Since(began)
			}
		})
		if err != nil || took == 0 {
			b.Fatalf("never processing: %v", err)
		}
		us = append(us, took)

		idle()
		began = time.Now()
		out, err := exec.CommandContext(b.Context(), "ipptool", "-f", file, p.URI("ipps"), test).CombinedOutput()
		if err != nil {
			b.Fatalf("ipptool: %v: %s", err, out)
		}
		tool = append(tool, time.Since(began))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(us), "ours-ms")
	b.ReportMetric(ms(tool), "ipptool-ms")
	b.ReportMetric(ms(us)/ms(tool), "x-ipptool")
}

// BenchmarkIdle is what discovery costs while nothing happens: in percent of one processor, over a minute on a network
// with four printers and a print server that have all been found. It takes a minute: use -benchtime=1x.
func BenchmarkIdle(b *testing.B) {
	l := lantest.New(b)
	var cfgs []lantest.Config
	for n := range 4 {
		cfgs = append(cfgs, lantest.Config{Host: fmt.Sprintf("p%d", n+1), N: 11 + n, Name: fmt.Sprintf("Sala %d", n+1)})
	}
	printers := l.Printers(b, cfgs...)
	queues := l.PrintServer(b, "server", 50, 10)
	br := browse(b, l, nil)
	until(b, "all found", time.Minute, func() bool {
		return !slices.ContainsFunc(printers, func(p *lantest.Printer) bool { return !br.has(p.Instance()) }) &&
			!slices.ContainsFunc(queues, func(q lantest.Queue) bool { return !br.has(q.Instance) })
	})
	for b.Loop() {
		time.Sleep(time.Minute) // the questions of the beginning become rarer
		began, before := time.Now(), used(b)
		time.Sleep(time.Minute)
		b.ReportMetric(100*float64(used(b)-before)/float64(time.Since(began)), "%-of-a-core")
		b.ReportMetric(float64(br.Heard().Asked), "questions/min")
	}
	b.ReportMetric(0, "ns/op")
}

// used is the processor time that this process has used.
func used(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
