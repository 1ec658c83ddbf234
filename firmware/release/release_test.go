package release

import (
	"runtime/debug"
	"testing"
	"time"
)

func TestString(t *testing.T) {
	set := func(kv ...string) (s []debug.BuildSetting) {
		for i := 0; i < len(kv); i += 2 {
			s = append(s, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return s
	}
	for _, tt := range []struct {
		name string
		in   debug.BuildInfo
		want string
	}{
		{"released", debug.BuildInfo{
			GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"},
			Settings: set("GOARCH", "arm64", "GOOS", "linux", "vcs.revision", "0123456789abcdef0123", "vcs.time", "2026-11-22T08:00:00Z", "vcs.modified", "false"),
		}, "v1.2.3 0123456789ab 2026-11-22 (go1.26.8 linux/arm64)"},
		{"changed", debug.BuildInfo{
			GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"},
			Settings: set("GOOS", "linux", "GOARCH", "amd64", "vcs.revision", "0123", "vcs.modified", "true"),
		}, "devel 0123+changes (go1.26.8 linux/amd64)"},
		{"no version control", debug.BuildInfo{GoVersion: "go1.26.8", Settings: set("GOOS", "linux", "GOARCH", "amd64")}, "devel (go1.26.8 linux/amd64)"},
		{"commit time is nonsense", debug.BuildInfo{GoVersion: "go1.26.8", Settings: set("GOOS", "linux", "GOARCH", "arm", "vcs.time", "yesterday")}, "devel (go1.26.8 linux/arm)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := of(&tt.in).String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("time is UTC", func(t *testing.T) {
		i := of(&debug.BuildInfo{Settings: set("vcs.time", "2026-11-22T01:00:00+02:00")})
		if want := time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC); i.Time != want {
			t.Errorf("got %v, want %v", i.Time, want)
		}
	})
	t.Run("this test knows its compiler", func(t *testing.T) {
		if Current().Go == "" {
			t.Errorf("got %+v", Current())
		}
	})
}
