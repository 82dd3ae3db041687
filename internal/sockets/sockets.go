//go:build linux

// Package sockets lists the TCP sockets of a network namespace, as sock_diag(7)
// tells of them.
package sockets

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/stuck"
)

// ErrUnsupported: this kernel has no sock_diag for TCP.
var ErrUnsupported = errors.New("sock_diag does not know TCP")

// tries is how often a list is taken that changes meanwhile.
const tries = 3

// List returns the sockets of the calling thread's network namespace, whose inode
// is netns. Not whole: some changed while they were listed, and may be missing.
func List(netns uint32) (all []stuck.Socket, whole bool, err error) {
	whole = true
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		some, ok, err := list(family)
		if err != nil {
			return nil, false, err
		}
		whole = whole && ok
		for _, s := range some {
			if one, ok := socket(s); ok {
				one.Netns = netns
				all = append(all, one)
			}
		}
	}
	return all, whole, nil
}

func list(family uint8) (all []*netlink.InetDiagTCPInfoResp, whole bool, err error) {
	for range tries {
		all, err = netlink.SocketDiagTCPInfo(family)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	switch {
	case err == nil:
		return all, true, nil
	case errors.Is(err, netlink.ErrDumpInterrupted):
		return all, false, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return nil, false, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil, false, fmt.Errorf("listing sockets: %w", err)
}

// miniTimer is idiag_timer of what the kernel keeps of a closed socket.
const miniTimer = 3

// socket takes over what is known. Addresses that speak IPv4 are shown as IPv4.
func socket(r *netlink.InetDiagTCPInfoResp) (s stuck.Socket, ok bool) {
	m, info := r.InetDiagMsg, r.TCPInfo
	local, ok1 := address(m.ID.Source, m.ID.SourcePort)
	remote, ok2 := address(m.ID.Destination, m.ID.DestinationPort)
	s = stuck.Socket{
		Local: local, Remote: remote, State: events.State(m.State), Inode: uint64(m.INode), UID: m.UID,
		ReceiveQueue: m.RQueue, SendQueue: m.WQueue,
	}
	if m.Timer == miniTimer && info == nil {
		s.Mini, s.TimeLeft = true, time.Duration(m.Expires)*time.Millisecond
	}
	if info != nil {
		s.NotSent = info.Notsent_bytes
		s.LastHeard = time.Duration(info.Last_ack_recv) * time.Millisecond
		s.RTO = time.Duration(info.Rto) * time.Microsecond
		s.Backoff, s.Retries = info.Backoff, info.Retransmits
	}
	return s, ok1 && ok2
}

func address(ip net.IP, port uint16) (netip.AddrPort, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port), ok
}
