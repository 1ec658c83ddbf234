package web

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"sportello.example/kiosk"
)

// TestEveryPage draws every page in every state, language, text size, with the line up and down, with the printer in
// every state: each must be whole, and HTML that a strict reader accepts.
func TestEveryPage(t *testing.T) {
	printers := []kiosk.PrinterStatus{
		{State: kiosk.PrinterReady},
		{State: kiosk.PrinterBusy},
		{State: kiosk.PrinterAttention, Trouble: kiosk.TroubleJam},
		{State: kiosk.PrinterAttention},
		{State: kiosk.PrinterOffline},
		{State: kiosk.PrinterNone},
		{},
	}
	var mu sync.Mutex // guards drawn
	drawn := map[string]bool{}
	t.Run("state", func(t *testing.T) {
		for _, st := range states() {
			for _, language := range []string{"it", "en"} {
				t.Run(st.name+" in "+language, func(t *testing.T) {
					t.Parallel()
					b, w := in(t, st, language)
					for _, up := range []bool{true, false} {
						b.setLine(up)
						for i, p := range printers {
							if i > 0 && (strings.HasPrefix(st.name, "printing ") || strings.HasPrefix(st.name, "problem ")) {
								break // these pages say what the session knows of the printer, not what the printer says now
							}
							b.set(func() { b.printer = p })
							sizes := []string{"", "l", "xl"}
							if p.State != kiosk.PrinterReady || !up {
								sizes = sizes[:1]
							}
							for _, size := range sizes {
								req, err := http.NewRequest(http.MethodGet, w.base+"/k/1"+st.path, nil)
								if err != nil {
									t.Fatal(err)
								}
								req.AddCookie(&http.Cookie{Name: lookCookie, Value: size + "."})
								w.do(req)
								for _, fault := range faults(w) {
									t.Errorf("line up %v, printer %s %s, size %q: %s", up, p.State, p.Trouble, size, fault)
								}
								if t.Failed() {
									t.Logf("%s: %s", w.at, w.body)
									return
								}
								for n := range find(w.doc, "body") {
									mu.Lock()
									drawn[attr(n, "data-page")] = true
									mu.Unlock()
								}
							}
						}
					}
				})
			}
		}
	})
	if t.Failed() {
		return
	}
	var missing []string
	for name := range newBranch(t).web.steps {
		if !drawn[string(name)] {
			missing = append(missing, string(name))
		}
	}
	if sort.Strings(missing); len(missing) > 0 {
		t.Errorf("pages never drawn: %v", missing)
	}
}

// faults says what is wrong with a page.
func faults(w *browser) []string {
	var f []string
	fault := func(ok bool, what string) {
		if !ok {
			f = append(f, what)
		}
	}
	fault(w.status < 500, http.StatusText(w.status))
	fault(w.header.Get("Content-Security-Policy") == policy, "content security policy")
	fault(w.header.Get("Cache-Control") == "no-store", "cache-control "+w.header.Get("Cache-Control"))
	fault(!strings.Contains(w.body, "{{") && !strings.Contains(w.body, "no value"), "template text on the page")
	fault(!strings.Contains(w.body, challenge[8:]), "the challenge in clear")
	f = append(f, unbalanced(w.body)...)
	count := map[string]int{}
	ids := map[string]bool{}
	labels := map[string]bool{}
	for l := range find(w.doc, "label") {
		labels[attr(l, "for")] = true
	}
	for n := range w.doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		for _, a := range n.Attr {
			fault(a.Key != "style" && !strings.HasPrefix(a.Key, "on"), "inline "+a.Key)
			if a.Key == "id" {
				fault(!ids[a.Val], "id twice: "+a.Val)
				ids[a.Val] = true
			}
			if a.Key == "href" || a.Key == "src" || a.Key == "action" {
				fault(strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//") || a.Val == "#main", "leads away: "+a.Val)
			}
		}
		switch n.Data {
		case "html":
			fault(attr(n, "lang") != "" && attr(n, "dir") != "", "no language")
		case "title", "h1", "button":
			fault(strings.TrimSpace(textOf(n)) != "", "empty "+n.Data)
		case "script":
			fault(attr(n, "src") != "" && n.FirstChild == nil, "inline script")
		case "style":
			fault(false, "inline style")
		case "img":
			fault(attr(n, "alt") != "", "picture without words")
		case "input":
			if kind := attr(n, "type"); kind == "text" {
				fault(labels[attr(n, "id")], "no label for "+attr(n, "name"))
				fault(attr(n, "autocomplete") == "off" && attr(n, "spellcheck") == "false", "the browser remembers "+attr(n, "name"))
			}
		}
	}
	for tag, n := range map[string]int{"h1": 1, "main": 1, "header": 1, "html": 1} {
		fault(count[tag] == n, tag+" not once")
	}
	fault(count["title"] >= 1, "no title")
	return f
}

