//go:build !linux

package main

import "syscall"

// dieWithParent does nothing where the kernel has no such signal: a part outlives a demo that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
