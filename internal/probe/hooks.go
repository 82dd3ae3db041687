package probe

import (
	"slices"

	"github.com/closetrace/closetrace/internal/kernel"
)

// program is one BPF program and how it is attached.
type program struct {
	name string // in bpf/closetrace.bpf.c
	kind programKind
	// taskOnly: in softirq the program returns at once. A run that the kernel
	// leaves out, because softirq came in the middle of the program on a
	// task's behalf, is no loss then. (Tracepoints run their programs with
	// preemption off, so no other task can come in the middle.)
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
			programs: []program{{name: "fexit_tcp_close_locked", kind: tracing}, {name: "fentry_tcp_close_locked", kind: tracing}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", programs: []program{{name: "fexit_tcp_close", kind: tracing}}},
		},
		{symbol: "tcp_close", programs: []program{{name: "fentry_tcp_close", kind: tracing}}},
		{
			symbol:   "inet_shutdown",
			programs: []program{{name: "fexit_inet_shutdown", kind: tracing}, {name: "fentry_inet_shutdown", kind: tracing}},
			optional: true,
			unseen:   "shutdown(2) of a listener or of a socket that is connecting, and what shutdown(2) returned",
			instead:  &hook{symbol: "tcp_shutdown", programs: []program{{name: "fexit_tcp_shutdown", kind: tracing}}},
		},
		{symbol: "tcp_shutdown", programs: []program{{name: "fentry_tcp_shutdown", kind: tracing}}},
		{symbol: "tcp_send_fin", programs: []program{{name: "fentry_tcp_send_fin", kind: tracing}}},
		{symbol: "tcp_send_active_reset", programs: []program{{name: "fentry_tcp_send_active_reset", kind: tracing}}},
		{
			symbol: "tcp_disconnect", programs: []program{{name: "fexit_tcp_disconnect", kind: tracing}, {name: "fentry_tcp_disconnect", kind: tracing}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", programs: []program{{name: "fexit_tcp_abort", kind: tracing}, {name: "fentry_tcp_abort", kind: tracing}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", programs: []program{{name: "fentry_tcp_done", kind: tracing}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", programs: []program{{name: "fentry_tcp_fin", kind: tracing}}, optional: true, unseen: finUnseen},
		{symbol: "sk_stream_error", programs: []program{{name: "fentry_sk_stream_error", kind: tracing}}, optional: true, unseen: writeUnseen},
		{symbol: "tcp_v4_send_reset", programs: []program{{name: "fentry_tcp_v4_send_reset", kind: tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", programs: []program{{name: "fentry_tcp_v6_send_reset", kind: tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Kprobe: {
		{
			symbol:   "__tcp_close",
			programs: []program{{name: "kretprobe_tcp_close_locked", kind: ret}, {name: "kprobe_tcp_close_locked", kind: entry}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", programs: []program{{name: "kretprobe_tcp_close", kind: ret}}},
		},
		{symbol: "tcp_close", programs: []program{{name: "kprobe_tcp_close", kind: entry}}},
		{
			symbol:   "inet_shutdown",
			programs: []program{{name: "kretprobe_inet_shutdown", kind: ret}, {name: "kprobe_inet_shutdown", kind: entry}},
			optional: true,
			unseen:   "shutdown(2) of a listener or of a socket that is connecting, and what shutdown(2) returned",
			instead:  &hook{symbol: "tcp_shutdown", programs: []program{{name: "kretprobe_tcp_shutdown", kind: ret}}},
		},
		{symbol: "tcp_shutdown", programs: []program{{name: "kprobe_tcp_shutdown", kind: entry}}},
		{symbol: "tcp_send_fin", programs: []program{{name: "kprobe_tcp_send_fin", kind: entry}}},
		{symbol: "tcp_send_active_reset", programs: []program{{name: "kprobe_tcp_send_active_reset", kind: entry}}},
		{
			symbol: "tcp_disconnect", programs: []program{{name: "kretprobe_tcp_disconnect", kind: ret}, {name: "kprobe_tcp_disconnect", kind: entry}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", programs: []program{{name: "kretprobe_tcp_abort", kind: ret}, {name: "kprobe_tcp_abort", kind: entry}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", programs: []program{{name: "kprobe_tcp_done", kind: entry}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", programs: []program{{name: "kprobe_tcp_fin", kind: entry}}, optional: true, unseen: finUnseen},
		{symbol: "sk_stream_error", programs: []program{{name: "kprobe_sk_stream_error", kind: entry}}, optional: true, unseen: writeUnseen},
		{symbol: "tcp_v4_send_reset", programs: []program{{name: "kprobe_tcp_v4_send_reset", kind: entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", programs: []program{{name: "kprobe_tcp_v6_send_reset", kind: entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Tracepoint: {
		{symbol: "tcp:tcp_send_reset", programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}}},
		{symbol: "tcp:tcp_destroy_sock", programs: []program{{name: "tracepoint_tcp_destroy_sock", kind: rawPoint, taskOnly: true}}},
		{
			symbol:   "sock:inet_sock_set_state",
			programs: []program{{name: "tracepoint_task_state", kind: rawPoint, taskOnly: true}, {name: "tracepoint_softirq_state", kind: rawPoint}},
		},
		{
			symbol: "signal:signal_deliver", programs: []program{{name: "tracepoint_signal_deliver", kind: rawPoint, taskOnly: true}}, optional: true,
			unseen: "whether a signal interrupted a close that waited under SO_LINGER",
		},
	},
}

const (
	disconnectUnseen = "connect(AF_UNSPEC); which connections of a closed listener were reset and which moved to another"
	abortUnseen      = "who asked for SOCK_DESTROY (ss -K)"
	doneUnseen       = "resets received, and connections ended by a timer or by ICMP"
	finUnseen        = "FINs received"
	writeUnseen      = "writes that fail with EPIPE after a shutdown or a reset"
	replyUnseen      = "RSTs in reply to segments for which there is no socket"
)

// replyReason: from 6.10 on tcp:tcp_send_reset tells the reason, and is fired
// for every RST in reply, with a socket or without.
func replyReason(k *kernel.Kernel) bool {
	return k.TracepointParam("tcp_send_reset", "sk_rst_reason") == 3
}

var repliesHook = hook{
	symbol: "tcp:tcp_send_reset", programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}}, optional: true,
	unseen: "RSTs in reply to data that arrives after close or shutdown",
}

// plan is what is to be attached: the hooks of a mode without those known not
// to work here, and their stand-ins.
type plan struct {
	mode    Mode
	hooks   []hook
	missing []hook
}

func newPlan(k *kernel.Kernel, mode Mode, absent []string) plan {
	p := plan{mode: mode}
	for _, h := range hooks[mode] {
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
func (p *plan) has(name string) bool {
	return slices.ContainsFunc(p.hooks, func(h hook) bool {
		return slices.ContainsFunc(h.programs, func(q program) bool { return q.name == name })
	})
}

// taskOnly names the programs whose missed runs in softirq are no loss.
func (p *plan) taskOnly() map[string]bool {
	names := map[string]bool{}
	for _, h := range p.hooks {
		for _, q := range h.programs {
			if q.taskOnly {
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
