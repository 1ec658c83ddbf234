package ipp

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// bind has a socket send and receive by one interface only.
func bind(raw syscall.RawConn, name string) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}
