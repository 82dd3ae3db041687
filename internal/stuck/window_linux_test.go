package stuck

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/netns"
	"github.com/closetrace/closetrace/internal/sockets"
)

// The kernel probes a socket that was closed while its peer does not read.
func TestClosedWindow(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for err == nil { // until the server's receive buffer and the send buffer are full
		if err = client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err == nil {
			_, err = client.Write(make([]byte, 1<<20))
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	client.Close()
	const want = "; the peer's receive window is closed, the kernel probes it"
	end := netip.MustParseAddrPort(client.LocalAddr().String())
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		f := findOwn(t, end)
		if f.Diagnosis == BusySending && f.Unsent > 0 && f.Unacked == 0 && strings.HasSuffix(f.Why, want) {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("got %+v", f)
		}
	}
}

// findOwn returns the finding of a socket of this network namespace.
func findOwn(t *testing.T, local netip.AddrPort) (found Finding) {
	t.Helper()
	space, err := netns.Inode("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	list := &sockets.List{}
	if _, err := sockets.AppendSockDiag(list, space); errors.Is(err, sockets.ErrUnsupported) {
		t.Skipf("this kernel lists no TCP sockets: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	for _, f := range Find(&sockets.Snapshot{Sockets: list, Holders: sockets.HoldersOf(nil)}) {
		if f.Local == local {
			found = f
		}
	}
	return found
}
