package enrich

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/sockets"
)

// Limits on the cost of looking for connections.
const (
	// lookEvery is the least time between two looks.
	lookEvery = 200 * time.Millisecond
	// maxSocketTable is how many bytes of a table of sockets are read. On a machine with more sockets nothing is found.
	maxSocketTable = 1 << 20
)

// VisitOwn visits the sockets of closetrace's own network namespace that have these ports; 0 is any. It returns an
// error if the namespace with this inode number is another, or if the kernel lists no sockets: [sockets.VisitOwn].
type VisitOwn func(netns uint32, local, remote uint16, visit func(*sockets.Socket) bool) error

// Connections finds the connection for which a segment was meant that arrived from an address that no socket has: one
// with the same local address and port and another remote end. It is not safe for concurrent use.
type Connections struct {
	own   VisitOwn                  // nil: /proc shows that of closetrace as well
	dir   func(netns uint32) string // /proc/PID/net of a process in a network namespace; "" if there is none
	owner func(inode uint64) *events.Task
	now   func() time.Time
	next  time.Time
}

// NewConnections returns a Connections that asks own, or else reads tables in the directories that dir returns for
// network namespaces, and names owners by o.
func NewConnections(own VisitOwn, dir func(netns uint32) string, o *Owners) *Connections {
	return &Connections{
		own: own, dir: dir, now: time.Now,
		owner: func(inode uint64) *events.Task { owner, _ := o.Of(inode, 0); return owner },
	}
}

// Resolve sets the remote end and the owner of that connection, if there is exactly one.
func (c *Connections) Resolve(ev *events.Event) {
	const rst, ack = 0x04, 0x10
	if ev.Kind != events.KindReply || ev.Before != events.StateUnknown || ev.SegmentFlags&(ack|rst) != ack {
		return
	}
	now := c.now()
	if now.Before(c.next) {
		return
	}
	remote, inode, ok := c.find(ev)
	after := c.now()
	c.next = after.Add(max(lookEvery, scanShare*after.Sub(now)))
	if ok {
		ev.OtherRemote = remote
		ev.Owner = c.owner(inode)
	}
}

// find returns the remote end of the only connection with the local address of an event and another remote end.
func (c *Connections) find(ev *events.Event) (remote netip.AddrPort, inode uint64, ok bool) {
	found, serves := 0, false
	local, left := netip.AddrPortFrom(ev.Local.Addr().Unmap(), ev.Local.Port()), maxSocketTable
	ports := [][2]uint16{{local.Port(), 0}}
	whole := eachSocket(c.own, ev.Netns, c.dir, ports, &left, func(s *socket) bool {
		switch {
		case s.local.Port() != local.Port():
		case s.state == events.Listen:
			serves = true // others connect to the port
		case s.local.Addr() == local.Addr() && s.isOpen() && s.remote != ev.Remote:
			remote, inode = s.remote, s.inode
			found++
		}
		return !serves
	})
	return remote, inode, whole && !serves && found == 1
}

// eachSocket visits the sockets of a network namespace: all that have a local and a remote port of these, 0 for any,
// and maybe others. If visit returns false, it visits no more. It reads left bytes of /proc at most, and counts them
// down. It returns false if there may be more sockets.
func eachSocket(
	own VisitOwn, netns uint32, dirOf func(netns uint32) string, ports [][2]uint16, left *int, visit func(*socket) bool,
) bool {
	if own != nil {
		if whole, visited := eachOwn(own, netns, ports, visit); whole || visited {
			return whole
		}
	}
	dir := dirOf(netns)
	if dir == "" {
		return false
	}
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := readAtMost(filepath.Join(dir, name), *left)
		*left -= len(text)
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return false
		}
		for line := range strings.Lines(text) {
			if s, valid := parseSocket(line); valid && !visit(&s) {
				return true
			}
		}
	}
	return true
}

// eachOwn is eachSocket for closetrace's own namespace. It reports whether it visited all, and whether any.
func eachOwn(own VisitOwn, netns uint32, ports [][2]uint16, visit func(*socket) bool) (whole, visited bool) {
	for _, pair := range ports {
		err := own(netns, pair[0], pair[1], func(s *sockets.Socket) bool {
			visited = true
			return visit(&socket{s.Local, s.Remote, s.State, s.Inode})
		})
		if err != nil {
			return false, visited
		}
	}
	return true, visited
}

// readAtMost returns the text of a file, or an error if it is longer than most bytes.
func readAtMost(path string, most int) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	if err == nil && len(text) > most {
		err = bufio.ErrTooLong
	}
	return string(text), err
}

// socket is a line of /proc/net/tcp.
type socket struct {
	local, remote netip.AddrPort
	state         events.State
	inode         uint64
}

func (s *socket) isOpen() bool {
	return slices.Contains([]events.State{
		events.Established, events.SynSent, events.FinWait1, events.FinWait2, events.CloseWait,
	}, s.state)
}

// parseSocket parses a line of /proc/net/tcp or tcp6.
func parseSocket(line string) (s socket, ok bool) {
	words := strings.Fields(line)
	if len(words) < 10 {
		return s, false
	}
	state, err := strconv.ParseUint(words[3], 16, 8)
	if err != nil {
		return s, false
	}
	s.state = events.State(state)
	var ok1, ok2 bool
	s.local, ok1 = parseAddress(words[1])
	s.remote, ok2 = parseAddress(words[2])
	s.inode, err = strconv.ParseUint(words[9], 10, 64)
	return s, ok1 && ok2 && err == nil
}

// parseAddress parses an address: 32-bit numbers in hexadecimal digits, in the order of this machine, and a port. IPv4
// in an IPv6 address is IPv4.
func parseAddress(text string) (a netip.AddrPort, ok bool) {
	digits, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(digits)
	number, portErr := strconv.ParseUint(port, 16, 16)
	if err != nil || portErr != nil || len(b)%4 != 0 {
		return a, false
	}
	for word := range slices.Chunk(b, 4) {
		slices.Reverse(word) // little endian, as all architectures of closetrace are
	}
	ip, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), ok
}
