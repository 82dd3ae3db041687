package probe

import (
	"cmp"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/kernel"
)

// program is one BPF program and how it is attached.
type program struct {
	name string // in bpf/closetrace.bpf.c
	kind programKind
	// taskOnly: the program returns at once in softirq. If the kernel skips a run because softirq interrupted the
	// program on behalf of a task, nothing is lost. If another task can interrupt it too, something may be lost, and
	// the kernel does not show which of the two it was.
	taskOnly bool
}

type programKind uint8

const (
	tracing   programKind = iota // fentry, fexit: the target is in the program's section
	kprobe                       // at the entry of a function
	kretprobe                    // at its return
	rawPoint                     // raw tracepoint
)

// hook is a place in the kernel and the programs that are attached to it in one mode.
type hook struct {
	symbol   string // function, or tracepoint as subsystem:name
	programs []program
	optional bool
	unseen   string // what is not seen without it, for people
	fires    string // how often its programs run, for people
	// until, if set, reports that this kernel does not need the hook, or cannot answer with it.
	until func(*kernel.Kernel) bool
	// useless says why a kernel for which until holds cannot answer with the hook; "": it does not need it.
	useless string
	// instead is attached if an optional hook cannot be.
	instead *hook
	// module is the kernel module that the function is in, unless it is built in. The module may be loaded later: until
	// then the function does nothing, and its absence is not a fault of the kernel.
	module string
}

// function is a kernel function that fentry and kprobe mode trace.
type function struct {
	symbol string
	// handler is what the names of its programs have after fentry_, fexit_, kprobe_ and kretprobe_: "" is the symbol.
	handler  string
	atReturn bool // there is also a program at its return
	optional bool
	unseen   string
	fires    string
	until    func(*kernel.Kernel) bool
	useless  string // as in hook
	// instead is the function whose return is traced if this optional one cannot be.
	instead string
	module  string // as in hook
}

// functions are the kernel functions of fentry and kprobe mode, in the order of attaching.
var functions = []function{
	{
		symbol: "__tcp_close", handler: "tcp_close_locked", atReturn: true, fires: perClose, optional: true,
		unseen:  "evidence is read before the socket lock is taken; closes of MPTCP subflows",
		instead: "tcp_close",
	},
	{symbol: "tcp_close", fires: perClose},
	{
		symbol: "inet_shutdown", atReturn: true, fires: perShutdown, optional: true,
		unseen:  "SHUT_WR on a listener, which does nothing; what shutdown(2) returned",
		instead: "tcp_shutdown",
	},
	{symbol: "tcp_shutdown", fires: perTCPShutdown},
	{symbol: "tcp_send_fin", fires: perFINSent},
	{symbol: "tcp_send_active_reset", fires: perActiveRST},
	{
		symbol: "tcp_disconnect", atReturn: true, fires: perDisconnect, optional: true,
		unseen: "connect(AF_UNSPEC) that sends no RST; whether connections of a closed listener moved to another",
	},
	{
		symbol: "tcp_abort", atReturn: true, fires: perAbort, optional: true,
		unseen: "that SOCK_DESTROY (ss -K) ended a listener",
	},
	{
		symbol: "tcp_done", fires: perDone, optional: true,
		unseen: "resets received, and connections ended by a timer or by ICMP",
	},
	{
		symbol: "tcp_reset", fires: perRSTReceived, optional: true, unseen: headersUnseen, until: resetsWithoutSegment,
		useless: "does not get the segment before Linux 5.12",
	},
	{symbol: "tcp_fin", fires: perFINReceived, optional: true, unseen: "FINs received"},
	{symbol: "sk_stream_error", fires: perFailedWrite, optional: true, unseen: writeUnseen},
	{
		symbol: "__scm_destroy", handler: "scm_destroy", fires: perRights, optional: true,
		unseen: "that the last descriptor was in a message (SCM_RIGHTS): " +
			"the process that dropped the message seems to close it",
	},
	{symbol: "tcp_v4_send_reset", fires: perReply, optional: true, unseen: replyUnseen, until: hasReplyReason},
	{symbol: "tcp_v6_send_reset", fires: perReply, optional: true, unseen: replyUnseen, until: hasReplyReason},
	{symbol: "nf_send_reset", fires: perReject, optional: true, unseen: rejectUnseen, module: "nf_reject_ipv4"},
	{symbol: "nf_send_reset6", fires: perReject, optional: true, unseen: rejectUnseen, module: "nf_reject_ipv6"},
}

// sharedFunctions are traced in addition if close(2) on shared descriptors is to be reported. They fire for every file.
var sharedFunctions = []function{
	{symbol: "filp_flush", fires: perFile, optional: true, unseen: sharedUnseen, until: closesByFilpClose},
	{symbol: "filp_close", fires: perFileEnd, optional: true, unseen: sharedUnseen, until: closesByFilpFlush},
}

