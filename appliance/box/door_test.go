package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sportello.example/kiosk/staff"
)

// fewRounds keeps the tests fast: with the race detector the real number takes a second for each code.
const fewRounds = 1000

func TestDoor(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	d := newDoor(dir, func() time.Time { return now })
	from := "192.0.2.7"
	want := func(what, code string, want error) {
		t.Helper()
		if err := d.Enter(from, code); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	want("no code was made", "12345678", staff.ErrNoCode)

	code, err := newStaffCode(dir, fewRounds)
	if err != nil {
		t.Fatal(err)
	}
	if len(digits(code)) != 8 || strings.Trim(digits(code), "0123456789") != "" {
		t.Errorf("code %q", code)
	}
	stored, err := os.ReadFile(filepath.Join(dir, staffFile))
	if err != nil || strings.Contains(string(stored), digits(code)) {
		t.Errorf("stored %s: %v", stored, err)
	}
	want("as printed", code, nil)
	want("without the blank", digits(code), nil)

	wrong := "0" + digits(code)
	for range staffTries {
		want("wrong", wrong, staff.ErrWrong)
	}
	want("right, after too many wrong ones", code, staff.ErrLocked)
	from = "192.0.2.8"
	want("right, from another place", code, nil)
	for n := staffTries; n < staffTriesAll; n++ {
		from = fmt.Sprint("192.0.2.1", n)
		want("wrong, from everywhere", wrong, staff.ErrWrong)
	}
	from = "192.0.2.8"
	want("right, after too many wrong ones from everywhere", code, staff.ErrLocked)
	now = now.Add(staffWindow)
	want("right, a quarter of an hour later", code, nil)

	next, err := newStaffCode(dir, fewRounds)
	if err != nil {
		t.Fatal(err)
	}
	if next == code {
		t.Fatal("the same code twice")
	}
	want("the code before", code, staff.ErrWrong)
	want("the new code", next, nil)

	if err := os.WriteFile(filepath.Join(dir, staffFile), []byte(`{"rounds":0}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Enter(from, next); err == nil || !strings.Contains(err.Error(), "appliance staff code") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestNewStaffCodeOpensALockedDoor(t *testing.T) {
	dir := t.TempDir()
	if _, err := newStaffCode(dir, fewRounds); err != nil {
		t.Fatal(err)
	}
	d := newDoor(dir, time.Now)
	for range staffTries {
		_ = d.Enter("", "x")
	}
	if err := d.Enter("", "x"); !errors.Is(err, staff.ErrLocked) {
		t.Fatalf("not locked: %v", err)
	}
	code, err := newStaffCode(dir, fewRounds)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Enter("", code); err != nil {
		t.Errorf("the new code: %v", err)
	}
}
