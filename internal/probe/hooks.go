package probe

import "slices"

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
		{symbol: "tcp_disconnect", programs: []program{{"fentry_tcp_disconnect", tracing}}, optional: true, unseen: disconnectUnseen},
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
		{symbol: "tcp_disconnect", programs: []program{{"kprobe_tcp_disconnect", entry}}, optional: true, unseen: disconnectUnseen},
		repliesHook,
	},
	Tracepoint: {
		{symbol: "tcp:tcp_send_reset", programs: []program{{"tracepoint_tcp_send_reset", rawPoint}}},
		{symbol: "tcp:tcp_destroy_sock", programs: []program{{"tracepoint_tcp_destroy_sock", rawPoint}}},
		{symbol: "sock:inet_sock_set_state", programs: []program{{"tracepoint_inet_sock_set_state", rawPoint}}},
		{
			symbol: "signal:signal_deliver", programs: []program{{"tracepoint_signal_deliver", rawPoint}}, optional: true,
			unseen: "whether a signal interrupted a close that waited under SO_LINGER",
		},
	},
}

const disconnectUnseen = "which connections of a closed listener were reset and which moved to another listener"

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

func newPlan(mode Mode, absent []string) plan {
	p := plan{mode: mode}
	for _, h := range hooks[mode] {
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
