package box

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"sportello.example/provisioning/durable"
)

// timeFile holds the latest time that the hub has said, about: when the box starts without a battery, it knows at least
// that it is later.
const timeFile = "time"

// readTime returns what writeTime has written, the zero time when there is nothing that can be read.
func readTime(dir string) time.Time {
	b, err := os.ReadFile(filepath.Join(dir, timeFile))
	if err != nil || len(b) > 100 {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil {
		return time.Time{}
	}
	return t
}

func writeTime(dir string, t time.Time) error {
	return durable.Write(filepath.Join(dir, timeFile), []byte(t.UTC().Format(time.RFC3339)+"\n"))
}
