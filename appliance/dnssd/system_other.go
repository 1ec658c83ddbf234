//go:build !linux

package dnssd

import (
	"context"
	"syscall"
)

// watch nudges changed every two seconds until ctx ends: only Linux says by itself that a network changed.
func watch(ctx context.Context, changed chan<- struct{}) { poll(ctx, changed) }

// share relies on what package net does by itself for a port of a multicast group.
func share(string, syscall.RawConn) error { return nil }
