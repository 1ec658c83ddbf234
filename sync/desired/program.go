package desired

import (
	"cmp"
	"strconv"
	"strings"
)

// programFits says whether a program of this release may follow a document that asks for at least that one. Both are
// versions as package release says them: v1.2.3, or what Go makes of a commit without a tag, v1.2.4-0.20261122…. A
// program that was built without one is a developer's, and may follow everything; a demand that cannot be read is one
// for a newer program.
func programFits(release, least string) bool {
	if least == "" {
		return true
	}
	want, ok := parseVersion(least)
	if !ok {
		return false
	}
	have, ok := parseVersion(release)
	return !ok || have.compare(want) >= 0
}

// ValidRelease says whether s can be asked for by a document: whether it is a version such as v1.2.3.
func ValidRelease(s string) bool {
	_, ok := parseVersion(s)
	return ok
}

// version is a version by the rules of Semantic Versioning 2.0.0.
type version struct {
	number [3]uint64
	pre    []string
}

func parseVersion(s string) (v version, ok bool) {
	s, ok = strings.CutPrefix(s, "v")
	if !ok || len(s) > 100 {
		return version{}, false
	}
	s, _, _ = strings.Cut(s, "+") // the build counts for nothing
	s, pre, has := strings.Cut(s, "-")
	parts := strings.Split(s, ".")
	if len(parts) != len(v.number) {
		return version{}, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 63)
		if err != nil {
			return version{}, false
		}
		v.number[i] = n
	}
	if has {
		v.pre = strings.Split(pre, ".")
	}
	return v, true
}

// compare orders versions (§11): what comes before a release is lower than it.
func (v version) compare(w version) int {
	for i := range v.number {
		if c := cmp.Compare(v.number[i], w.number[i]); c != 0 {
			return c
		}
	}
	switch {
	case len(v.pre) == 0 && len(w.pre) == 0:
		return 0
	case len(v.pre) == 0:
		return 1
	case len(w.pre) == 0:
		return -1
	}
	for i := range min(len(v.pre), len(w.pre)) {
		if c := compareIdentifiers(v.pre[i], w.pre[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.pre), len(w.pre))
}

func compareIdentifiers(a, b string) int {
	x, errX := strconv.ParseUint(a, 10, 63)
	y, errY := strconv.ParseUint(b, 10, 63)
	switch {
	case errX == nil && errY == nil:
		return cmp.Compare(x, y)
	case errX == nil: // numbers are lower than words
		return -1
	case errY == nil:
		return 1
	}
	return cmp.Compare(a, b)
}