// hooks are the hooks of each mode, in the order of attaching.
var hooks = map[Mode][]hook{
	Fentry: append(hooksOf(Fentry, functions), repliesHook, renameHook),
	Kprobe: append(hooksOf(Kprobe, functions), repliesHook, renameHook),
	Tracepoint: {
		{
			symbol: "tcp:tcp_send_reset", fires: perRST,
			programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}},
		},
		{
			symbol: "tcp:tcp_destroy_sock", fires: perSocket,
			programs: []program{{name: "tracepoint_tcp_destroy_sock", kind: rawPoint, taskOnly: true}},
		},
		{
			symbol: "sock:inet_sock_set_state", fires: perState,
			programs: []program{
				{name: "tracepoint_task_state", kind: rawPoint, taskOnly: true},
				{name: "tracepoint_softirq_state", kind: rawPoint},
			},
		},
		{
			symbol: "signal:signal_deliver", fires: perSignal, optional: true,
			programs: []program{{name: "tracepoint_signal_deliver", kind: rawPoint}},
			unseen:   "whether a signal interrupted a close that waited under SO_LINGER",
		},
		renameHook,
	},
}

// sharedHooks are the hooks of each mode that are attached for [Options.SharedCloses] alone.
var sharedHooks = map[Mode][]hook{
	Fentry: hooksOf(Fentry, sharedFunctions),
	Kprobe: hooksOf(Kprobe, sharedFunctions),
	Tracepoint: {{
		symbol: "raw_syscalls:sys_enter", fires: perSyscall, optional: true, unseen: sharedUnseen,
		programs: []program{{name: "tracepoint_sys_enter", kind: rawPoint}},
	}},
}

// repliesHook is attached in every mode. It is required in tracepoint mode, which has no other hook for RSTs.
var repliesHook = hook{
	symbol: "tcp:tcp_send_reset", fires: perRST, optional: true,
	programs: []program{{name: "tracepoint_tcp_send_reset", kind: rawPoint}},
	unseen:   "RSTs in reply to data that arrives after close or shutdown",
}

// renameHook is attached in every mode.
var renameHook = hook{
	symbol: "task:task_rename", fires: perRename, optional: true,
	programs: []program{{name: "tracepoint_task_rename", kind: rawPoint}},
	unseen:   "the name of the program that had a close-on-exec socket, before execve(2)",
}

// hooksOf returns the hooks of a mode that traces functions.
func hooksOf(m Mode, functions []function) []hook {
	var all []hook
	for _, f := range functions {
		h := hook{
			symbol: f.symbol, optional: f.optional, unseen: f.unseen, fires: f.fires, until: f.until, useless: f.useless,
			module: f.module,
		}
		// The return comes first, so that no call is followed whose return would be missed.
		if f.atReturn {
			h.programs = append(h.programs, f.returnProgram(m))
		}
		h.programs = append(h.programs, f.entryProgram(m))
		if f.instead != "" {
			other := functions[slices.IndexFunc(functions, func(g function) bool { return g.symbol == f.instead })]
			h.instead = &hook{symbol: other.symbol, fires: other.fires, programs: []program{other.returnProgram(m)}}
		}
		all = append(all, h)
	}
	return all
}

func (f *function) entryProgram(m Mode) program {
	name := cmp.Or(f.handler, f.symbol)
	if m == Fentry {
		return program{name: "fentry_" + name, kind: tracing}
	}
	return program{name: "kprobe_" + name, kind: kprobe}
}

func (f *function) returnProgram(m Mode) program {
	name := cmp.Or(f.handler, f.symbol)
	if m == Fentry {
		return program{name: "fexit_" + name, kind: tracing}
	}
	return program{name: "kretprobe_" + name, kind: kretprobe}
}

// closesByFilpFlush reports whether close(2) calls filp_flush (6.6). Before, it called filp_close.
func closesByFilpFlush(k *kernel.Kernel) bool { return k.HasFunc("filp_flush") }
func closesByFilpClose(k *kernel.Kernel) bool { return !closesByFilpFlush(k) }

// resetsWithoutSegment reports whether tcp_reset does not get the segment (before 5.12).
func resetsWithoutSegment(k *kernel.Kernel) bool { return k.FuncParams("tcp_reset") < 2 }
func resetsBySegment(k *kernel.Kernel) bool      { return !resetsWithoutSegment(k) }

const (
	headersUnseen = "TTL, window, IP id, TCP options and sequence numbers of a RST received"
	writeUnseen   = "writes that fail with EPIPE after a shutdown or a reset"
	sharedUnseen  = "close(2) on a shared descriptor"
	replyUnseen   = "RSTs in reply to segments for which there is no socket"
	rejectUnseen  = "RSTs that netfilter sends for a rule (REJECT with tcp-reset)"
)

