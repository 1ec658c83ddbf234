package dnssd

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch nudges changed whenever the kernel says that an interface or an address came, went or changed, until ctx ends.
// It blocks until then.
func watch(ctx context.Context, changed chan<- struct{}) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		poll(ctx, changed)
		return
	}
	news := os.NewFile(uintptr(fd), "netlink")
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = news.Close()
		poll(ctx, changed)
		return
	}
	shut := sync.OnceFunc(func() { _ = news.Close() })
	defer shut()
	defer context.AfterFunc(ctx, shut)()

	// What has happened before the socket was there is not told.
	nudge(changed)
	buf := make([]byte, os.Getpagesize())
	for ctx.Err() == nil {
		// What the message says does not matter, and neither does one that was lost (ENOBUFS): all is looked at anew.
		if _, err := news.Read(buf); err != nil && ctx.Err() == nil && !lost(err) {
			poll(ctx, changed)
			return
		}
		nudge(changed)
	}
}

func lost(err error) bool {
	for _, again := range []error{unix.ENOBUFS, unix.EINTR, unix.EMSGSIZE} {
		if errors.Is(err, again) {
			return true
		}
	}
	return false
}

// share lets several programs have the mDNS port, and keeps out what came for the groups that others joined.
func share(network string, conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		set := func(level, option, value int) {
			if err := unix.SetsockoptInt(int(fd), level, option, value); err != nil && failed == nil {
				failed = os.NewSyscallError("setsockopt", err)
			}
		}
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if network == "udp4" {
			set(unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0)
		} else {
			// Linux has it since 4.20; before, packets are still told apart by their interface.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0)
		}
	})
	if err != nil {
		return err
	}
	return failed
}
