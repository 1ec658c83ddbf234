package ingest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
)

// disk is a box's disk: events of one chain, as text.
type disk struct {
	chain envelope.Chain
	first uint64
	texts []string // "#3" stands for three that are missing
}

// hash returns the chain's hash after a number, and the entries up to it.
func (d disk) entries(upTo uint64) (h envelope.Hash, out []envelope.Entry) {
	h = envelope.Genesis(d.chain)
	n := d.first - 1
	for _, text := range d.texts {
		if n >= upTo {
			break
		}
		e := envelope.Entry{Encoded: []byte(text)}
		var count uint64
		if _, err := fmt.Sscanf(text, "#%d", &count); err == nil {
			e = envelope.Entry{Missing: &envelope.Missing{Count: count, Reason: envelope.Damaged, Hash: h.Next([]byte(text))}}
		}
		h, n = h.After(e), n+e.Count()
		out = append(out, e)
	}
	return h, out
}

// run is the run from one number to another.
func (d disk) run(from, to uint64) envelope.Run {
	r := envelope.Run{Chain: d.chain, First: from, Oldest: from == d.first}
	var skip []envelope.Entry
	r.Prev, skip = d.entries(from - 1)
	var all []envelope.Entry
	r.Head, all = d.entries(to)
	r.Entries = all[len(skip):]
	return r
}

func texts(from, to int, mark string) (out []string) {
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint("event ", i, mark))
	}
	return out
}

