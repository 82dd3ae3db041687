package enrich

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// Limits on the cost of looking for connections.
const (
	// lookEvery is the least time between two looks.
	lookEvery = 200 * time.Millisecond
	// maxSocketTable is how many bytes of a table of sockets are read. On a machine with more sockets nothing is found.
	maxSocketTable = 1 << 20
)

// Connections finds the connection for which a segment was meant that arrived from an address that no socket has: one
// with the same local address and port and another remote end. It is not safe for concurrent use.
type Connections struct {
	dir   func(netns uint32) string // /proc/PID/net of a process in a network namespace; "" if there is none
	owner func(inode uint64) *events.Task
	now   func() time.Time
	next  time.Time
}

// NewConnections returns a Connections that reads tables in the directories that dir returns for network namespaces,
// and names owners by o.
func NewConnections(dir func(netns uint32) string, o *Owners) *Connections {
	return &Connections{
		dir: dir, now: time.Now,
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
	c.next = now.Add(lookEvery)
	dir := c.dir(ev.Netns)
	if dir == "" {
		return
	}
	if remote, inode, ok := find(dir, ev.Local, ev.Remote); ok {
		ev.OtherRemote = remote
		ev.Owner = c.owner(inode)
	}
}

// find returns the remote end of the only connection with a local address and another remote end than one.
func find(dir string, local, except netip.AddrPort) (remote netip.AddrPort, inode uint64, ok bool) {
	found := 0
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := readAtMost(filepath.Join(dir, name), maxSocketTable)
		if err != nil {
			return remote, 0, false
		}
		for line := range strings.Lines(text) {
			s, valid := parseSocket(line)
			if !valid || s.local.Port() != local.Port() {
				continue
			}
			if s.state == events.Listen {
				return remote, 0, false // the port is that of a server: others connect to it
			}
			if s.local.Addr() == local.Addr().Unmap() && s.isOpen() && s.remote != except {
				remote, inode = s.remote, s.inode
				found++
			}
		}
	}
	return remote, inode, found == 1
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
