package events

import "math"

// firstEphemeral is the first port that Linux gives to clients by default (net.ipv4.ip_local_port_range).
const firstEphemeral = 32768

// End is one end of a connection, as an ending sees it.
type End uint8

// The ends.
const (
	EndUnknown End = iota
	EndLocal
	EndRemote
)

// Services finds out which port of a connection is that of the service. If the kernel did not say which end accepted
// the connection, it is the port at which another one was accepted. If there is none or two, it is the port below the
// ephemeral ones and, if there is none or two again, the one that more endings have.
type Services struct {
	endings  [1 << 16]uint16 // by port
	accepted [1 << 16]bool   // by port
}

// Port returns the port of the service, and whether it is the local one. It learns from each ending.
func (s *Services) Port(e *Ending) (port uint16, isLocal bool) {
	s.Learn(e)
	return s.Guess(e)
}

// Learn learns from an ending.
func (s *Services) Learn(e *Ending) {
	local, remote := e.Local.Port(), e.Remote.Port()
	if local == 0 || remote == 0 {
		return
	}
	s.count(local)
	s.count(remote)
	switch e.Service {
	case EndLocal:
		s.accepted[local] = true
	case EndRemote:
		s.accepted[remote] = true
	}
}

// Guess returns what Port does for an ending that was learned from before.
func (s *Services) Guess(e *Ending) (port uint16, isLocal bool) {
	local, remote := e.Local.Port(), e.Remote.Port()
	if local == 0 || remote == 0 {
		return max(local, remote), remote == 0
	}
	if e.Service != EndUnknown {
		isLocal = e.Service == EndLocal
	} else if s.accepted[local] != s.accepted[remote] {
		isLocal = s.accepted[local]
	} else if (local < firstEphemeral) != (remote < firstEphemeral) {
		isLocal = local < firstEphemeral
	} else if a, b := s.endings[local], s.endings[remote]; a != b {
		isLocal = a > b
	} else {
		isLocal = local <= remote
	}
	if isLocal {
		return local, true
	}
	return remote, false
}

func (s *Services) count(port uint16) {
	if s.endings[port] < math.MaxUint16 {
		s.endings[port]++
	}
}
