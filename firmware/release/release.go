// Package release says which release of this project a program is.
package release

import (
	"fmt"
	"runtime/debug"
	"time"
)

// Info identifies a program.
type Info struct {
	Version string    // "v1.2.3", or "devel" when the build was not of a tagged version
	Commit  string    // hash of the source, "" when unknown
	Time    time.Time // of that commit, UTC; zero when unknown
	Changed bool      // whether the source had changes that were not committed
	Go      string    // compiler and platform, "go1.26.8 linux/arm64"
}

// Current describes the running program by what the compiler wrote into it.
func Current() Info {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: "devel"}
	}
	return of(b)
}

func of(b *debug.BuildInfo) Info {
	i := Info{Version: "devel"}
	if v := b.Main.Version; v != "" && v != "(devel)" {
		i.Version = v
	}
	var system, arch string
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.time":
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				i.Time = t.UTC()
			}
		case "vcs.modified":
			i.Changed = s.Value == "true"
		case "GOOS":
			system = s.Value
		case "GOARCH":
			arch = s.Value
		}
	}
	i.Go = fmt.Sprintf("%s %s/%s", b.GoVersion, system, arch)
	return i
}

// String returns one line for people: version, commit and its date, compiler.
func (i Info) String() string {
	s := i.Version
	if i.Commit != "" {
		s += " " + i.Commit[:min(12, len(i.Commit))]
	}
	if i.Changed {
		s += "+changes"
	}
	if !i.Time.IsZero() {
		s += " " + i.Time.Format(time.DateOnly)
	}
	if i.Go != "" {
		s += " (" + i.Go + ")"
	}
	return s
}