func TestJudge(t *testing.T) {
	c := envelope.Chain{Epoch: "00112233445566778899aabbccddeeff", Stream: envelope.Legal}
	plain := disk{c, 1, texts(1, 12, "")}
	// A clone of the disk after number 6, which went on otherwise.
	clone := disk{c, 1, append(texts(1, 6, ""), texts(7, 12, "'")...)}
	second := disk{c, 1, append(texts(1, 3, ""), texts(4, 9, "''")...)}
	other := disk{c, 1, texts(1, 12, "*")}
	holes := disk{c, 1, append(append(texts(1, 3, ""), "#3"), texts(7, 9, "")...)}
	// What was let go, or counted by the hour, after the events before had been sent; and with more let go later.
	gone := disk{c, 1, append(append(texts(1, 3, ""), "#5"), texts(9, 12, "")...)}
	goneTo := func(n uint64) envelope.Run { // the events of plain up to n as one stretch from 4 on
		h, _ := plain.entries(n)
		r := plain.run(4, 12)
		_, skip := plain.entries(n)
		r.Entries = append([]envelope.Entry{{Missing: &envelope.Missing{Count: n - 3, Reason: envelope.RolledUp, Hash: h}}}, r.Entries[len(skip)-3:]...)
		return r
	}
	upTo := func(r envelope.Run, n int) envelope.Run { r.Entries = r.Entries[:n]; return r }
	// A disk that was put back to number 3, and gives out again the numbers of the stretch.
	back := disk{c, 1, append(texts(1, 3, ""), texts(4, 12, "~")...)}
	// cut has nothing older than number 5.
	cut := func(d disk) envelope.Run { r := d.run(5, 8); r.Oldest = true; return r }
	type step struct {
		run    envelope.Run
		ack    string // number, of which disk the hash there is, and F for a fork
		stored string // numbers on branches afterwards
		alarms string
	}
	disks := map[string]disk{"p": plain, "q": clone, "s": second, "o": other, "h": holes, "g": gone, "b": back}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"one after the other", []step{
			{plain.run(1, 3), "3p", "0:1-3", ""},
			{plain.run(4, 6), "6p", "0:1-6", ""},
		}},
		{"duplicates and overlaps", []step{
			{plain.run(1, 6), "6p", "0:1-6", ""},
			{plain.run(1, 6), "6p", "0:1-6", ""},
			{plain.run(2, 4), "6p", "0:1-6", ""},
			{plain.run(5, 9), "9p", "0:1-9", ""},
		}},
		{"a gap stores nothing", []step{
			{plain.run(1, 3), "3p", "0:1-3", ""},
			{plain.run(5, 6), "3p", "0:1-3", ""},
			{plain.run(4, 6), "6p", "0:1-6", ""},
		}},
		{"the first thing heard is not the first", []step{
			{plain.run(5, 6), "0p", "0:", ""},
			{plain.run(1, 6), "6p", "0:1-6", ""},
		}},
		{"what is older never comes", []step{
			{plain.run(1, 2), "2p", "0:1-2", ""},
			{cut(plain), "8p", "0:1-8", "absent"},
			{cut(plain), "8p", "0:1-8", ""},
			{plain.run(9, 10), "10p", "0:1-10", ""},
			{plain.run(1, 10), "10p", "0:1-10", ""},
		}},
		{"the hub knows nothing and the box has forgotten", []step{
			{cut(plain), "8p", "0:1-8", "absent"},
		}},
		{"a stretch that is missing", []step{
			{holes.run(1, 3), "3h", "0:1-3", ""},
			{holes.run(4, 8), "8h", "0:1-8", "absent"},
			{holes.run(4, 9), "9h", "0:1-9", ""},
			{holes.run(1, 6), "9h", "0:1-9", ""},
		}},
		{"events of another disk within a stretch", []step{
			{gone.run(1, 9), "9g", "0:1-9", "absent"},
			{back.run(4, 6), "6bF", "0:1-9 1:4-6", "fork"},
			{back.run(4, 6), "6bF", "0:1-9 1:4-6", ""},
			{gone.run(9, 10), "10gF", "0:1-10 1:4-6", ""},
			{back.run(7, 12), "12bF", "0:1-10 1:4-12", ""},
			{gone.run(1, 11), "11gF", "0:1-11 1:4-12", ""},
		}},
		{"events of another disk that reach beyond a stretch", []step{
			{gone.run(1, 8), "8g", "0:1-8", "absent"},
			{back.run(2, 12), "12bF", "0:1-8 1:4-12", "fork"},
		}},
		{"a stretch of another disk within a stretch", []step{
			{gone.run(1, 9), "9g", "0:1-9", "absent"},
			{upTo(goneTo(6), 1), "6pF", "0:1-9 1:4-6", "fork"},
			{plain.run(7, 12), "12pF", "0:1-9 1:4-12", ""}, // knows where it belongs
		}},
		{"a hole that another disk fills", []step{
			{plain.run(1, 2), "2p", "0:1-2", ""},
			{cut(plain), "8p", "0:1-8", "absent"},
			{plain.run(3, 3), "3pF", "0:1-8 1:3-3", "fork"},
			{plain.run(4, 10), "10pF", "0:1-10 1:3-3", ""},
		}},
		{"events that were sent are counted by the hour later", []step{
			{plain.run(1, 6), "6p", "0:1-6", ""},
			{goneTo(8), "12p", "0:1-12", ""},
			{goneTo(10), "12p", "0:1-12", ""},
			{upTo(goneTo(5), 1), "12p", "0:1-12", ""},
			{upTo(goneTo(5), 5), "12p", "0:1-12", ""},
		}},
		{"a stretch grows", []step{
			{plain.run(1, 3), "3p", "0:1-3", ""},
			{upTo(goneTo(5), 3), "7p", "0:1-7", ""},
			{upTo(goneTo(6), 2), "7p", "0:1-7", ""},
			{upTo(goneTo(10), 2), "11p", "0:1-11", ""},
			{goneTo(9), "12p", "0:1-12", ""},
		}},
		{"events that come after the stretch which they were let go in", []step{
			{plain.run(1, 3), "3p", "0:1-3", ""},
			{upTo(goneTo(8), 3), "10p", "0:1-10", ""},
			{plain.run(4, 5), "5pF", "0:1-10 1:4-5", "fork"}, // whether they are the same, nobody can say
			{plain.run(6, 12), "12pF", "0:1-12 1:4-5", ""},   // now it can be said
			{plain.run(4, 9), "12pF", "0:1-12 1:4-5", ""},
		}},
		{"a clone that parts after a stretch", []step{
			{goneFirst(plain, goneTo(5), 9), "9p", "0:1-9", ""},
			{clone.run(1, 12), "12qF", "0:1-9 1:7-12", "fork"},
		}},
		{"a clone", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{clone.run(7, 8), "8qF", "0:1-9 1:7-8", "fork"},
			{clone.run(7, 8), "8qF", "0:1-9 1:7-8", ""},
			{clone.run(9, 12), "12qF", "0:1-9 1:7-12", ""},
			{plain.run(10, 11), "11pF", "0:1-11 1:7-12", ""},
			{plain.run(1, 6), "6pF", "0:1-11 1:7-12", ""}, // whose, nobody can say
			{clone.run(3, 8), "12qF", "0:1-11 1:7-12", ""},
		}},
		{"a clone that begins anew", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{clone.run(1, 12), "12qF", "0:1-9 1:7-12", "fork"},
		}},
		{"two clones", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{clone.run(5, 12), "12qF", "0:1-9 1:7-12", "fork"},
			{second.run(2, 6), "6sF", "0:1-9 1:7-12 2:4-6", "fork"},
			{second.run(7, 9), "9sF", "0:1-9 1:7-12 2:4-9", ""},
			{clone.run(1, 12), "12qF", "0:1-9 1:7-12 2:4-9", ""},
		}},
		{"a clone heard of with a gap", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{clone.run(9, 10), "9p", "0:1-9", ""}, // does not fit: the box begins anew
			{clone.run(1, 4), "9p", "0:1-9", ""},
			{clone.run(5, 10), "10qF", "0:1-9 1:7-10", "fork"},
		}},
		{"a clone that has forgotten where they part", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{func() envelope.Run { r := clone.run(9, 10); r.Oldest = true; return r }(), "10qF", "0:1-9 1:9-10", "fork"},
			{clone.run(11, 12), "12qF", "0:1-9 1:9-12", ""},
			{clone.run(9, 12), "12qF", "0:1-9 1:9-12", ""},
		}},
		{"a disk that was put back, and nothing new on it", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{plain.run(4, 6), "9p", "0:1-9", ""}, // more than the box gave out: it begins a new epoch
		}},
		{"another history from the first event on", []step{
			{plain.run(1, 9), "9p", "0:1-9", ""},
			{other.run(1, 3), "3oF", "0:1-9 1:1-3", "fork"},
		}},
		{"only a question", []step{
			{plain.run(1, 0), "0p", "0:", ""},
			{plain.run(1, 5), "5p", "0:1-5", ""},
			{plain.run(6, 5), "5p", "0:1-5", ""},
			{plain.run(4, 3), "5p", "0:1-5", ""},
			{plain.run(8, 7), "5p", "0:1-5", ""},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &Ingest{}
			h := newHistory(nil, ChainID{Box: 1, Chain: c}, nil)
			for i, st := range tt.steps {
				var alarms []string
				v, err := h.judge(t.Context(), in.read(1, st.run), func(*Branch, []item) {})
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range v.items {
					if it.alarm != nil && it.alarm.Kind != AlarmUnreadable {
						alarms = append(alarms, it.alarm.Kind)
					}
				}
				if v.alarm != nil {
					alarms = append(alarms, v.alarm.Kind)
				}
				ack := fmt.Sprint(v.seq, "?")
				for _, name := range []string{"p", "q", "s", "o", "h", "g", "b"} {
					d := disks[name]
					if at, es := d.entries(v.seq); at == v.head && covered(es) == v.seq {
						ack = fmt.Sprint(v.seq, name)
						if strings.HasPrefix(st.ack, ack) {
							break
						}
					}
				}
				if h.forked() {
					ack += "F"
				}
				var stored []string
				for n, rows := range h.fresh {
					stored = append(stored, fmt.Sprint(n, ":", extent(rows)))
				}
				if got := strings.Join(alarms, " "); ack != st.ack || strings.Join(stored, " ") != st.stored || got != st.alarms {
					t.Errorf("step %d: ack %s, stored %v, alarms %q\nwant     %s, %s, %q", i, ack, stored, got, st.ack, st.stored, st.alarms)
				}
			}
		})
	}
}

