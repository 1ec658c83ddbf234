package storetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"sportello.example/sync/desired"
	"sportello.example/sync/hub/content"
)

// changes returns the counter of changes.
func changes(t *testing.T, s Store) uint64 {
	t.Helper()
	n, err := s.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// raised fails the test unless do raises the counter of changes.
func raised(t *testing.T, s Store, what string, do func() error, want error) {
	t.Helper()
	before := changes(t, s)
	same(t, what, do(), want)
	if after := changes(t, s); (after > before) != (want == nil) {
		t.Errorf("%s: counter of changes goes from %d to %d", what, before, after)
	}
}

func kept(t *testing.T, s Store) content.Kept {
	t.Helper()
	k, err := s.Kept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func notices(t *testing.T, s Store) {
	if k := kept(t, s); len(k.Notices)+len(k.Items)+len(k.Keys)+len(k.GoBack) != 0 || k.Changes != changes(t, s) {
		t.Errorf("at first: %+v", k)
	}
	all := content.Notice{Notice: desired.Notice{
		ID: "b", Severity: desired.Emergency, From: now, Until: now.Add(time.Hour), Text: map[string]string{"it": "Chiuso “oggi” \U0001F6A7", "en": "Closed"},
	}, Created: now}
	one := content.Notice{Notice: desired.Notice{ID: "a", Severity: desired.Info, Text: map[string]string{"it": "Ciao"}}, Branch: "Harar", Box: 7, Created: now.Add(time.Second)}
	raised(t, s, "add", func() error { return s.AddNotice(t.Context(), all) }, nil)
	raised(t, s, "add another", func() error { return s.AddNotice(t.Context(), one) }, nil)
	if got, want := kept(t, s).Notices, []content.Notice{all, one}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	raised(t, s, "remove", func() error { return s.RemoveNotice(t.Context(), "b", now) }, nil)
	raised(t, s, "remove again", func() error { return s.RemoveNotice(t.Context(), "b", now) }, content.ErrNoNotice)
	raised(t, s, "remove none", func() error { return s.RemoveNotice(t.Context(), "zz", now) }, content.ErrNoNotice)
	if got := kept(t, s).Notices; len(got) != 1 || got[0].ID != "a" {
		t.Errorf("got %+v", got)
	}
	for _, release := range []string{"v1.4.0", ""} {
		raised(t, s, "require a release", func() error { return s.SetMinProgram(t.Context(), release) }, nil)
		if got := kept(t, s).MinProgram; got != release {
			t.Errorf("required is %q, want %q", got, release)
		}
	}
}

// addFile stores bytes in pieces and returns what names them.
func addFile(t *testing.T, s Store, b []byte) (sum string, size int64) {
	t.Helper()
	hash := sha256.Sum256(b)
	sum = hex.EncodeToString(hash[:])
	for n, part := range slices.Collect(slices.Chunk(b, content.PartSize)) {
		if err := s.AddPart(t.Context(), sum, n, part, now); err != nil {
			t.Fatal(err)
		}
	}
	return sum, int64(len(b))
}

func files(t *testing.T, s Store) {
	body := bytes.Repeat([]byte("0123456789abcdef"), content.PartSize/16+100)
	before := changes(t, s)
	sum, size := addFile(t, s, body)
	if changes(t, s) != before {
		t.Error("a piece that nothing names is a change")
	}
	put := func(i content.Item) func() error { return func() error { return s.PutItem(t.Context(), i) } }
	raised(t, s, "a file in part", put(content.Item{Name: "x", SHA256: sum, Size: size + 1, Created: now}), content.ErrNoItem)
	raised(t, s, "no file", put(content.Item{Name: "x", SHA256: "00", Size: 1, Created: now}), content.ErrNoItem)
	all := content.Item{Name: "prices.json", SHA256: sum, Size: size, Created: now}
	own := content.Item{Name: "prices.json", Box: 3, Created: now}
	first := content.Item{Name: "a.json", Box: 4, SHA256: sum, Size: size, Created: now}
	raised(t, s, "put", put(all), nil)
	raised(t, s, "put nothing for one box", put(own), nil)
	raised(t, s, "put for one box", put(first), nil)
	if got, want := kept(t, s).Items, []content.Item{first, all, own}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var got []byte
	for n := range 2 {
		b, err := s.Part(t.Context(), sum, n)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, body) {
		t.Errorf("%d bytes come back, not the %d", len(got), len(body))
	}
	_, err := s.Part(t.Context(), sum, 2)
	same(t, "no such piece", err, content.ErrNoItem)

	raised(t, s, "remove", func() error { return s.RemoveItem(t.Context(), "prices.json", 0, now) }, nil)
	raised(t, s, "remove again", func() error { return s.RemoveItem(t.Context(), "prices.json", 0, now) }, content.ErrNoItem)
	raised(t, s, "remove all of a box", func() error { return s.RemoveItem(t.Context(), "", 4, now) }, nil)
	raised(t, s, "remove all of a box again", func() error { return s.RemoveItem(t.Context(), "", 4, now) }, content.ErrNoItem)
	if got := kept(t, s).Items; len(got) != 1 || got[0] != own {
		t.Errorf("got %+v", got)
	}
	other, otherSize := addFile(t, s, []byte("other"))
	again := func(at time.Time) {
		t.Helper()
		if err := s.PutItem(t.Context(), content.Item{Name: "o", SHA256: other, Size: otherSize, Created: at}); err != nil {
			t.Fatal(err)
		}
	}
	again(now.Add(content.KeepBlobs - time.Hour))
	if _, err := s.Part(t.Context(), sum, 0); err != nil {
		t.Errorf("bytes are gone too early: %v", err)
	}
	again(now.Add(content.KeepBlobs + time.Hour))
	_, err = s.Part(t.Context(), sum, 0)
	same(t, "bytes that nothing has named for long", err, content.ErrNoItem)
	if _, err := s.Part(t.Context(), other, 0); err != nil {
		t.Errorf("bytes that are named are gone: %v", err)
	}
}

// issue gives a box a document with this number and file.
func issue(t *testing.T, s Store, is content.Issued) {
	t.Helper()
	is.Signed = desired.Signed{Body: []byte("body"), Sig: []byte("sig")}
	if err := s.Issue(t.Context(), []uint32{is.Box}, func(content.Issued, uint64) (content.Issued, bool, error) { return is, true, nil }); err != nil {
		t.Fatal(err)
	}
}

func documents(t *testing.T, s Store) {
	_, err := s.Signed(t.Context(), 5)
	same(t, "none yet", err, content.ErrNoVersion)
	blob := desired.Blob{Name: "a.json", SHA256: "aa", Size: 2}
	is := content.Issued{
		Box: 5, Version: 1, Highest: 1, Core: []byte{1, 2}, Issued: now, Expires: now.Add(time.Hour),
		Signed: desired.Signed{Body: []byte("body"), Sig: []byte("sig")}, Content: []desired.Blob{blob},
	}
	before := changes(t, s)
	var seen []content.Issued
	err = s.Issue(t.Context(), []uint32{4, 5}, func(last content.Issued, goBack uint64) (content.Issued, bool, error) {
		seen = append(seen, last)
		if goBack != 0 {
			t.Errorf("leave to go back to %d", goBack)
		}
		return is, last.Box == 5, nil
	})
	if err != nil || len(seen) != 2 || seen[0].Box != 4 || seen[0].Version != 0 || seen[1].Box != 5 || seen[1].Version != 0 {
		t.Errorf("got %+v, %v", seen, err)
	}
	if changes(t, s) != before {
		t.Error("a document that was issued is a change: every box would be woken by every other")
	}
	_, err = s.Signed(t.Context(), 4)
	same(t, "not issued", err, content.ErrNoVersion)
	got, err := s.Signed(t.Context(), 5)
	want := is
	want.Content = nil
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	boom := errors.New("boom")
	is.Version, is.Highest = 2, 2
	same(t, "what fails", s.Issue(t.Context(), []uint32{5, 6}, func(last content.Issued, _ uint64) (content.Issued, bool, error) {
		if last.Box == 6 {
			return content.Issued{}, false, boom
		}
		want.Signed = desired.Signed{}
		if !reflect.DeepEqual(last, want) {
			t.Errorf("last is  %+v\nwant %+v", last, want)
		}
		return is, true, nil
	}), boom)
	if got, err := s.Signed(t.Context(), 5); err != nil || got.Version != 1 {
		t.Errorf("what failed was written: %+v, %v", got, err)
	}
	for n := range uint64(content.KeepVersions + 3) {
		is.Version, is.Highest, is.Issued = n+2, n+2, now.Add(time.Duration(n)*time.Minute)
		issue(t, s, is)
	}
	vs, err := s.Versions(t.Context(), 5)
	if err != nil || len(vs) != content.KeepVersions || vs[0].Number != content.KeepVersions+4 || !vs[0].Issued.Equal(is.Issued) ||
		!reflect.DeepEqual(vs[0].Content, []desired.Blob{blob}) {
		t.Errorf("got %d versions, %v: %+v", len(vs), err, vs)
	}
	if vs, err := s.Versions(t.Context(), 99); err != nil || len(vs) != 0 {
		t.Errorf("no box: %+v, %v", vs, err)
	}
}

// documentsAtOnce checks that nobody comes between what was read and what is written.
func documentsAtOnce(t *testing.T, s Store) {
	const hubs, boxes = 8, 20
	var numbers []uint32
	for n := range uint32(boxes) {
		numbers = append(numbers, n+1)
	}
	var wg sync.WaitGroup
	for range hubs {
		wg.Go(func() {
			err := s.Issue(t.Context(), numbers, func(last content.Issued, _ uint64) (content.Issued, bool, error) {
				last.Version++
				last.Highest, last.Core, last.Issued, last.Expires = last.Version, []byte{1}, now, now
				last.Signed = desired.Signed{Body: []byte("b"), Sig: []byte("s")}
				return last, true, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, n := range numbers {
		if is, err := s.Signed(t.Context(), n); err != nil || is.Version != hubs {
			t.Errorf("box %d has version %d, %v, want %d", n, is.Version, err, hubs)
		}
	}
}

func goingBack(t *testing.T, s Store) {
	put := func(name string, box uint32, text string) desired.Blob {
		t.Helper()
		sum, size := addFile(t, s, []byte(text))
		if err := s.PutItem(t.Context(), content.Item{Name: name, Box: box, SHA256: sum, Size: size, Created: now}); err != nil {
			t.Fatal(err)
		}
		return desired.Blob{Name: name, SHA256: sum, Size: size}
	}
	old := put("prices.json", 0, "old")
	issue(t, s, content.Issued{Box: 5, Version: 1, Highest: 1, Core: []byte{1}, Issued: now, Expires: now, Content: []desired.Blob{old}})
	put("prices.json", 0, "new")
	put("more.json", 0, "more")
	put("own.json", 5, "own")
	issue(t, s, content.Issued{Box: 5, Version: 2, Highest: 2, Core: []byte{2}, Issued: now, Expires: now})
	back := func(box uint32, version uint64) func() error {
		return func() error { return s.GoBack(t.Context(), box, version, now) }
	}
	raised(t, s, "a version that never was", back(5, 7), content.ErrNoVersion)
	raised(t, s, "another box's", back(6, 1), content.ErrNoVersion)
	raised(t, s, "back", back(5, 1), nil)
	k := kept(t, s)
	if got := fmt.Sprint(k.GoBack); got != "map[5:1]" {
		t.Errorf("leave is %s", got)
	}
	var own []string
	for _, i := range k.Items {
		if i.Box == 5 {
			own = append(own, i.Name+" "+i.SHA256)
		}
	}
	if want := []string{"more.json ", "prices.json " + old.SHA256}; !slices.Equal(own, want) {
		t.Errorf("items of the box are %q, want %q", own, want)
	}
	try := func(is content.Issued, write bool) (leave uint64) {
		t.Helper()
		if err := s.Issue(t.Context(), []uint32{5}, func(last content.Issued, goBack uint64) (content.Issued, bool, error) {
			leave = goBack
			return is, write, nil
		}); err != nil {
			t.Fatal(err)
		}
		return leave
	}
	used := content.Issued{Box: 5, Version: 1, Highest: 2, Rollback: 2, Core: []byte{1}, Issued: now, Expires: now}
	used.Signed = desired.Signed{Body: []byte("body"), Sig: []byte("sig")}
	if n := try(used, false); n != 1 {
		t.Errorf("leave to go back to %d", n)
	}
	before := changes(t, s)
	if n := try(used, true); n != 1 {
		t.Errorf("leave to go back to %d, though it was not used", n)
	}
	if changes(t, s) == before {
		t.Error("that leave was used is no change")
	}
	if n := try(used, false); n != 0 {
		t.Errorf("leave to go back to %d, though it was used", n)
	}
	if is, err := s.Signed(t.Context(), 5); err != nil || is.Version != 1 || is.Highest != 2 || is.Rollback != 2 {
		t.Errorf("got %+v, %v", is, err)
	}
	// A leave that is of no use is dropped.
	raised(t, s, "forward", back(5, 2), nil)
	try(used, false)
	if k := kept(t, s); len(k.GoBack) != 0 {
		t.Errorf("leave to go back to a version that is not behind: %v", k.GoBack)
	}
	// The bytes of a version may be gone.
	if err := s.RemoveItem(t.Context(), "", 5, now); err != nil {
		t.Fatal(err)
	}
	if err := s.PutItem(t.Context(), content.Item{Name: "z", Created: now.Add(content.KeepBlobs + time.Hour)}); err != nil {
		t.Fatal(err)
	}
	issue(t, s, content.Issued{Box: 5, Version: 3, Highest: 3, Core: []byte{2}, Issued: now, Expires: now, Content: []desired.Blob{old}})
	raised(t, s, "bytes that are gone", back(5, 3), content.ErrNoItem)
	if k := kept(t, s); len(k.GoBack) != 0 {
		t.Errorf("what failed was written: %v", k.GoBack)
	}
}

func sealKeys(t *testing.T, s Store) {
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	raised(t, s, "add", func() error { return s.AddKey(t.Context(), a, now) }, nil)
	raised(t, s, "add another", func() error { return s.AddKey(t.Context(), b, now.Add(time.Hour)) }, nil)
	first := content.Key{Public: a, Added: now}
	second := content.Key{Public: b, Added: now.Add(time.Hour)}
	if got, want := kept(t, s).Keys, []content.Key{second, first}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	raised(t, s, "retire", func() error { return s.RetireKey(t.Context(), a, now.Add(2*time.Hour)) }, nil)
	raised(t, s, "retire again", func() error { return s.RetireKey(t.Context(), a, now) }, content.ErrNoKey)
	raised(t, s, "retire none", func() error { return s.RetireKey(t.Context(), []byte("x"), now) }, content.ErrNoKey)
	first.Retired = now.Add(2 * time.Hour)
	if got, err := s.Keys(t.Context()); err != nil || !reflect.DeepEqual(got, []content.Key{second, first}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got := kept(t, s).Keys; !reflect.DeepEqual(got, []content.Key{second}) {
		t.Errorf("kept %+v", got)
	}
}
