// Package line holds the tests of what lies between a box and its hub: a line that is slow, that swallows, cuts, holds and
// repeats what it carries, for a moment or for a month. On both sides is what runs in a town: the box's database, the
// relay, the client and the monitor; TLS; the hub's handler, its judgement and its database.
package line
