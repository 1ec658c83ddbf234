//go:build !clockhook

package clock

// hooked says whether Variable is obeyed.
const hooked = false
