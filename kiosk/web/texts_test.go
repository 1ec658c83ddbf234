package web

import (
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	zxqr "github.com/makiuchi-d/gozxing/qrcode"

	"sportello.example/kiosk"
	"sportello.example/kiosk/locale"
	"sportello.example/sync/health"
)

// usedKeys returns every key that a page can ask for: those that stand in templates and code as they are, and those
// that are made from what the domain holds.
func usedKeys(t *testing.T) map[string]bool {
	t.Helper()
	used := map[string]bool{"since.unknown": true, "since.today": true, "since.yesterday": true, "since.day": true}
	literal := regexp.MustCompile("\"([a-z_]+(?:\\.[a-z0-9_]+)+)\"")
	counted := regexp.MustCompile("count \"([a-z_.]+)\"")
	for _, pattern := range []string{"templates/*.html", "*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range literal.FindAllStringSubmatch(string(b), -1) {
				used[m[1]] = true
			}
			for _, m := range counted.FindAllStringSubmatch(string(b), -1) {
				delete(used, m[1])
				used[m[1]+".one"], used[m[1]+".other"] = true, true
			}
		}
	}
	for key := range used { // what is no key: names of files
		if ext := filepath.Ext(key); slices.Contains([]string{".css", ".js", ".svg", ".html", ".woff2"}, ext) {
			delete(used, key)
		}
	}
	add := func(format string, values ...any) {
		for _, v := range values {
			used[fmt.Sprintf(format, v)] = true
		}
	}
	for name := range newBranch(t).web.steps {
		switch name {
		case kiosk.StepPreview, kiosk.StepProblem: // their titles say what of
		default:
			add("%s.title", name)
		}
	}
	for _, page := range []string{"attract", "language", "help", "spid", "now", "assist", "exit", "goodbye", "kiosks"} {
		add("%s.title", page)
	}
	for _, page := range []string{"advice", "stamp", "login", "code", "collect", "facts", "take"} {
		add("%s.lead", page)
	}
	cat, err := kiosk.LoadCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cat.Certificates() {
		add("cert.%s.name", c.Slug)
		add("cert.%s.text", c.Slug)
	}
	for _, g := range append(cat.Groups(), "other") {
		add("group.%s", g)
	}
	for _, e := range cat.Exemptions() {
		add("exemption.%d.title", e.Code)
		add("exemption.%d.text", e.Code)
	}
	for _, kind := range []string{"title", "text"} {
		add("need.%s."+kind, kiosk.Certificates, kiosk.SelfDeclaration, kiosk.Pickup, "spid", "help", "now")
		for _, r := range kiosk.Recipients() {
			add("recipient.%s."+kind, r)
		}
		add("stamp.%s."+kind, kiosk.StampDue, kiosk.StampExempt)
		add("fill.%s."+kind, kiosk.Typed, kiosk.Blank)
		for _, f := range kiosk.AllFacts() {
			add("facts.%s."+kind, f)
		}
		add("qr.%s."+kind, "old", "cancelled", "refused", "expired")
		add("error.%s."+kind, "notfound", "busy", "disk", "locked", "unknown", "internal", "code_dead", "code_expired")
		add("preview.%s."+kind, "certificate", "declaration", "slip")
	}
	add("holder.%s.title", kiosk.Self, kiosk.Family)
	add("holder.%s.text", kiosk.Family)
	for _, kind := range []string{"title", "text", "now"} {
		add("problem.%s."+kind, kiosk.ProblemOffline, kiosk.ProblemRegistryDown, kiosk.ProblemNotRegistered, kiosk.ProblemNotCertifiable,
			kiosk.ProblemLoginOver, kiosk.ProblemDocument, kiosk.ProblemDiskFull, kiosk.ProblemPrinter, kiosk.ProblemUncertain, kiosk.ProblemNoted, kiosk.ProblemInternal, "waiting")
	}
	for _, tr := range troubles() {
		add("trouble.%s.title", tr)
		add("trouble.%s.text", tr)
		add("trouble.%s.short", tr)
	}
	add("printer.%s", kiosk.PrinterReady, kiosk.PrinterBusy, kiosk.PrinterOffline, kiosk.PrinterNone, "unknown")
	for _, l := range []health.Light{health.Network, health.Hub, health.Registry} {
		add("light."+string(l)+".%s", health.Up, health.Slow, health.Down, health.Unknown)
	}
	add("printing.%s", kiosk.PrintWaiting, kiosk.PrintSending, kiosk.PrintPrinting, kiosk.PrintStopped)
	add("conflict.%s", "same_facts", "registry")
	add("code.%s", "label", "hint", "wrong.one", "wrong.other")
	add("collect.%s", "label", "hint")
	add("wrong.%s", "missing", "long", "letters", "date", "future", "code", "choice", "full")
	add("review.%s", "facts", "fill", "person", "birth", "address", "since", "civil", "relatives", "certificate", "recipient", "holder", "stamp")
	for _, step := range []kiosk.Step{
		kiosk.StepPerson, kiosk.StepBirth, kiosk.StepAddress, kiosk.StepSince, kiosk.StepCivil, kiosk.StepRelatives,
	} {
		for _, f := range kiosk.FormFields(step) {
			add("field.%s.label", f.Name)
			for _, o := range f.Options {
				add("field."+f.Name+".%s", o)
			}
		}
	}
	return used
}

func TestEveryTextIsThereAndUsed(t *testing.T) {
	used := usedKeys(t)
	texts, err := locale.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range texts.Languages() {
		for key := range used {
			if !l.Has(key) {
				t.Errorf("%s: no text %s", l.Tag, key)
			}
		}
		for key := range l.Texts {
			optional := strings.HasPrefix(key, "field.") && strings.HasSuffix(key, ".hint") || // some fields need none
				strings.HasPrefix(key, "staff.") // package staff looks after its own
			if !used[key] && !optional {
				t.Errorf("%s: nobody uses %s", l.Tag, key)
			}
		}
	}
}

// TestQRReadsBack reads the QR from the very path that stands on the page.
func TestQRReadsBack(t *testing.T) {
	b := newBranch(t)
	w := begin(t, b)
	ask(w, "self")
	w.press("action", "qr")
	path, size := "", 0
	for p := range find(w.doc, "path") {
		if attr(p, "class") == "qr1" {
			path = attr(p, "d")
			for _, a := range p.Parent.Attr {
				if strings.EqualFold(a.Key, "viewBox") {
					if _, err := fmt.Sscanf(a.Val, "0 0 %d", &size); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	const scale = 4
	img := image.NewGray(image.Rect(0, 0, size*scale, size*scale))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	for run := range strings.SplitSeq(strings.Trim(path, "z"), "z") {
		var x, y, n, back int
		if _, err := fmt.Sscanf(run, "M%d %dh%dv1H%d", &x, &y, &n, &back); err != nil || back != x {
			t.Fatalf("run %q: %v", run, err)
		}
		for dy := range scale {
			for dx := range n * scale {
				img.SetGray(x*scale+dx, y*scale+dy, color.Gray{})
			}
		}
	}
	bits, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	got, err := zxqr.NewQRCodeReader().Decode(bits, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetText() != challenge {
		t.Errorf("the QR says %q, want %q", got.GetText(), challenge)
	}
	css, err := os.ReadFile("static/kiosk.css")
	if err != nil {
		t.Fatal(err)
	}
	if class := fmt.Sprintf(".m%d{--n:%d}", size, size); !strings.Contains(string(css), class) {
		t.Errorf("the style sheet does not know a QR of %d modules", size)
	}
}
