package probe

import (
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/kernel"
)

// program is one BPF program and how it is attached.
type program struct {
	name string // in bpf/closetrace.bpf.c
	kind programKind
	// taskOnly: in softirq the program returns at once. A run that the kernel
	// leaves out, because softirq came in the middle of the program on a
	// task's behalf, is no loss then. Where another task may come in the
	// middle, too, it may be one, and the kernel does not tell which.
	taskOnly bool
}

type programKind uint8

const (
	tracing  programKind = iota // fentry, fexit: the target is in the program's section
	entry                       // kprobe
	ret                         // kretprobe
	rawPoint                    // raw tracepoint
)

// hook is a place in the kernel and the programs that sit on it in one mode.
type hook struct {
	symbol   string // function, or tracepoint as subsystem:name
	programs []program
	optional bool
	unseen   string // what is not seen without it, for people
	fires    string // how often its programs run, for people
	// until, if set, tells that this kernel does not need the hook any more.
	until func(*kernel.Kernel) bool
	// instead takes over where an optional hook cannot be attached.
	instead *hook
}

// hooks lists what each mode attaches, in the order of attaching: returns
// before entries, so that no call is opened whose end is not watched.
var hooks = map[Mode][]hook{
	Fentry: {
		{
			symbol:   "__tcp_close",
			fires:    perClose,
			programs: []program{{name: "fexit_tcp_close_locked", kind: tracing}, {name: "fentry_tcp_close_locked", kind: tracing}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", fires: perClose, programs: []program{{name: "fexit_tcp_close", kind: tracing}}},
		},
		{symbol: "tcp_close", fires: perClose, programs: []program{{name: "fentry_tcp_close", kind: tracing}}},
		{
			symbol:   "inet_shutdown",
			fires:    perShutdown,
			programs: []program{{name: "fexit_inet_shutdown", kind: tracing}, {name: "fentry_inet_shutdown", kind: tracing}},
			optional: true,
			unseen:   shutdownUnseen,
			instead:  &hook{symbol: "tcp_shutdown", fires: perTCPShutdown, programs: []program{{name: "fexit_tcp_shutdown", kind: tracing}}},
		},
		{symbol: "tcp_shutdown", fires: perTCPShutdown, programs: []program{{name: "fentry_tcp_shutdown", kind: tracing}}},
		{symbol: "tcp_send_fin", fires: perFINSent, programs: []program{{name: "fentry_tcp_send_fin", kind: tracing}}},
		{symbol: "tcp_send_active_reset", fires: perActiveRST, programs: []program{{name: "fentry_tcp_send_active_reset", kind: tracing}}},
		{
			symbol: "tcp_disconnect", fires: perDisconnect, programs: []program{{name: "fexit_tcp_disconnect", kind: tracing}, {name: "fentry_tcp_disconnect", kind: tracing}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", fires: perAbort, programs: []program{{name: "fexit_tcp_abort", kind: tracing}, {name: "fentry_tcp_abort", kind: tracing}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", fires: perDone, programs: []program{{name: "fentry_tcp_done", kind: tracing}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", fires: perFINReceived, programs: []program{{name: "fentry_tcp_fin", kind: tracing}}, optional: true, unseen: finUnseen},
		{symbol: "sk_stream_error", fires: perFailedWrite, programs: []program{{name: "fentry_sk_stream_error", kind: tracing}}, optional: true, unseen: writeUnseen},
		{symbol: "__scm_destroy", fires: perRights, programs: []program{{name: "fentry_scm_destroy", kind: tracing}}, optional: true, unseen: rightsUnseen},
		{symbol: "tcp_v4_send_reset", fires: perReply, programs: []program{{name: "fentry_tcp_v4_send_reset", kind: tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", fires: perReply, programs: []program{{name: "fentry_tcp_v6_send_reset", kind: tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Kprobe: {
		{
			symbol:   "__tcp_close",
			fires:    perClose,
			programs: []program{{name: "kretprobe_tcp_close_locked", kind: ret}, {name: "kprobe_tcp_close_locked", kind: entry}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", fires: perClose, programs: []program{{name: "kretprobe_tcp_close", kind: ret}}},
		},
		{symbol: "tcp_close", fires: perClose, programs: []program{{name: "kprobe_tcp_close", kind: entry}}},
		{
			symbol:   "inet_shutdown",
			fires:    perShutdown,
			programs: []program{{name: "kretprobe_inet_shutdown", kind: ret}, {name: "kprobe_inet_shutdown", kind: entry}},
			optional: true,
			unseen:   shutdownUnseen,
			instead:  &hook{symbol: "tcp_shutdown", fires: perTCPShutdown, programs: []program{{name: "kretprobe_tcp_shutdown", kind: ret}}},
		},
		{symbol: "tcp_shutdown", fires: perTCPShutdown, programs: []program{{name: "kprobe_tcp_shutdown", kind: entry}}},
		{symbol: "tcp_send_fin", fires: perFINSent, programs: []program{{name: "kprobe_tcp_send_fin", kind: entry}}},
		{symbol: "tcp_send_active_reset", fires: perActiveRST, programs: []program{{name: "kprobe_tcp_send_active_reset", kind: entry}}},
		{
			symbol: "tcp_disconnect", fires: perDisconnect, programs: []program{{name: "kretprobe_tcp_disconnect", kind: ret}, {name: "kprobe_tcp_disconnect", kind: entry}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", fires: perAbort, programs: []program{{name: "kretprobe_tcp_abort", kind: ret}, {name: "kprobe_tcp_abort", kind: entry}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", fires: perDone, programs: []program{{name: "kprobe_tcp_done", kind: entry}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", fires: perFINReceived, programs: []program{{name: "kprobe_tcp_fin", kind: entry}}, optional: true, unseen: finUnseen},
		{symbol: "sk_stream_error", fires: perFailedWrite, programs: []program{{name: "kprobe_sk_stream_error", kind: entry}}, optional: true, unseen: writeUnseen},
		{symbol: "__scm_destroy", fires: perRights, programs: []program{{name: "kprobe_scm_destroy", kind: entry}}, optional: true, unseen: rightsUnseen},
		{symbol: "tcp_v4_send_reset", fires: perReply, programs: []program{{name: "kprobe_tcp_v4_send_reset", kind: entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", fires: perReply, programs: []program{{name: "kprobe_tcp_v6_send_reset", kind: entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Tracepoint: {
		{symbol: "tcp:tcp_send_reset", fires: perRST, programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}}},
		{symbol: "tcp:tcp_destroy_sock", fires: perSocket, programs: []program{{name: "tracepoint_tcp_destroy_sock", kind: rawPoint, taskOnly: true}}},
		{
			symbol:   "sock:inet_sock_set_state",
			fires:    perState,
			programs: []program{{name: "tracepoint_task_state", kind: rawPoint, taskOnly: true}, {name: "tracepoint_softirq_state", kind: rawPoint}},
		},
		{
			symbol: "signal:signal_deliver", fires: perSignal, programs: []program{{name: "tracepoint_signal_deliver", kind: rawPoint}}, optional: true,
			unseen: "whether a signal interrupted a close that waited under SO_LINGER",
		},
	},
}

// sharedHooks lists what each mode attaches beside, where a close(2) that closes
// nothing is asked for: they fire for every file.
var sharedHooks = map[Mode][]hook{
	Fentry: {
		{symbol: "filp_flush", fires: perFile, programs: []program{{name: "fentry_filp_flush", kind: tracing}}, optional: true, unseen: sharedUnseen, until: closesByFilpClose},
		{symbol: "filp_close", fires: perFileEnd, programs: []program{{name: "fentry_filp_close", kind: tracing}}, optional: true, unseen: sharedUnseen, until: closesByFilpFlush},
	},
	Kprobe: {
		{symbol: "filp_flush", fires: perFile, programs: []program{{name: "kprobe_filp_flush", kind: entry}}, optional: true, unseen: sharedUnseen, until: closesByFilpClose},
		{symbol: "filp_close", fires: perFileEnd, programs: []program{{name: "kprobe_filp_close", kind: entry}}, optional: true, unseen: sharedUnseen, until: closesByFilpFlush},
	},
	Tracepoint: {{
		symbol: "raw_syscalls:sys_enter", fires: perSyscall, programs: []program{{name: "tracepoint_sys_enter", kind: rawPoint}},
		optional: true, unseen: sharedUnseen,
	}},
}

// closesByFilpFlush: close(2) calls filp_flush (6.6), and filp_close does.
func closesByFilpFlush(k *kernel.Kernel) bool { return k.HasFunc("filp_flush") }
func closesByFilpClose(k *kernel.Kernel) bool { return !closesByFilpFlush(k) }

const (
	shutdownUnseen   = "SHUT_WR on a listener, which does nothing; what shutdown(2) returned"
	disconnectUnseen = "connect(AF_UNSPEC) that sends no RST; whether connections of a closed listener moved to another"
	abortUnseen      = "that SOCK_DESTROY (ss -K) ended a listener"
	doneUnseen       = "resets received, and connections ended by a timer or by ICMP"
	finUnseen        = "FINs received"
	writeUnseen      = "writes that fail with EPIPE after a shutdown or a reset"
	rightsUnseen     = "that the last descriptor was in a message (SCM_RIGHTS); whoever dropped the message seems to close it"
	sharedUnseen     = "a close(2) that closes nothing"
	replyUnseen      = "RSTs in reply to segments for which there is no socket"
)

// How often hooks fire. None of those in hooks does so per segment or per system
// call.
const (
	perClose       = "once per close"
	perShutdown    = "once per shutdown(2) of an IP socket"
	perTCPShutdown = "once per shutdown(2) of a TCP connection"
	perFINSent     = "once per FIN sent"
	perFINReceived = "once per FIN received"
	perRST         = "once per RST sent"
	perActiveRST   = "once per RST sent that is no reply"
	perReply       = "once per RST in reply"
	perDisconnect  = "once per disconnect: SO_LINGER {1,0}, connect(AF_UNSPEC), a connect(2) that failed"
	perAbort       = "once per SOCK_DESTROY"
	perDone        = "once per connection that a segment or a timer ends"
	perFailedWrite = "once per write that fails"
	perSocket      = "once per TCP socket that is given back"
	perState       = "once per change of state of a TCP socket"
	perRights      = "once per message with descriptors (SCM_RIGHTS)"
	perFile        = "once per close(2) of any file"
	perFileEnd     = "once per close(2) of any file, and per file of a process that ends"
	perSyscall     = "once per system call"
	perSignal      = "once per signal that a process takes"
)

// gap is what a mode does not see with all its hooks.
type gap struct {
	unseen string
	until  func(*kernel.Kernel) bool // as of a hook
}

var gaps = map[Mode][]gap{
	Fentry: {{unseen: mptcpUnseen}},
	Kprobe: {{unseen: mptcpUnseen}},
	Tracepoint: {
		{unseen: "shutdown(2) that changes no state"},
		{unseen: "the return of a call: how long it took, and whether a close under SO_LINGER ran out of time"},
		{unseen: writeUnseen},
		{unseen: "whether connections of a closed listener moved to another"},
		{unseen: replyUnseen, until: replyReason},
	},
}

const mptcpUnseen = "the close of an MPTCP listener"

// replyReason: from 6.10 on tcp:tcp_send_reset tells the reason, and is fired
// for every RST in reply, with a socket or without.
func replyReason(k *kernel.Kernel) bool {
	return k.TracepointParam("tcp_send_reset", "sk_rst_reason") == 3
}

var repliesHook = hook{
	symbol: "tcp:tcp_send_reset", fires: perRST, programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}}, optional: true,
	unseen: "RSTs in reply to data that arrives after close or shutdown",
}

// Optional names the hooks of a mode without which tracing goes on and says what
// it does not see.
func Optional(m Mode) []string {
	return symbols(slices.DeleteFunc(slices.Clone(hooks[m]), func(h hook) bool { return !h.optional }))
}

// plan is what is to be attached: the hooks of a mode without those known not
// to work here, and their stand-ins.
type plan struct {
	mode    Mode
	hooks   []hook
	missing []hook
}

func newPlan(k *kernel.Kernel, mode Mode, shared bool, absent []string) plan {
	p := plan{mode: mode}
	wanted := hooks[mode]
	if shared {
		wanted = append(slices.Clone(wanted), sharedHooks[mode]...)
	}
	for _, h := range wanted {
		if h.until != nil && k != nil && h.until(k) {
			continue
		}
		if !h.optional || !slices.Contains(absent, h.symbol) {
			p.hooks = append(p.hooks, h)
			continue
		}
		p.missing = append(p.missing, h)
		if h.instead != nil {
			p.hooks = append(p.hooks, *h.instead)
		}
	}
	return p
}

// has tells whether the plan attaches a program.
func (p *plan) has(name string) bool { return hookOf(p.hooks, name) != nil }

// hookOf returns the hook that a program is for, or nil.
func hookOf(hooks []hook, name string) *hook {
	for i := range hooks {
		if slices.ContainsFunc(hooks[i].programs, func(q program) bool { return q.name == name }) {
			return &hooks[i]
		}
	}
	return nil
}

// atReturn: the program runs when a function returns. What of that is missed shows
// in the calls that have begun and not ended.
func (q *program) atReturn() bool { return q.kind == ret || strings.HasPrefix(q.name, "fexit_") }

// uncounted names the programs whose missed runs are no loss, or show elsewhere.
func (p *plan) uncounted(k *kernel.Kernel) map[string]bool {
	names := map[string]bool{}
	for _, h := range p.hooks {
		for _, q := range h.programs {
			if q.atReturn() || q.taskOnly && !k.TracepointsPreemptible() {
				names[q.name] = true
			}
		}
	}
	return names
}

// symbols names the hooks, each once.
func symbols(hooks []hook) []string {
	var names []string
	for _, h := range hooks {
		if !slices.Contains(names, h.symbol) {
			names = append(names, h.symbol)
		}
	}
	return names
}
