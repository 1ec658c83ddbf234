package wire

import (
	"time"

	"sportello.example/sync/envelope"
)

// Report is what a box says of itself when it asks whether the line is up. No field could hold a person's data.
type Report struct {
	Time     time.Time      `json:"time"`      // by the box's clock
	Clock    string         `json:"clock"`     // synced | free | unknown
	Release  string         `json:"release"`   // of its program
	Epoch    envelope.Epoch `json:"epoch"`     // its present one
	Streams  []StreamReport `json:"streams"`   // of all epochs together
	Dead     int            `json:"dead"`      // events that can never be delivered, kept on the box
	Gaps     int            `json:"gaps"`      // times that it has found events missing
	Dropped  uint64         `json:"dropped"`   // events let go for want of room, ever
	Disk     DiskReport     `json:"disk"`      //
	State    uint64         `json:"state"`     // version of the desired state it follows, 0: none
	SealKeys []string       `json:"seal_keys"` // hub keys that queued events are closed to, in hexadecimal; see seal.KeyID
}

// StreamReport is one stream of a Report.
type StreamReport struct {
	Stream  envelope.Stream `json:"stream"`
	Queued  int             `json:"queued"`             // events that the hub has not acknowledged
	Kept    int             `json:"kept"`               // acknowledged, and kept until they are safe
	Oldest  *time.Time      `json:"oldest,omitempty"`   // when the oldest queued one happened, by the box's clock
	LastAck *time.Time      `json:"last_ack,omitempty"` // when the hub last acknowledged anything of it, by the box's clock
}

// DiskReport says how much room a box has.
type DiskReport struct {
	State string `json:"state"` // ok | warn (70 %) | high (85 %) | full (95 %)
	Used  int64  `json:"used"`  // bytes of the queue's database
	Limit int64  `json:"limit"` // bytes it may grow to
	Free  int64  `json:"free"`  // bytes free on the disk
}

// Queued returns how many events of all streams wait for the hub.
func (r Report) Queued() (n int) {
	for _, s := range r.Streams {
		n += s.Queued
	}
	return n
}
