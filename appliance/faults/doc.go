// Package faults holds the tests that break a box, the line and the hub in every way that a town can, with the real
// packages on both sides: pulled plugs, killed programs, full and lying disks, copied and rolled-back disks, restored
// hubs, forged words of a hub.
//
// What must hold all the same are the invariants of package outbox and of the hub's package ingest: an event that a
// kiosk was told is stored arrives exactly once or is named as lost; a number is never given to two events without an
// alarm; nothing is deleted that only the box has; legal events are never let go; nothing personal is ever in clear on
// a disk.
package faults
