package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "sportello.example/"

// order is the order of the top-level folders. A package may import packages of its own folder and of folders to the
// right of it.
var order = []string{"appliance", "kiosk", "sync", "provisioning", "firmware"}

// owners says which packages import a module that is not ours. Simulators and tests may too.
var owners = map[string][]string{
	"modernc.org/sqlite":                            {"sync/sqldb"},
	"github.com/labstack/echo/v4":                   {"kiosk/web", "sync/hub/web"},
	"github.com/grandcat/zeroconf":                  {"appliance/dnssd"},
	"github.com/miekg/dns":                          {"appliance/dnssd"},
	"github.com/OpenPrinting/goipp":                 {"appliance/ipp"},
	"github.com/skip2/go-qrcode":                    {"kiosk/web", "appliance/escpos", "appliance/adoption"},
	"github.com/google/uuid":                        {"kiosk"},
	"github.com/russellhaering/goxmldsig":           {"sync/hub/spid"},
	"github.com/beevik/etree":                       {"sync/hub/spid"},
	"github.com/mattermost/xml-roundtrip-validator": {"sync/hub/spid"},
	"github.com/klippa-app/go-pdfium":               {"appliance/raster"},
	"github.com/tetratelabs/wazero":                 {"appliance/raster"},
	"codeberg.org/go-pdf/fpdf":                      {"kiosk/paper"},
	"github.com/pelletier/go-toml/v2":               {"firmware/program", "appliance/demo"},
	"github.com/spf13/cobra":                        {"firmware/program", "appliance/box", "appliance/demo", "sync/hub/server"},
	"github.com/smallstep/pkcs7":                    {},
	"github.com/makiuchi-d/gozxing":                 {"appliance/demo"},
	"golang.org/x/net":                              {"appliance/demo", "appliance/dnssd"},
	"golang.org/x/sys":                              {"appliance/box", "appliance/dnssd", "appliance/ipp", "appliance/raster", "sync/hub/sqlite", "sync/stick"},
	"golang.org/x/sync":                             {"appliance/box"},
	"github.com/jackc/pgx/v5":                       {"sync/hub/postgres"},
	"github.com/klauspost/compress":                 {"sync/wire"},
	"pgregory.net/rapid":                            {}, // tests only
	"github.com/Shopify/toxiproxy/v2":               {}, // tests only
}

// topLevel is all that may stand beside the folders.
var topLevel = []string{
	"testdata", "go.mod", "go.sum", "README.md", "LICENSE", "publiccode.yml", ".ci", ".git", ".gitignore",
}

type pkg struct {
	ImportPath, Name, Doc string
	Imports               []string
	Deps                  []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Doc,Imports,Deps", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ps []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

func simulator(path string) bool { return strings.HasSuffix(path, "test") }

// moduleOf returns the module of owners that a package of another module belongs to, "" when it has no owner.
func moduleOf(imp string) string {
	for m := range owners {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return m
		}
	}
	return ""
}

func TestLayout(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		top, _, _ := strings.Cut(path, "/")
		i := slices.Index(order, top)
		if i < 0 {
			t.Errorf("%s: not in a known folder", path)
		}
		if p.Doc == "" {
			t.Errorf("%s: no package comment", path)
		}
		if p.Name == "sync" {
			t.Errorf("%s: a package named sync hides the standard library's", path)
		}
		for _, imp := range p.Imports {
			checkImport(t, path, i, imp)
		}
	}
}

func checkImport(t *testing.T, path string, folder int, imp string) {
	t.Helper()
	rest, ours := strings.CutPrefix(imp, module)
	switch {
	case ours:
		top, _, _ := strings.Cut(rest, "/")
		if slices.Index(order, top) < folder {
			t.Errorf("%s imports %s: arrows go %s", path, rest, strings.Join(order, " → "))
		}
		if simulator(rest) && !simulator(path) && path != "appliance/demo" {
			t.Errorf("%s imports the simulator %s", path, rest)
		}
	case !strings.Contains(strings.Split(imp, "/")[0], "."):
		return // standard library
	case simulator(path):
		return
	default:
		m := moduleOf(imp)
		if m == "" {
			t.Errorf("%s imports %s, which has no owner: add it to owners", path, imp)
		} else if !slices.Contains(owners[m], path) {
			t.Errorf("%s imports %s, which belongs to %v", path, imp, owners[m])
		}
	}
}

// TestPrograms keeps apart what must never be linked together.
func TestPrograms(t *testing.T) {
	forbidden := map[string][]string{
		"appliance": {"sync/hub", "provisioning/ca", "appliance/demo"}, // a stolen box holds nothing of the hub
		"sync/hub":  {"appliance", "kiosk"},
	}
	modules := map[string][]string{
		"appliance": {"github.com/jackc/pgx/v5", "pgregory.net/rapid", "github.com/Shopify/toxiproxy/v2"},
		"sync/hub":  {"pgregory.net/rapid", "github.com/Shopify/toxiproxy/v2"},
	}
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, dep := range p.Deps {
			rest, ours := strings.CutPrefix(dep, module)
			if !ours {
				if m := moduleOf(dep); m != "" && slices.Contains(modules[path], m) {
					t.Errorf("program %s links %s", path, dep)
				}
				continue
			}
			for _, f := range forbidden[path] {
				if rest == f || strings.HasPrefix(rest, f+"/") {
					t.Errorf("program %s links %s", path, rest)
				}
			}
			if _, program := forbidden[path]; program && simulator(rest) {
				t.Errorf("program %s links the simulator %s", path, rest)
			}
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(order, e.Name()) && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s: not one of the fixed top-level names", e.Name())
		}
	}
}
