//go:build !linux

package raster

import "syscall"

// On other systems (a developer's machine) the child is a process of its own with a time limit, and no more.

func confinements() []*syscall.SysProcAttr { return []*syscall.SysProcAttr{nil} }

func restrict(request) error { return nil }

func resident(int) int64 { return 0 }

func killed(error) bool { return false }

func isFileLimit(error) bool { return false }
