// Package loadtest makes the work that a box and a hub are measured with, and the bare programs that they are measured
// against.
//
// The corpus is what citizens do at the counters, once as events and once as the plain JSON that a program without a
// queue of its own would write. The bare programs do no more than is needed to put that JSON on a disk or over a line,
// as fast as the same libraries allow: one table, one commit for all who wait. A figure is always a ratio to one of
// them, taken in the same minute on the same machine, because an absolute one says more about the machine.
package loadtest
