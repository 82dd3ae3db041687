//go:build linux

package live

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/probe"
)

// witness records the segments with FIN or RST that a network namespace sends,
// from a packet socket, which shares no code with closetrace.
type witness struct {
	fd       int
	netns    uint32
	from     uint64        // CLOCK_MONOTONIC, when it began
	settled  uint64        // when nothing had been missing, and nothing came, for a while
	until    uint64        // what is later does not count; 0: not closed yet
	taken    atomic.Uint64 // all segments before have been taken
	mu       sync.Mutex
	segments []segment
	err      error
	stop     chan struct{}
	done     chan struct{}
}

const (
	packetBuffer = 64 << 20
	headers      = 128 // bytes of a packet that are looked at: 60 IPv4, 60 TCP
)

// newWitness watches the namespace of the calling thread.
func newWitness() (*witness, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, err
	}
	// Protocol 0 until all is set: nothing comes before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := watchAll(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	w := &witness{fd: fd, netns: uint32(st.Ino), from: monotonic(), stop: make(chan struct{}), done: make(chan struct{})}
	go w.record()
	return w, nil
}

func watchAll(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetBuffer); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	patience := unix.NsecToTimeval(int64(20 * time.Millisecond)) // how often to look for the end
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
		return err
	}
	const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything})
}

func (w *witness) record() {
	defer close(w.done)
	packet, control := make([]byte, headers), make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		before := monotonic()
		n, oobn, _, from, err := unix.Recvmsg(w.fd, packet, control, 0)
		switch {
		case err == unix.EAGAIN:
			w.taken.Store(before)
			select {
			case <-w.stop:
				return
			default:
			}
		case err == unix.EINTR:
		case err != nil:
			w.err = err
			return
		default:
			w.take(packet[:n], control[:oobn], from)
		}
	}
}

// take keeps a packet if it is one that counts. On lo each comes twice: going
// out, and coming in.
func (w *witness) take(packet, control []byte, from unix.Sockaddr) {
	link, ok := from.(*unix.SockaddrLinklayer)
	if !ok || link.Pkttype != unix.PACKET_OUTGOING {
		return
	}
	s, ok := parseSegment(packet)
	if !ok || s.flags&(flagFIN|flagRST) == 0 {
		return
	}
	s.at = sentAt(control)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, s)
}

// sentAt is the kernel's time of a packet on the clock of the endings. Where
// there is none, it is the present, which is later.
func sentAt(control []byte) uint64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return monotonic()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return fromWall((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Nano())
		}
	}
	return monotonic()
}

// fromWall converts a time of CLOCK_REALTIME by reading both clocks, again if
// this thread lost its CPU in between.
func fromWall(wall int64) uint64 {
	for {
		before, now := monotonic(), time.Now().UnixNano()
		if monotonic()-before < uint64(time.Millisecond) {
			return before - uint64(now-wall)
		}
	}
}

func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail for this clock
	return uint64(ts.Nano())
}

// soFar returns the segments up to now.
func (w *witness) soFar() []segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.segments), func(s segment) bool { return w.over(s.at) })
}

// over: what comes after the last quiet is seen on one side only, as the watch
// ends, and does not count.
func (w *witness) over(monoNS uint64) bool { return w.until != 0 && monoNS > w.until }

// close ends the watch and fails the test if anything may have been missed.
func (w *witness) close(t testing.TB) {
	t.Helper()
	close(w.stop)
	<-w.done
	w.until = w.settled
	if w.err != nil {
		t.Errorf("packet socket: %v", w.err)
	}
	stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		t.Errorf("packet socket: %v", err)
	} else if stats.Drops != 0 {
		t.Errorf("packet socket: %d of %d packets dropped", stats.Drops, stats.Packets)
	}
	must(t, unix.Close(w.fd))
}

// endings are those of the namespace while it is watched. Those from before are of
// another, which had its inode number. A segment cannot be from before; its time,
// which is converted, may be up to a millisecond too early.
func (w *witness) endings(tr *tracer) []events.Ending {
	return slices.DeleteFunc(tr.of(w.netns), func(e events.Ending) bool { return e.MonoNS < w.from || w.over(e.MonoNS) })
}

func (w *witness) match(tr *tracer) matching {
	m := match(w.soFar(), w.endings(tr))
	if tr.blindToReplies() {
		return m.excuse()
	}
	return m
}

// blindToReplies: before Linux 6.10, which brought the reasons of resets, the
// tracepoint leaves out those in reply to segments of no full socket.
func (tr *tracer) blindToReplies() bool {
	return tr.header.Attach == string(probe.Tracepoint) && !hasResetReasons()
}

var hasResetReasons = sync.OnceValue(func() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return true
	}
	_, err = spec.AnyTypeByName("sk_rst_reason")
	return err == nil
})

// told is all that was seen of some connections, or of all if these are nil,
// on the wire and by closetrace.
func (w *witness) told(tr *tracer, of map[key]bool) string {
	var b strings.Builder
	b.WriteString("segments:\n")
	for _, s := range w.soFar() {
		if k := s.sender(); of == nil || of[k] || of[key{k.remote, k.local}] {
			b.WriteString("\t" + s.String() + "\n")
		}
	}
	b.WriteString("endings:\n")
	for _, e := range w.endings(tr) {
		if k := sides(&e); of == nil || of[k] || of[key{k.remote, k.local}] {
			b.WriteString("\t" + describe(&e) + "\n")
		}
	}
	return b.String()
}

const (
	// matchTime bounds the wait until both sides have told all. It is long
	// because names of kernel functions are read at the first stack, which
	// takes seconds on an emulated machine.
	matchTime = 20 * time.Second
	// quietTime is how long nothing may change then: longer than the probe
	// takes to come by and than the classifier holds a verdict back.
	quietTime = 150 * time.Millisecond
)

// settle waits until everything matches, and also holds if that is not nil, and
// nothing more comes, or too long. The machine may stop for a while, all of it:
// what counts is how far both sides have looked.
func (w *witness) settle(tr *tracer, also func() bool) {
	last, since, whole := -1, monotonic(), false
	for end := time.Now().Add(matchTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		seen := min(w.taken.Load(), tr.told.Load())
		if now := len(w.soFar()) + len(w.endings(tr)); now != last {
			last, since = now, monotonic()
			whole = w.match(tr).whole() && (also == nil || also())
		}
		if whole && seen > since+uint64(quietTime) {
			w.settled = seen - uint64(quietTime)/2
			return
		}
	}
	w.settled = monotonic()
}
