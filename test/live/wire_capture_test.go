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
	"github.com/closetrace/closetrace/internal/lab"
	"github.com/closetrace/closetrace/internal/probe"
)

// capture records the segments with FIN or RST that a network namespace sends. It
// reads a packet socket and shares no code with closetrace.
type capture struct {
	fd       int
	netns    uint32
	from     uint64        // CLOCK_MONOTONIC, when it began
	settled  uint64        // when nothing had been missing, and nothing came, for a while
	until    uint64        // what is later does not count; 0: not closed yet
	readUpTo atomic.Uint64 // all segments before have been taken
	mu       sync.Mutex
	segments []segment
	err      error
	stop     chan struct{}
	done     chan struct{}
	// firewall: netfilter sends RSTs.
	firewall bool
	packets  func(packet []byte, at time.Time) // gets what was sent, up to headers bytes; may be nil
	kept     []packet                          // all that was sent in a scenario that passed
}

// packet is what was sent, from the IP header on, and when.
type packet struct {
	at   time.Time
	data []byte
}

const (
	packetBuffer = 64 << 20
	headers      = 128 // bytes of a packet that are looked at: 60 IPv4, 60 TCP
)

// startCapture captures in the namespace of the calling thread.
func startCapture() (*capture, error) { return startCaptureTo(nil) }

// startCaptureTo passes the packets on as well, from a goroutine of its own.
func startCaptureTo(packets func(packet []byte, at time.Time)) (*capture, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, err
	}
	// Protocol 0 until all is set: nothing comes before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := captureAll(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	w := &capture{fd: fd, netns: uint32(st.Ino), from: monotonic(), packets: packets,
		stop: make(chan struct{}), done: make(chan struct{})}
	go w.record()
	return w, nil
}

func captureAll(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, packetBuffer); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(int64(20 * time.Millisecond)) // how often to look for the end
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything})
}

func (w *capture) record() {
	defer close(w.done)
	packet, control := make([]byte, headers), make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		before := monotonic()
		n, oobn, _, from, err := unix.Recvmsg(w.fd, packet, control, 0)
		switch {
		case err == unix.EAGAIN:
			w.readUpTo.Store(before)
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
			w.add(packet[:n], control[:oobn], from)
		}
	}
}

// add keeps a packet with FIN or RST that the kernel made. On lo each packet is captured twice:
// outgoing and incoming.
func (w *capture) add(packet, control []byte, from unix.Sockaddr) {
	link, ok := from.(*unix.SockaddrLinklayer)
	if !ok || link.Pkttype != unix.PACKET_OUTGOING {
		return
	}
	if w.packets != nil {
		w.packets(packet, sentAtWall(control))
	}
	s, ok := parseSegment(packet)
	if !ok || s.flags&(flagFIN|flagRST) == 0 || s.tos == lab.ForgedTOS {
		return
	}
	s.sentNS = sentAt(control)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, s)
}

// sentAt returns the kernel's timestamp of a packet on the clock of the endings,
// or the current time, which is later.
func sentAt(control []byte) uint64 { return fromWall(sentAtWall(control).UnixNano()) }

// sentAtWall is sentAt on the wall clock.
func sentAtWall(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS &&
			len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			return time.Unix(0, (*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Nano())
		}
	}
	return time.Now()
}

// fromWall converts a time of CLOCK_REALTIME by reading both clocks. It repeats
// that if the thread lost its CPU in between.
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

// captured returns the segments so far.
func (w *capture) captured() []segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.segments), func(s segment) bool { return w.isAfterEnd(s.sentNS) })
}

// isAfterEnd reports whether a time is after the last quiet period. Only one side
// may have seen what came later, so it does not count.
func (w *capture) isAfterEnd(monoNS uint64) bool { return w.until != 0 && monoNS > w.until }

// close ends the capture and fails the test if packets were dropped.
func (w *capture) close(t testing.TB) {
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

// endings returns the endings of the namespace during the capture. Earlier ones
// belong to a namespace that had the same inode number. A segment cannot be
// earlier, but its converted time may be early by up to a millisecond.
func (w *capture) endings(tr *tracer) []events.Ending { return w.during(tr.endingsIn(w.netns)) }

func (w *capture) during(endings []events.Ending) []events.Ending {
	return slices.DeleteFunc(endings, func(e events.Ending) bool { return e.MonoNS < w.from || w.isAfterEnd(e.MonoNS) })
}

// match also explains segments by closes that were only noted.
func (w *capture) match(tr *tracer) matchResult {
	m := match(w.captured(), append(w.endings(tr), w.during(tr.notedIn(w.netns))...))
	if tr.blindToReplies() || w.firewall && tr.blindToNetfilter() {
		return m.withoutReplies()
	}
	return m
}

// blindToReplies reports whether the tracepoint leaves out RSTs in reply to
// segments without a full socket. It does before Linux 6.10, which added reset
// reasons.
func (tr *tracer) blindToReplies() bool {
	return tr.header.Attach == string(probe.Tracepoint) && !hasResetReasons()
}

// blindToNetfilter reports whether the RSTs of netfilter are not reported. The
// hooks are in modules, which fentry can trace from Linux 5.11 on.
func (tr *tracer) blindToNetfilter() bool {
	return tr.header.Attach == string(probe.Tracepoint) || slices.Contains(tr.header.Missing, "nf_send_reset")
}

var hasResetReasons = sync.OnceValue(func() bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return true
	}
	_, err = spec.AnyTypeByName("sk_rst_reason")
	return err == nil
})

// describe lists the segments and endings of some connections, or of all if the
// set is nil.
func (w *capture) describe(tr *tracer, of map[key]bool) string {
	var b strings.Builder
	b.WriteString("segments:\n")
	for _, s := range w.captured() {
		if k := s.sender(); of == nil || of[k] || of[key{k.remote, k.local}] {
			b.WriteString("\t" + s.String() + "\n")
		}
	}
	b.WriteString("endings:\n")
	for _, e := range w.endings(tr) {
		if k := wireAddresses(&e); of == nil || of[k] || of[key{k.remote, k.local}] {
			b.WriteString("\t" + describe(&e) + "\n")
		}
	}
	return b.String()
}

const (
	// matchTime limits the wait until both sides have read everything. It is long
	// because names of kernel functions are read at the first stack, which
	// takes seconds on an emulated machine.
	matchTime = 20 * time.Second
	// quietTime is how long nothing may change then: longer than the probe
	// takes to come by and than the classifier holds a verdict back.
	quietTime = 150 * time.Millisecond
)

// settle waits until everything matches, condition holds if it is not nil, and
// nothing more arrives; at most matchTime. The whole machine may pause for a
// while, so the quiet time is measured by how far both sides have read.
func (w *capture) settle(tr *tracer, condition func() bool) {
	last, since, whole := -1, monotonic(), false
	for end := time.Now().Add(matchTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		seen := min(w.readUpTo.Load(), tr.readUpTo.Load())
		if now := len(w.captured()) + len(w.endings(tr)) + len(tr.notedIn(w.netns)); now != last {
			last, since = now, monotonic()
			whole = w.match(tr).complete() && (condition == nil || condition())
		}
		if whole && seen > since+uint64(quietTime) {
			w.settled = seen - uint64(quietTime)/2
			return
		}
	}
	w.settled = monotonic()
}
