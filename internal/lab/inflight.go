//go:build linux

package lab

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// doInFlight sends a descriptor in a message (SCM_RIGHTS) that is never received.
func doInFlight(r *sandbox, s *socket, _ []string) (string, error) {
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	if r.messages[s.name] != nil {
		return "", fmt.Errorf("a second message with %s", s.name)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	m := &message{ends: ends}
	if err := unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return "", errors.Join(err, m.drop())
	}
	r.messages[s.name] = m
	return "", nil
}

// doDrop discards the message with a descriptor: it closes both Unix sockets.
func doDrop(r *sandbox, s *socket, _ []string) (string, error) {
	m := r.messages[s.name]
	if m == nil {
		return "", fmt.Errorf("no message with %s", s.name)
	}
	delete(r.messages, s.name)
	return "", m.drop()
}

// message is a descriptor in flight between two Unix sockets.
type message struct{ ends [2]int }

func (m *message) drop() error {
	return errors.Join(unix.Close(m.ends[0]), unix.Close(m.ends[1]))
}