// goneFirst is a run of a whole disk up to number n in which the stretch that rest begins with was let go.
func goneFirst(d disk, rest envelope.Run, n uint64) envelope.Run {
	r := d.run(1, n)
	m := rest.Entries[0]
	r.Entries = append(append(append([]envelope.Entry(nil), r.Entries[:3]...), m), r.Entries[3+m.Missing.Count:]...)
	return r
}

// extent says which numbers rows cover.
func extent(rows []Row) string {
	if len(rows) == 0 {
		return ""
	}
	for i := 1; i < len(rows); i++ {
		if rows[i].Seq != rows[i-1].last()+1 {
			return fmt.Sprintf("a hole before %d", rows[i].Seq)
		}
	}
	return fmt.Sprint(rows[0].Seq, "-", rows[len(rows)-1].last())
}

func covered(es []envelope.Entry) (n uint64) {
	for _, e := range es {
		n += e.Count()
	}
	return n
}

func TestDate(t *testing.T) {
	received := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	hour := func(h int) time.Time { return received.Add(time.Duration(h) * time.Hour) }
	id := ChainID{Box: 1, Chain: envelope.Chain{Epoch: "aa", Stream: envelope.Legal}}
	c := clocks{}
	c.add(Dating{ID: id, Boot: 2, Mono: 3 * time.Hour, New: hour(-10)})
	c.add(Dating{ID: id, Boot: 2, Mono: 9 * time.Hour, New: hour(-2)}) // its clock had run wrong
	for _, tt := range []struct {
		name    string
		row     Row
		dated   time.Time
		want    time.Time
		certain bool
	}{
		{"a clock that was right", Row{Wall: hour(-5), Quality: envelope.Synced}, time.Time{}, hour(-5), true},
		{"a clock that cannot be right", Row{Wall: hour(2), Quality: envelope.Synced}, time.Time{}, received, false},
		{"a clock that may be right", Row{Wall: hour(-5), Quality: envelope.Free}, hour(-20), hour(-5), false},
		{"no clock", Row{Wall: time.Unix(5, 0), Boot: 1}, time.Time{}, received, false},
		{"no clock, but one before", Row{Boot: 1, Mono: 30 * time.Minute}, hour(-20), hour(-20).Add(30 * time.Minute), false},
		{"no clock, and on for longer than can be", Row{Boot: 1, Mono: 30 * time.Hour}, hour(-20), received, false},
		{"no clock in the first release", Row{}, hour(-20), received, false},
		{"a clock that was set later", Row{Boot: 2, Mono: time.Hour}, hour(-20), hour(-12), true},
		{"a clock that was set before", Row{Boot: 2, Mono: 4 * time.Hour, Wall: hour(-100), Quality: envelope.Free}, time.Time{}, hour(-9), true},
		{"a clock that was set twice", Row{Boot: 2, Mono: 8 * time.Hour}, time.Time{}, hour(-3), true},
		{"not later than it came", Row{Boot: 2, Mono: 20 * time.Hour}, time.Time{}, received, true},
		{"another start", Row{Boot: 3, Mono: time.Hour}, time.Time{}, received, false},
	} {
		tt.row.ID = id
		if c.date(&tt.row, &Branch{Dated: tt.dated}, received); !tt.row.Happened.Equal(tt.want) || tt.row.Certain != tt.certain {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.name, tt.row.Happened, tt.row.Certain, tt.want, tt.certain)
		}
	}
}

func TestAlarmsSayNothingThatABoxMayHaveMadeUp(t *testing.T) {
	name := "Maria Rossi <b>"
	for k := range kinds {
		if a := alarmOf(k, event.Detail{Reason: name, Epoch: envelope.Epoch(name), Stream: name, Step: name}); a != nil && strings.Contains(a.Text+a.Key, "Rossi") {
			t.Errorf("%s: %+v", k, a)
		}
	}
}
