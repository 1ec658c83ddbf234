package main

import "syscall"

// dieWithParent has the kernel kill a part when the demo dies, however it dies. The part stays in the demo's process
// group, so that a terminal's Ctrl-C reaches it too.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
