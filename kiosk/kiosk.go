// Package kiosk is what happens at the counter: a citizen says what they need, proves who they are with their own
// phone, and takes a sheet of paper home; or, when the line to the municipality is down, does what needs no line.
//
// Everything personal (answers, names, documents) lives in a Session in RAM and dies with it. What is stored is an
// event without anybody's name, in the same transaction as the row of the session it belongs to.
package kiosk
