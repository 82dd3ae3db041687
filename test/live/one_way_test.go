//go:build linux

package live

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server that receives and never sends, and closes a quiet connection, is no error. One that closes as soon as a
// request has come is: its client gets EOF instead of an answer.
func TestOneWayProtocol(t *testing.T) { attempts(t, oneWayProtocol) }

func oneWayProtocol(t testing.TB) {
	inNetns(t, func(uint32) {
		all, errors := launch(t, "-o", "json"), launch(t, "-o", "json", "--errors")
		lines, abnormal := all.collect(), errors.collect()
		logged, receiver := newPair(t, loopback4)
		logged.send(t, requestSize)
		receiver.recv(t, requestSize)
		time.Sleep(1200 * time.Millisecond) // the connection is quiet
		asked, server := newPair(t, loopback4)
		asked.send(t, requestSize)
		server.recv(t, requestSize)
		for _, c := range []conn{receiver, server} {
			must(t, unix.Close(c.fd))
		}
		for _, c := range []conn{logged, asked} {
			c.state(t, unix.BPF_TCP_CLOSE_WAIT)
			must(t, unix.Close(c.fd))
		}
		all.interrupt(t)
		errors.interrupt(t)
		const words = "18 B had come and nothing was sent; ESTABLISHED → FIN_WAIT1"
		said := 0
		for _, l := range <-lines {
			if l.Path == "close.fin.active" && len(l.Cause) >= len(words) && l.Cause[:len(words)] == words {
				said++
			}
		}
		seen := <-abnormal
		if said != 2 || len(seen) != 1 || seen[0].Local != server.local.String() {
			t.Errorf("%d endings with %q; --errors shows %+v, want that of %v", said, words, seen, server.local)
		}
	})
}
