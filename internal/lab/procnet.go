//go:build linux

package lab

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tcpStates are the kernel's numbers of TCP states (include/net/tcp_states.h);
// request sockets (NEW_SYN_RECV) are shown to user space as SYN_RECV.
var tcpStates = [...]string{
	1:  "ESTABLISHED",
	2:  "SYN_SENT",
	3:  "SYN_RECV",
	4:  "FIN_WAIT1",
	5:  "FIN_WAIT2",
	6:  "TIME_WAIT",
	7:  "CLOSE",
	8:  "CLOSE_WAIT",
	9:  "LAST_ACK",
	10: "LISTEN",
	11: "CLOSING",
}

func stateName(n uint8) string {
	if int(n) < len(tcpStates) && tcpStates[n] != "" {
		return tcpStates[n]
	}
	return fmt.Sprintf("state %d", n)
}

// entry is one line of /proc/net/tcp.
type entry struct {
	Endpoint
	state   string
	rxQueue int // bytes received and not read, a FIN counts as one
}

// entries reads the TCP sockets of the calling thread's namespace.
func entries() ([]entry, error) {
	var all []entry
	for _, file := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/thread-self/net/" + file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if e, ok := parseEntry(line); ok {
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// parseEntry reads "sl local remote state tx:rx ...", all numbers in hex.
func parseEntry(line string) (entry, bool) {
	words := strings.Fields(line)
	if len(words) < 5 {
		return entry{}, false
	}
	local, ok1 := parseHexAddr(words[1])
	remote, ok2 := parseHexAddr(words[2])
	state, err1 := strconv.ParseUint(words[3], 16, 8)
	_, rx, _ := strings.Cut(words[4], ":")
	queue, err2 := strconv.ParseUint(rx, 16, 32)
	e := entry{Endpoint{local, remote}.unmap(), stateName(uint8(state)), int(queue)}
	return e, ok1 && ok2 && err1 == nil && err2 == nil
}

// parseHexAddr reads "0100007F:1F90": the address as 32-bit words of the
// machine's byte order.
func parseHexAddr(text string) (netip.AddrPort, bool) {
	addr, port, _ := strings.Cut(text, ":")
	raw, err1 := hex.DecodeString(addr)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err1 != nil || err2 != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip, uint16(n)), ok
}

// find returns the kernel's entry for a named socket of the run.
func (r *sandbox) find(name string) (entry, bool, error) {
	ep, known := r.res.Sockets[name]
	if !known {
		return entry{}, false, fmt.Errorf("no socket %s", name)
	}
	all, err := entries()
	for _, e := range all {
		if e.Endpoint == ep || blank(ep.Remote) && blank(e.Remote) && e.Local == ep.Local {
			return e, true, err
		}
	}
	return entry{}, false, err
}

// tcpState returns a socket's state, from TCP_INFO if this process holds the
// socket, otherwise from /proc/net/tcp. It returns GONE if the socket is not
// there.
func (r *sandbox) tcpState(name string) (string, error) {
	if s := r.sockets[name]; s != nil && s.fd.Load() >= 0 {
		info, err := unix.GetsockoptTCPInfo(int(s.fd.Load()), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return "", err
		}
		return stateName(info.State), nil
	}
	e, found, err := r.find(name)
	if !found {
		return "GONE", err
	}
	return e.state, err
}
