package wire

import "sportello.example/sync/event"

// BatchV1 carries events of one box and epoch, oldest first, without gaps, as boxes of the first release send them.
type BatchV1 struct {
	Version int        `json:"version"`
	Epoch   string     `json:"epoch"` // random, made with the box's database
	Events  []event.V1 `json:"events"`
}

// AckV1 says that the hub has stored every event of Epoch up to and including Seq. Nobody has signed it.
type AckV1 struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}