// unbalanced says which elements are not closed where they should be: an HTML parser forgives that, people who read
// templates should not have to.
func unbalanced(body string) []string {
	void := []string{"meta", "link", "input", "br", "img"}
	var open, f []string
	z := html.NewTokenizer(strings.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if !errors.Is(z.Err(), io.EOF) {
				f = append(f, z.Err().Error())
			}
			if len(open) > 0 {
				f = append(f, "not closed: "+strings.Join(open, " "))
			}
			return f
		case html.StartTagToken:
			if name, _ := z.TagName(); !slices.Contains(void, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				return append(f, "closes "+string(name)+" inside "+strings.Join(open, " "))
			}
			open = open[:len(open)-1]
		}
	}
}

func TestLineDownIsSaidWithSinceWhen(t *testing.T) {
	b := newBranch(t)
	b.setLine(false)
	b.pass(26 * time.Hour)
	w := b.browse()
	w.open("/k/1")
	w.says("Il collegamento con il Comune è interrotto da ieri alle 11:05")
	w.open("/k/1/now")
	w.says("Comune: non collegato")
	w.says("Scegliere un certificato e lasciare la richiesta")
}

func TestPrinterTroubleIsSaidInWords(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toPrinting(b, w)
	b.report(kiosk.PrintProgress{State: kiosk.PrintStopped, Page: 1, Trouble: kiosk.TroublePaper})
	w.open("/k/1/printing")
	w.says("È finita la carta")
	w.says("Foglio 1 di 1")
	w.press("action", "cancel")
	b.stage(kiosk.StageProblem)
}

func TestProblemOffersItsWaysOut(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	toProblem(kiosk.ProblemRegistryDown)(b, w)
	w.open("/k/1/problem")
	w.press("action", "leave")
	w.on("/preview")
	w.says("Il suo codice")

	b = newBranch(t)
	w = begin(t, b)
	toProblem(kiosk.ProblemRegistryDown)(b, w)
	w.open("/k/1/problem")
	w.press("action", "again")
	b.stage(kiosk.StagePreview)
}

func TestDiskFull(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	b.set(func() { b.full = true })
	w.press("action", "qr")
	if w.status != http.StatusInsufficientStorage {
		t.Errorf("status %d", w.status)
	}
	w.says("La memoria di questa postazione è piena")
	w.open("/k/1/need") // what needs no disk goes on
	to(w, "choice=declaration")
	w.on("/facts")
}

func TestFirstViewIsSmall(t *testing.T) {
	b := newBranch(t)
	srv := httptest.NewServer(b.web.Handler())
	defer srv.Close()
	get := func(path string) (*html.Node, int) {
		req, err := http.NewRequest(http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip") // set by hand, it is not undone by the transport
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		doc, err := html.Parse(strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		return doc, len(body)
	}
	doc, total := get("/k/1")
	paths := map[string]bool{b.web.static.url("tw-400.woff2"): true, b.web.static.url("tw-700.woff2"): true}
	for n := range doc.Descendants() {
		switch n.Data {
		case "link":
			paths[attr(n, "href")] = true
		case "script", "img":
			paths[attr(n, "src")] = true
		}
	}
	for p := range paths {
		_, size := get(p)
		total += size
	}
	requests := 1 + len(paths) + 1 // the page, what it names, the stream of live state
	t.Logf("first view: %.1f KiB, %d requests", float64(total)/1024, requests)
	if total > 60<<10 || requests > 8 {
		t.Errorf("first view is %d bytes in %d requests, want at most 61440 in 8", total, requests)
	}
}
