// The handshakes of a million visits are not to be safe from quantum computers.
//
//go:debug tlsmlkem=0

package interleave_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sportello.example/appliance/sqlite"
)

// share is how many documents are printed in one town: then another begins, with other printers.
const share = 2500

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(name), strconv.Itoa(otherwise)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestEverySheetIntoTheRightHands(t *testing.T) {
	t.Parallel()
	jobs, seed := number(t, "SPORTELLO_JOBS", visits), number(t, "SPORTELLO_SEED", 1)
	var mu sync.Mutex
	total := map[string]int{}
	began := time.Now()
	t.Run("towns", func(t *testing.T) {
		for n := 0; n*share < jobs; n++ {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					faults, figures := live(t, uint64(seed)<<32+uint64(n), min(share, jobs-n*share), how{tls: n%4 == 0, rough: n%4 == 1})
					report(t, faults)
					mu.Lock()
					defer mu.Unlock()
					for what, n := range figures {
						total[what] += n
					}
				})
			})
		}
	})
	t.Logf("%d documents, seed %d, %v\n%s", jobs, seed, time.Since(began).Round(time.Second), table(total))
}

func report(t *testing.T, faults []string) {
	t.Helper()
	if len(faults) > 0 {
		t.Error(strings.Join(faults[:min(len(faults), 100)], "\n"))
	}
}

func table(figures map[string]int) string {
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(figures)) {
		lines = append(lines, fmt.Sprintf("%8d %s", figures[what], what))
	}
	return strings.Join(lines, "\n")
}

// fastDir is a directory in memory where there is one: what a disk does is not the matter here.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "interleave") //nolint:usetesting // t.TempDir may be on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestWithTheRealJournal is the same with the box's database, opened anew by every box that starts.
func TestWithTheRealJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(fastDir(t), "box.db")
	synctest.Test(t, func(t *testing.T) {
		faults, figures := live(t, uint64(number(t, "SPORTELLO_SEED", 1)), realVisits, how{tls: true, alone: true, open: func() (store, error) {
			s, aside, err := sqlite.Open(context.Background(), sqlite.Config{Path: path, Now: time.Now})
			if aside != "" {
				t.Errorf("the database was set aside as %s", aside)
			}
			return s, err
		}})
		report(t, faults)
		t.Log(table(figures))
	})
}
