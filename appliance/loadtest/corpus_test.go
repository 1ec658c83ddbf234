package loadtest_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"sportello.example/appliance/loadtest"
)

func TestCorpus(t *testing.T) {
	const n = 10_000
	c := loadtest.Corpus(7, n)
	bytesAll, private := 0, 0
	for i, s := range c {
		var p loadtest.Plain
		if err := json.Unmarshal(s.JSON, &p); err != nil || p.Seq != int64(i+1) || p.Kind != string(s.Event.Kind) || p.Session != s.Event.Session {
			t.Fatalf("event %d: %s (%v)", i, s.JSON, err)
		}
		bytesAll += len(s.JSON)
		if s.Event.Private != nil {
			private++
		}
	}
	if got := bytesAll / n; got < 360 || got > 460 {
		t.Errorf("an event has %d bytes of plain JSON on average, want about 400", got)
	}
	if private < n/60 || private > n/30 {
		t.Errorf("%d of %d events have something to seal", private, n)
	}
	t.Logf("%d bytes, %d of %d private; first %s", bytesAll/n, private, n, c[6].JSON)
	for i, s := range loadtest.Corpus(7, 100) {
		if !bytes.Equal(s.JSON, c[i].JSON) {
			t.Fatal("the corpus is not the same every time")
		}
	}
}
