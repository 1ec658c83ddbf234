//go:build !linux

package ipp

import (
	"errors"
	"fmt"
	"syscall"
)

// bind has a socket send and receive by one interface only.
func bind(_ syscall.RawConn, name string) error {
	return fmt.Errorf("interface %s: %w", name, errors.ErrUnsupported)
}
