//go:build linux

package live

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/probe"
)

// A segment arrives from an address that no connection has, as an answer that conntrack does not translate back: the
// connection with the same local address and port is named, and its process.
func TestAnswerNotTranslated(t *testing.T) { attempts(t, answerNotTranslated) }

func answerNotTranslated(t testing.TB) {
	if usedMode(t) == probe.Tracepoint && !hasResetReasons() {
		t.Skip("tracepoints before Linux 6.10 do not report a RST without a socket")
	}
	inNetns(t, func(uint32) {
		startChild(t, "idle") // a process in the namespace
		r := launch(t, "-o", "json")
		lines := r.collect()
		l, addr := listen(t, loopback4)
		client, _ := connect(t, l, addr)
		name, err := unix.Getsockname(client.fd)
		must(t, err)
		const otherPort = 9
		sendACK(t, otherPort, uint16(name.(*unix.SockaddrInet4).Port))
		r.interrupt(t)
		want := fmt.Sprintf("[%d] has one from the same address and port to %s: ", os.Getpid(), addr)
		replies := 0
		for _, l := range <-lines {
			if l.Path != "reply.nosocket" {
				continue
			}
			if replies++; !strings.Contains(l.Cause, want) {
				t.Errorf("got %q, want %q", l.Cause, want)
			}
		}
		if replies != 1 {
			t.Errorf("%d replies", replies)
		}
	})
}

// sendACK sends an ACK from a port of 127.0.0.1 to another.
func sendACK(t testing.TB, from, to uint16) {
	t.Helper()
	ip := netip.MustParseAddr("127.0.0.1").As4()
	segment := make([]byte, 20)
	binary.BigEndian.PutUint16(segment[0:], from)
	binary.BigEndian.PutUint16(segment[2:], to)
	binary.BigEndian.PutUint32(segment[4:], 1)
	binary.BigEndian.PutUint32(segment[8:], 1)
	segment[12], segment[13] = 5<<4, flagACK
	sum := uint32(unix.IPPROTO_TCP + len(segment)) // of the pseudo header
	for _, part := range [][]byte{ip[:], ip[:], segment} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(segment[16:], ^uint16(sum))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Sendto(fd, segment, 0, &unix.SockaddrInet4{Addr: ip}))
}