// How often hooks fire. Only shared hooks fire per system call, and none fires per segment.
const (
	perClose       = "once per close"
	perShutdown    = "once per shutdown(2) of an IP socket"
	perTCPShutdown = "once per shutdown(2) of a TCP connection"
	perFINSent     = "once per FIN sent"
	perFINReceived = "once per FIN received"
	perRSTReceived = "once per RST received"
	perRST         = "once per RST sent"
	perActiveRST   = "once per RST sent that is not a reply"
	perReply       = "once per RST in reply"
	perReject      = "once per RST that netfilter sends"
	perDisconnect  = "once per disconnect: SO_LINGER {1,0}, connect(AF_UNSPEC), a connect(2) that failed"
	perAbort       = "once per SOCK_DESTROY"
	perDone        = "once per connection that a segment or a timer ends"
	perFailedWrite = "once per write that fails"
	perSocket      = "once per TCP socket that is freed"
	perState       = "once per change of state of a TCP socket"
	perRights      = "once per message with descriptors (SCM_RIGHTS)"
	perFile        = "once per close(2) of any file"
	perFileEnd     = "once per close(2) of any file, and per file of a process that ends"
	perSyscall     = "once per system call"
	perRename      = "once per execve(2), and per change of a thread's name"
	perSignal      = "once per signal delivered to a process"
)

// gap is what a mode does not see even with all its hooks.
type gap struct {
	unseen string
	until  func(*kernel.Kernel) bool // as in hook
}

var gaps = map[Mode][]gap{
	Fentry: {{unseen: mptcpUnseen}, {unseen: headersUnseen, until: resetsBySegment}},
	Kprobe: {{unseen: mptcpUnseen}, {unseen: headersUnseen, until: resetsBySegment}},
	Tracepoint: {
		{unseen: "shutdown(2) that changes no state"},
		{unseen: "the return of a call: how long it took, and whether a close under SO_LINGER ran out of time"},
		{unseen: writeUnseen},
		{unseen: "whether connections of a closed listener moved to another"},
		{unseen: headersUnseen},
		{unseen: replyUnseen, until: hasReplyReason},
		{unseen: rejectUnseen},
	},
}

const mptcpUnseen = "the close of an MPTCP listener"

// hasReplyReason reports whether tcp:tcp_send_reset has the reason, and fires for every RST in reply, with a socket or
// without (6.10).
func hasReplyReason(k *kernel.Kernel) bool {
	return k.TracepointParam("tcp_send_reset", "sk_rst_reason") == 3
}

// Optional returns the symbols of the hooks of a mode that are not required: without them closetrace traces the rest,
// and says what it does not see.
func Optional(m Mode) []string {
	return symbols(slices.DeleteFunc(slices.Clone(hooks[m]), func(h hook) bool { return !h.optional }))
}

// plan is what is to be attached: the hooks of a mode, with replacements for those that do not work here.
type plan struct {
	mode    Mode
	hooks   []hook
	missing []hook // do not work here
	// needless are the symbols of hooks that the quiet tier does without.
	needless []string
}

// leaveOut leaves out the functions that fire for every ordinary close and say nothing about other endings that the
// rest does not: that a close waited for the socket lock; and a FIN that the state of its socket implies, if all
// ordinary closes are noted. The rest must be there.
func (p *plan) leaveOut(q Quiet, absent []string) {
	has := func(symbol string) bool { return !slices.Contains(absent, symbol) }
	if p.mode == Tracepoint || !q.Any() || !has("__tcp_close") || !has("tcp_disconnect") {
		return
	}
	p.needless = []string{"tcp_close"}
	if q.Active && q.Passive && has("inet_shutdown") {
		p.needless = append(p.needless, "tcp_send_fin")
	}
}

// infersFINs reports whether the kernel side infers the FINs sent.
func (p *plan) infersFINs() bool { return slices.Contains(p.needless, "tcp_send_fin") }

func newPlan(k *kernel.Kernel, mode Mode, o Options, absent []string) plan {
	p := plan{mode: mode}
	p.leaveOut(o.Quiet, absent)
	wanted := hooks[mode]
	if o.SharedCloses {
		wanted = append(slices.Clone(wanted), sharedHooks[mode]...)
	}
	for _, h := range wanted {
		if h.until != nil && k != nil && h.until(k) || slices.Contains(p.needless, h.symbol) {
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

// has reports whether the plan attaches a program.
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

// atReturn reports whether the program runs when a function returns. Missed runs show as calls that began and did not
// end.
func (q *program) atReturn() bool { return q.kind == kretprobe || strings.HasPrefix(q.name, "fexit_") }

// uncounted returns the names of the programs whose missed runs are no loss, or are counted elsewhere.
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

// notLoaded reports whether the function of a hook that is missing is in a module that is not loaded.
func (h *hook) notLoaded() bool { return h.module != "" && !kernel.HasModule(h.module) }

// symbols returns the symbols of hooks, each once.
func symbols(hooks []hook) []string {
	var names []string
	for _, h := range hooks {
		if !slices.Contains(names, h.symbol) {
			names = append(names, h.symbol)
		}
	}
	return names
}
