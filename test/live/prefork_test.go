//go:build linux

package live

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// Several processes accept from one listener, and end their connections in random ways, as their clients do. The
// sockets of all have one local port, and the next socket often has the memory of the last one. Each process says which
// connections it had: an ending names no other process, and what ended a connection is known unless the kernel did not
// run a program, in both tiers.
func TestPreforkServer(t *testing.T) { attempts(t, preforkServer) }

func preforkServer(t testing.TB) {
	const servers, clients = 4, 3
	inNetns(t, func(netns uint32) {
		d, err := newListener(loopback4)
		must(t, err)
		listener := os.NewFile(uintptr(d.fd), "listener")
		defer listener.Close()
		full := trace(t, probe.Filter{})
		o := fullTier(t)
		o.Quiet = probe.Quiet{Active: true, Passive: true}
		quiet := traceWith(t, o)
		var serving, connecting []*child
		for i := range servers {
			serving = append(serving, beginChildWith(t, []*os.File{listener}, "prefork-serve", itoa(i)))
		}
		for i := range clients {
			connecting = append(connecting,
				beginChild(t, "prefork-connect", itoa(i), d.addr.String(), itoa(scaled(200, 80))))
		}
		had := holders{}
		had.add(t, false, connecting)
		must(t, unix.Shutdown(d.fd, unix.SHUT_RDWR)) // ends accept(2)
		had.add(t, true, serving)
		for _, tr := range []*tracer{full, quiet} {
			tr.mayMiss = true // then an ending may say that something was not seen, and still blames nobody else
			tr.finish(t)
			checkHolders(t, tr.endingsIn(netns), d.addr.Port(), had, tr.losses.MissedProbes)
		}
	})
}

// holders are the processes that had a connection, by the port of its client and by whether it is the server's end.
type holders map[portOfEnd][]uint32

type portOfEnd struct {
	client uint16
	server bool
}

// add reads which connections processes had, and waits until they exit.
func (h holders) add(t testing.TB, server bool, processes []*child) {
	t.Helper()
	for _, p := range processes {
		text, err := io.ReadAll(p.stdout)
		must(t, err)
		must(t, p.Wait())
		for _, word := range strings.Fields(string(text)) {
			port, err := strconv.ParseUint(word, 10, 16)
			must(t, err)
			key := portOfEnd{uint16(port), server}
			h[key] = append(h[key], uint32(p.Process.Pid))
		}
	}
}

// ignorant are what a cause says if it is not known what happened to a connection.
var ignorant = []string{
	"an unknown connection", "does not exist here", "not observed", "was not seen", "never read", "not kept",
}

func checkHolders(t testing.TB, endings []events.Ending, listening uint16, had holders, missed uint64) {
	t.Helper()
	paths := map[events.Path]int{}
	for _, e := range endings {
		if e.Remote.Port() == 0 {
			continue // of the listener
		}
		paths[e.Path]++
		end := portOfEnd{e.Local.Port(), false}
		if e.Local.Port() == listening {
			end = portOfEnd{e.Remote.Port(), true}
		}
		for role, task := range map[string]*events.Task{"actor": e.Actor, "owner": e.Owner} {
			// A reply of the listener has one of the processes that listen as its owner.
			if task != nil && e.Path != events.ReplyListenACK && !slices.Contains(had[end], task.PID) {
				t.Errorf("%s of %s is %d (%s), the connection is of %d: %s", role, e.Path, task.PID, e.OwnerBy, had[end], e.Cause)
			}
		}
		if missed == 0 && slices.ContainsFunc(ignorant, func(words string) bool { return strings.Contains(e.Cause, words) }) {
			t.Errorf("%s %s: %s%s", e.Local, e.Path, e.Cause, sameEndOf(endings, e))
		}
	}
	t.Log(paths)
	for _, path := range []events.Path{events.CloseRSTLinger0, events.RecvRST, events.ClosedReset} {
		if paths[path] < 10 {
			t.Errorf("only %d of %s", paths[path], path)
		}
	}
}

// sameEndOf describes the endings of one end of a connection, to understand one of them.
func sameEndOf(endings []events.Ending, of events.Ending) string {
	var b strings.Builder
	for _, e := range endings {
		if e.Local == of.Local && e.Remote == of.Remote || e.Local == of.Remote && e.Remote == of.Local {
			later := int64(e.MonoNS - of.MonoNS)
			fmt.Fprintf(&b, "\n\t%d ns later: %s %s %v: %s", later, e.Local, e.Path, e.Actor, e.Cause)
		}
	}
	return b.String()
}

// act is something that a process does with a connection before it closes it.
type act func(fd int)

func receives(fd int) { _, _ = unix.Read(fd, make([]byte, 100)) }

func sends(fd int) { _, _ = unix.SendmsgN(fd, []byte("text"), nil, nil, unix.MSG_NOSIGNAL) }

func waits(int) { time.Sleep(2 * time.Millisecond) }

func endsWriting(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

func endsBoth(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) }

func willReset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

var (
	actsOfServer = [][]act{
		{receives, sends}, {waits}, {willReset}, {receives, endsWriting, receives}, {receives, receives},
		{receives, endsBoth, waits}, {sends, receives, waits, receives},
	}
	actsOfClient = [][]act{
		{sends, receives, receives}, {willReset}, {sends, waits, sends}, {sends, endsWriting, receives},
		{sends, willReset}, {receives, sends},
	}
)

// anyOf does some of the acts. No read takes long.
func anyOf(acts [][]act, fd int, random *rand.Rand) error {
	err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000})
	if err != nil {
		return err
	}
	for _, do := range acts[random.IntN(len(acts))] {
		do(fd)
	}
	return nil
}

// preforkServe prints the port of each client whose connection it accepts, until its listener is shut down.
func preforkServe(args []string) error {
	random, err := randomOf(args[0])
	if err != nil {
		return err
	}
	for {
		fd, client, err := unix.Accept4(inheritedFD, unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINVAL:
			return nil
		case err == unix.ECONNABORTED || err == unix.EINTR:
			continue
		case err != nil:
			return err
		}
		fmt.Println(addressOf(client).Port())
		if err := anyOf(actsOfServer, fd, random); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
}

// preforkConnect prints its port of each connection that it makes.
func preforkConnect(args []string) error {
	random, err := randomOf(args[0])
	if err != nil {
		return err
	}
	return eachConnection(args[1:], func(_, fd int) error {
		local, err := localAddress(fd)
		if err != nil {
			return err
		}
		fmt.Println(local.Port())
		return anyOf(actsOfClient, fd, random)
	})
}

// randomOf returns the same numbers in each run, of another sequence in each process.
func randomOf(number string) (*rand.Rand, error) {
	n, err := strconv.ParseUint(number, 10, 8)
	return rand.New(rand.NewPCG(1, n)), err
}
