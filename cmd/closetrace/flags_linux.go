package main

import (
	"time"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/plan"
	"github.com/closetrace/closetrace/internal/probe"
)

const btfUsage = "type information (BTF) of this kernel, in `FILE`, if it has none of its own"

func attachChoice(to *probe.Attachment) flagvalue.Choice[probe.Mode] {
	return flagvalue.OneOf(&to.Attach, probe.Auto, probe.Fentry, probe.Kprobe, probe.Tracepoint)
}

func stackFlag(g flagGroup, stacks *bool) {
	g.flags.BoolVar(stacks, "stack", false, "add user and kernel stack traces")
}

func namesFlag(g flagGroup, names *bool) {
	g.flags.BoolVar(names, "container-names", false,
		"also show container names, queried from the runtime's API socket")
}

// defaultCloseWait is longer than a server needs that still has data to send.
const defaultCloseWait = 10 * time.Second

func closeWaitFlag(g flagGroup, wait *time.Duration) {
	g.flags.Var(flagvalue.Duration{Time: wait}, "close-wait",
		"report a received FIN only if this side has not closed within `TIME`; 0s reports every FIN immediately")
}

func verboseFlag(g flagGroup, verbose *bool) {
	g.flags.BoolVarP(verbose, "verbose", "v", false, "log to stderr what is attached, and why anything is not")
}

func attachFlag(g flagGroup, to *probe.Attachment) {
	g.flags.Var(flagvalue.File{Path: &to.BTF}, "btf", btfUsage)
	g.flags.Var(attachChoice(to), "attach", "attach mode; auto uses the first that works of fentry, kprobe, tracepoint")
}

func tierChoice(t *plan.Tier) flagvalue.Choice[plan.Tier] { return flagvalue.OneOf(t, plan.Tiers()...) }

func tierFlag(g flagGroup, t *plan.Tier) {
	g.flags.Var(tierChoice(t), "tier",
		"quiet: the kernel only counts ordinary closes; full: it reports all; auto: quiet if they are not shown")
}

func bufferFlag(g flagGroup, bytes *int) {
	g.flags.Var(flagvalue.Size{Bytes: bytes}, "buffer-size", "ring buffer size, a power of two, 64K to 1G")
}
