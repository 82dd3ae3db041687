package probe

import (
	"slices"

	"github.com/closetrace/closetrace/internal/kernel"
)

// program is one BPF program and how it is attached.
type program struct {
	name string // in bpf/closetrace.bpf.c
	kind programKind
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
			programs: []program{{"fexit_tcp_close_locked", tracing}, {"fentry_tcp_close_locked", tracing}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", programs: []program{{"fexit_tcp_close", tracing}}},
		},
		{symbol: "tcp_close", programs: []program{{"fentry_tcp_close", tracing}}},
		{
			symbol:   "inet_shutdown",
			programs: []program{{"fexit_inet_shutdown", tracing}, {"fentry_inet_shutdown", tracing}},
			optional: true,
			unseen:   "shutdown(2) of a listener or of a socket that is connecting, and what shutdown(2) returned",
			instead:  &hook{symbol: "tcp_shutdown", programs: []program{{"fexit_tcp_shutdown", tracing}}},
		},
		{symbol: "tcp_shutdown", programs: []program{{"fentry_tcp_shutdown", tracing}}},
		{symbol: "tcp_send_fin", programs: []program{{"fentry_tcp_send_fin", tracing}}},
		{symbol: "tcp_send_active_reset", programs: []program{{"fentry_tcp_send_active_reset", tracing}}},
		{
			symbol: "tcp_disconnect", programs: []program{{"fexit_tcp_disconnect", tracing}, {"fentry_tcp_disconnect", tracing}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", programs: []program{{"fexit_tcp_abort", tracing}, {"fentry_tcp_abort", tracing}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", programs: []program{{"fentry_tcp_done", tracing}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", programs: []program{{"fentry_tcp_fin", tracing}}, optional: true, unseen: finUnseen},
		{symbol: "tcp_v4_send_reset", programs: []program{{"fentry_tcp_v4_send_reset", tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", programs: []program{{"fentry_tcp_v6_send_reset", tracing}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Kprobe: {
		{
			symbol:   "__tcp_close",
			programs: []program{{"kretprobe_tcp_close_locked", ret}, {"kprobe_tcp_close_locked", entry}},
			optional: true,
			unseen:   "evidence is read before the socket lock is taken; closes of MPTCP subflows",
			instead:  &hook{symbol: "tcp_close", programs: []program{{"kretprobe_tcp_close", ret}}},
		},
		{symbol: "tcp_close", programs: []program{{"kprobe_tcp_close", entry}}},
		{
			symbol:   "inet_shutdown",
			programs: []program{{"kretprobe_inet_shutdown", ret}, {"kprobe_inet_shutdown", entry}},
			optional: true,
			unseen:   "shutdown(2) of a listener or of a socket that is connecting, and what shutdown(2) returned",
			instead:  &hook{symbol: "tcp_shutdown", programs: []program{{"kretprobe_tcp_shutdown", ret}}},
		},
		{symbol: "tcp_shutdown", programs: []program{{"kprobe_tcp_shutdown", entry}}},
		{symbol: "tcp_send_fin", programs: []program{{"kprobe_tcp_send_fin", entry}}},
		{symbol: "tcp_send_active_reset", programs: []program{{"kprobe_tcp_send_active_reset", entry}}},
		{
			symbol: "tcp_disconnect", programs: []program{{"kretprobe_tcp_disconnect", ret}, {"kprobe_tcp_disconnect", entry}},
			optional: true, unseen: disconnectUnseen,
		},
		{
			symbol: "tcp_abort", programs: []program{{"kretprobe_tcp_abort", ret}, {"kprobe_tcp_abort", entry}},
			optional: true, unseen: abortUnseen,
		},
		{symbol: "tcp_done", programs: []program{{"kprobe_tcp_done", entry}}, optional: true, unseen: doneUnseen},
		{symbol: "tcp_fin", programs: []program{{"kprobe_tcp_fin", entry}}, optional: true, unseen: finUnseen},
		{symbol: "tcp_v4_send_reset", programs: []program{{"kprobe_tcp_v4_send_reset", entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		{symbol: "tcp_v6_send_reset", programs: []program{{"kprobe_tcp_v6_send_reset", entry}}, optional: true, unseen: replyUnseen, until: replyReason},
		repliesHook,
	},
	Tracepoint: {
		{symbol: "tcp:tcp_send_reset", programs: []program{{"tracepoint_tcp_send_reset", rawPoint}}},
		{symbol: "tcp:tcp_destroy_sock", programs: []program{{"tracepoint_tcp_destroy_sock", rawPoint}}},
		{
			symbol:   "sock:inet_sock_set_state",
			programs: []program{{"tracepoint_task_state", rawPoint}, {"tracepoint_softirq_state", rawPoint}},
		},
		{
			symbol: "signal:signal_deliver", programs: []program{{"tracepoint_signal_deliver", rawPoint}}, optional: true,
			unseen: "whether a signal interrupted a close that waited under SO_LINGER",
		},
	},
}

const (
	disconnectUnseen = "connect(AF_UNSPEC); which connections of a closed listener were reset and which moved to another"
	abortUnseen      = "who asked for SOCK_DESTROY (ss -K)"
	doneUnseen       = "resets received, and connections ended by a timer or by ICMP"
	finUnseen        = "FINs received"
	replyUnseen      = "RSTs in reply to segments for which there is no socket"
)

// replyReason: from 6.10 on tcp:tcp_send_reset tells the reason, and is fired
// for every RST in reply, with a socket or without.
func replyReason(k *kernel.Kernel) bool {
	return k.TracepointParam("tcp_send_reset", "sk_rst_reason") == 3
}

var repliesHook = hook{
	symbol: "tcp:tcp_send_reset", programs: []program{{"tracepoint_tcp_send_reset", rawPoint}}, optional: true,
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
