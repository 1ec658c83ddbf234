package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sportello.example/appliance/box"
	"sportello.example/sync/hub/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"appliance": func() { os.Exit(box.Main(os.Args[1:], box.Options{})) },
		"hub":       func() { os.Exit(server.Main(os.Args[1:], server.Options{})) },
	})
}

// TestScript runs the scripts of testdata/script, which read like a session at the terminal. Beside what testscript
// knows they say:
//
//	freeport NAME             sets NAME to a port that nobody uses
//	field NAME FIELD          sets NAME to a field of the JSON object on the last standard output
//	expand FILE               puts the variables' values in place of their names in a file
//	eventually PATTERN CMD…   runs a command until its standard output matches, or twenty seconds have passed
//	cut FILE COPY BYTES       copies a file without its last bytes
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport":   freePort,
			"field":      field,
			"expand":     expand,
			"eventually": eventually,
			"cut":        cutFile,
		},
	})
}

func freePort(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(ln.Addr().String())
	ts.Check(err)
	ts.Check(ln.Close())
	ts.Setenv(args[0], port)
}

func field(ts *testscript.TestScript, _ bool, args []string) {
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	ts.Setenv(args[0], fmt.Sprint(v[args[1]]))
}

func expand(ts *testscript.TestScript, _ bool, args []string) {
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func eventually(ts *testscript.TestScript, _ bool, args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	var out string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_ = ts.Exec(args[1], args[2:]...)
		if out = ts.ReadFile("stdout"); want.MatchString(out) {
			return
		}
	}
	ts.Fatalf("%s: nothing on the standard output matches %q:\n%s%s", strings.Join(args[1:], " "), args[0], out, ts.ReadFile("stderr"))
}

func cutFile(ts *testscript.TestScript, _ bool, args []string) {
	var n int
	_, err := fmt.Sscan(args[2], &n)
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b[:len(b)-n], 0o600))
}
