package events

import (
	"bytes"
	"net/netip"
)

// Note is an ordinary close that the kernel side has counted and not reported, with what the verdict on another ending
// needs (struct note of bpf/event.h). It is small, as most notes are never asked for.
type Note struct {
	MonoNS, Sock                             uint64
	Netns, PID, TID, UID                     uint32
	FirstSent, FirstReceived, SndNxt, Unsent uint32
	LocalPort, RemotePort                    uint16
	IPv6                                     bool // local and remote have 16 bytes, and not 4
	Accepted                                 bool // or else connected
	Before                                   State
	Local, Remote                            [16]byte
	Comm, Process                            [16]byte // of the thread, and of its process if it has another
}

// Close returns the event that the kernel side would have reported, as far as a note says it.
func (n *Note) Close() Event {
	ev := Event{
		Kind: KindClose, MonoNS: n.MonoNS, Flags: SentFIN | TaskContext | UnderLock | Connected,
		Sock: n.Sock, Netns: n.Netns, Before: n.Before, After: FinWait1,
		Local: n.address(n.Local, n.LocalPort), Remote: n.address(n.Remote, n.RemotePort),
		FirstSent: n.FirstSent, FirstReceived: n.FirstReceived, SndNxt: n.SndNxt, UnsentBytes: n.Unsent,
		Task: Task{PID: n.PID, TID: n.TID, UID: n.UID, Comm: text(n.Comm)},
	}
	if n.Accepted {
		ev.Flags ^= Accepted | Connected
	}
	if n.Before == CloseWait {
		ev.After = LastAck
		ev.Flags |= PeerFIN
	}
	if n.Process != n.Comm {
		ev.Task.Process = text(n.Process)
	}
	return ev
}

func (n *Note) address(addr [16]byte, port uint16) netip.AddrPort {
	if n.IPv6 {
		return netip.AddrPortFrom(netip.AddrFrom16(addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
}

// text returns a name as the kernel has it, up to a byte 0.
func text(name [16]byte) string {
	before, _, _ := bytes.Cut(name[:], []byte{0})
	return string(before)
}
