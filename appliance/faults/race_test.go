//go:build race

package faults_test

// raced says that the race detector is on, which makes SQLite seventeen times as slow.
const raced = true
