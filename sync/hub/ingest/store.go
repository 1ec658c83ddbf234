// Package ingest takes in what boxes deliver: it stores every event once, whatever is sent twice, and answers with a
// signed word on how far each chain has come.
//
// It accepts first and judges later. What is authenticated and well-framed is stored as it came, whether or not this hub
// knows what it means; what it cannot read waits in quarantine for a hub that can, and holds up nobody. Two different
// histories of one chain (a cloned or rolled-back disk) are both kept: the second becomes a branch.
package ingest

import (
	"context"
	"errors"
	"time"

	"sportello.example/sync/envelope"
	"sportello.example/sync/event"
	"sportello.example/sync/wire"
)

// ChainID names a chain of a box.
type ChainID struct {
	Box   uint32
	Chain envelope.Chain
}

// Branch is one history of a chain. Every chain has number 0; another one begins where two histories part.
type Branch struct {
	ID     ChainID
	Number int
	Parent int           // the branch that holds what comes before From; itself when nothing does
	From   uint64        // first number that is on this branch; 1 for number 0
	Seq    uint64        // last number without a hole before it, From-1 when there is none
	Head   envelope.Hash // after Seq; zero when the row there has no hash
	Safe   uint64        // up to here it is in a backup or on a replica
	Dated  time.Time     // latest Happened of a row on it that was written as Certain; zero: none
}

// Row is one event as it is stored, or a stretch of events that never come.
type Row struct {
	ID      ChainID
	Branch  int
	Seq     uint64        // of a stretch: the first number
	Hash    envelope.Hash // of the chain after it; zero for what came as event.V1 in JSON
	Encoded []byte        // as it came: an envelope, or when Hash is zero an event.V1 in JSON; nil for a stretch
	Missing *envelope.Missing

	// What can be read of it; zero when nothing can.
	Kind     event.Kind
	Schema   uint8
	Session  string
	Mode     string
	Pages    int
	Boot     uint32
	Mono     time.Duration
	Wall     time.Time
	Quality  envelope.Quality
	Happened time.Time // the best that is known; see Dating
	Certain  bool      // whether Happened is by a clock that was right
	Judged   Judgement
}

// hashless reports whether the row came as event.V1 in JSON.
func (r *Row) hashless() bool { return r.Hash == envelope.Hash{} }

// Judgement says what the hub makes of a stored event. The words are stored.
type Judgement string

// The judgements.
const (
	Understood  Judgement = ""            // counted
	Quarantined Judgement = "quarantined" // kind or schema not known to this hub: judged again by a newer one
	Unreadable  Judgement = "unreadable"  // no envelope, or its body is no JSON: for a person to look at
	NotOpened   Judgement = "not_opened"  // its sealed part does not open: no key, or not for this event
	Absent      Judgement = "absent"      // a stretch that never comes
)

// Dating says how events of one start of a box are dated: at Mono after that start it was New by the hub's clock.
type Dating struct {
	ID   ChainID // stream does not matter
	Boot uint32
	Mono time.Duration
	New  time.Time
}

// Alarm is something that a person of the municipality should look at.
type Alarm struct {
	Box  uint32
	At   time.Time
	Kind string // one of the constants Alarm…
	Text string // one line, in English, no personal data
	Key  string // alarms with the same box, kind and key are one: it is counted, and At is its latest time

	// What the store knows of it; not read by Write.
	ID    int64
	Count int       // how often, from 1
	First time.Time // when it was raised first
	Done  time.Time // when somebody said that it is dealt with; zero: open. Raised again, it is open again.
}

// What one box can make a store keep is bounded, where it is not by the number of its events.
const (
	// MaxAlarms is how many alarms of one box and kind are kept singly. Others are counted under the key MoreAlarms.
	MaxAlarms  = 1000
	MoreAlarms = "more"
	// maxBranches is how many histories of one chain are told apart. See history.collect.
	maxBranches = 64
	// maxDatings is how many of them are kept of one start of a box, and maxClocks of one epoch. An event is dated by the
	// nearest; a box that learns the time more often than this has nothing new to say.
	maxDatings = 32
	maxClocks  = 4096
	// manyEpochs is from how many of them on a box is doing something wrong.
	manyEpochs = 100
)

// Changes are what one transaction writes.
type Changes struct {
	Received time.Time
	Rows     []Row
	Branches []Branch // new and changed
	Judged   []Row    // stored already: what can be read of them is written anew, all but Hash, Encoded and Missing
	// Datings are applied after Rows and Judged, to events of that box, epoch and boot that are stored and not certain. The
	// transaction holds a chain of the epoch.
	Datings  []Dating
	Requests []Request
	Alarms   []Alarm
}

// Request is what a citizen left at a box.
type Request struct {
	Box uint32
	wire.Request
}

// Store keeps events. Implementations pass storetest.
type Store interface {
	// Ingest runs do in one transaction that holds the boxes of ids, so that nobody else changes their chains and
	// clocks meanwhile. What do wrote is on the disk when Ingest returns nil; when it returns an error nothing was
	// written. do may be run again, after a transaction that could not be completed.
	Ingest(ctx context.Context, ids []ChainID, do func(Tx) error) error
	// Judged returns up to n rows with that judgement in the order of their keys (box, epoch, stream, branch, seq), those
	// after the key of the given row: the zero row is before all.
	Judged(ctx context.Context, j Judgement, after Row, n int) ([]Row, error)
	// Alarms lists alarms, latest first: the open ones, or all.
	Alarms(ctx context.Context, all bool) ([]Alarm, error)
	// AlarmDone says that an alarm is dealt with. It fails with ErrNoAlarm.
	AlarmDone(ctx context.Context, id int64, at time.Time) error
}

// ErrNoAlarm means that there is no alarm with that number.
var ErrNoAlarm = errors.New("no such alarm")

// Tx is one transaction of a Store.
type Tx interface {
	// Branches returns the branches of the chains that the transaction holds.
	Branches(ctx context.Context) ([]Branch, error)
	// HashAt returns the hash after seq on a branch, looking at its parents for what comes before its From; false when
	// no row ends at seq.
	HashAt(ctx context.Context, id ChainID, branch int, seq uint64) (envelope.Hash, bool, error)
	// Rows returns the rows of one branch, not of its parents, that begin from number from to number to, in order. Only
	// what identifies them is needed: Seq, Hash, Encoded and Missing.
	Rows(ctx context.Context, id ChainID, branch int, from, to uint64) ([]Row, error)
	// Epochs returns how many epochs of a box are stored, those that the transaction holds among them; at most most.
	Epochs(ctx context.Context, box uint32, most int) (int, error)
	// Datings returns what is known of the clocks of the boxes and epochs that the transaction holds.
	Datings(ctx context.Context) ([]Dating, error)
	// Write writes c. It is called once, last.
	Write(ctx context.Context, c Changes) error
}
