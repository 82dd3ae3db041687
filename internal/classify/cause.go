package classify

import (
	"strconv"

	"github.com/closetrace/closetrace/internal/events"
)

// This file has the parts of a cause that several paths share: what ended the
// process, what was not answered, how long nothing happened, what is lost.

// Signals of include/uapi/asm-generic/signal.h.
const (
	sigILL  = 4
	sigABRT = 6
	sigBUS  = 7
	sigFPE  = 8
	sigSEGV = 11
	sigPIPE = 13
)

var signalNames = [...]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", sigILL: "SIGILL", 5: "SIGTRAP", sigABRT: "SIGABRT", sigBUS: "SIGBUS",
	sigFPE: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", sigSEGV: "SIGSEGV", 12: "SIGUSR2", sigPIPE: "SIGPIPE",
	14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 31: "SIGSYS",
}

func signalName(n int) string {
	if n > 0 && n < len(signalNames) && signalNames[n] != "" {
		return signalNames[n]
	}
	return "signal " + strconv.Itoa(n)
}

// processEnd says what ended the process, or its program, if that closed the
// socket, and not a call of the application for this.
func (p phrase) processEnd(f *fact) phrase {
	if f.Kind != events.KindClose && (f.Kind != events.KindReset || f.Listener == 0) {
		return p
	}
	switch trigger, signal := f.trigger(); trigger {
	case events.TriggerSignal:
		return p.killed(f, signal).text("; ")
	case events.TriggerExit:
		if f.Syscall == "exit" && f.Task.TID != f.Task.PID { // not exit_group: the process may go on
			return p.text("a thread of ").task(&f.Task).text(" exited without closing; ")
		}
		p = p.task(&f.Task).text(" exited without closing")
		if status := uint64(f.ExitCode) >> 8 & 0xff; status != 0 {
			p = p.text(", with status ").number(status)
		}
		return p.text("; ")
	case events.TriggerExecve:
		p = p.task(&f.Task).text(" started ")
		if f.Task.Process == "" {
			return p.text("another program (close-on-exec); ")
		}
		return p.text(f.Task.Comm).text(" (close-on-exec); ")
	case events.TriggerKernel:
		if f.sent(events.FileClosing) { // not a socket of the kernel's own
			p = p.text("a kernel thread dropped the last reference")
			return p.text(", for example that of an io_uring whose process has ended; ")
		}
	}
	return p
}

func (p phrase) killed(f *fact, signal int) phrase {
	p = p.task(&f.Task)
	switch signal {
	case sigILL, sigABRT, sigBUS, sigFPE, sigSEGV:
		return p.text(" crashed (").text(signalName(signal)).text(")")
	case sigPIPE:
		return p.text(" was killed by SIGPIPE, which a write to a closed connection or pipe sends")
	}
	if f.sent(events.OOMVictim) {
		return p.text(" was killed by the OOM killer")
	}
	return p.text(" was killed by ").text(signalName(signal))
}

// opener is which side began a connection.
type opener uint8

const (
	openerUnknown opener = iota
	openedHere
	openedByPeer
)

// opener returns which side began the connection, from the sequence numbers before
// a FIN: those of the side that sent the SYN count from the SYN, those of the other
// from the byte after the SYN-ACK.
func (f *fact) opener() opener {
	if f.FirstSent == 0 || !f.in(events.Established, events.CloseWait) {
		return openerUnknown
	}
	switch f.SndNxt - f.FirstSent - uint32(f.BytesSent) {
	case 0:
		return openedByPeer
	case 1:
		return openedHere
	}
	return openerUnknown // bytes_sent includes retransmissions
}

// unanswered reports whether this side closed first although the peer, which began the
// connection, had sent the last byte.
func (f *fact) unanswered() bool {
	if f.Kind != events.KindClose || f.Before != events.Established || f.BytesReceived == 0 || f.opener() != openedByPeer {
		return false
	}
	return f.BytesSent == 0 || f.IdleReceivedJiffies < f.IdleSentJiffies
}

// awaited reports whether this side, which began the connection, closed it while
// it waited for an answer: the last byte was sent more than a second before.
func (f *fact) awaited() bool {
	if f.Kind != events.KindClose || f.Before != events.Established || f.BytesSent == 0 || !f.isLong(f.IdleSentJiffies) {
		return false
	}
	return f.BytesReceived == 0 || f.opener() == openedHere && f.IdleSentJiffies < f.IdleReceivedJiffies
}

// reading says what this side had read, or what it waited for.
func (p phrase) reading(f *fact) phrase {
	switch unanswered := f.unanswered(); {
	case unanswered && f.BytesSent == 0:
		return p.bytes(f.BytesReceived).text(" had come and nothing was sent")
	case unanswered:
		return p.text("all data read; data came after the last byte was sent and was not answered")
	case f.awaited():
		p = p.text("closed ").duration(f.duration(uint64(f.IdleSentJiffies)))
		return p.text(" after its last byte was sent, unanswered")
	}
	return p.text("all data read")
}

// isLong reports whether a time in jiffies is worth a word: more than a second.
func (f *fact) isLong(jiffies uint32) bool { return uint64(jiffies) > f.hz && f.hz > 0 }

// idleJiffies returns since when nothing was sent or received, 0 if that is not long.
func (f *fact) idleJiffies() uint64 {
	if idle := min(f.IdleReceivedJiffies, f.IdleSentJiffies); f.isLong(idle) {
		return uint64(idle)
	}
	return 0
}

// idle says how long nothing was sent or received, if that was long.
func (p phrase) idle(f *fact) phrase {
	if idle := f.idleJiffies(); idle > 0 {
		p = p.text("; nothing was sent or received for ").duration(f.duration(idle))
	}
	return p
}

// thrownAway says what a socket that had ended still had in its receive queue.
func (p phrase) thrownAway(f *fact) phrase {
	if f.Kind != events.KindClose || f.Before != events.Close || f.UnreadBytes == 0 {
		return p
	}
	p = p.text("; ").bytes(uint64(f.UnreadBytes)).text(" unread were thrown away without a RST")
	if sentFINFirst(f) {
		p = p.text(": the peer's FIN had come first")
	}
	return p
}

// output returns how much of what the application wrote was not acknowledged.
func (f *fact) output() uint64 { return uint64(f.UnsentBytes) + uint64(f.UnackedBytes) }

// connecting says how long a connection attempt took that the application gives
// up, and how many SYNs were sent, where that is known.
func (p phrase) connecting(f *fact) phrase {
	if f.ICMP != nil {
		p = p.refusal(f.ICMP).text("; the application gave up")
		if f.RetransmittingMS > 0 {
			p = p.text(" ").milliseconds(f.RetransmittingMS).text(" after its first SYN")
		}
		return p.text("; neither FIN nor RST")
	}
	if f.RetransmittingMS == 0 {
		return p.text("given up while connecting; neither FIN nor RST")
	}
	p = p.text("given up ").milliseconds(f.RetransmittingMS).text(" after the first SYN, ")
	return p.count(uint64(f.Retransmits)+1, "SYN").text(" unanswered; neither FIN nor RST")
}
