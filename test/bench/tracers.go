//go:build linux

package main

import "slices"

// Paths in the guest.
const (
	benchPath   = "/bin/bench"
	floorObject = "/bin/floor.o"
	outFile     = "/out/results.json"
	closetrace  = "/bin/closetrace" // where test/vm puts it
)

const untraced = "untraced"

// kind of tracer.
type kind string

const (
	kindNone  kind = "none"
	kindOurs  kind = "closetrace"
	kindFloor kind = "floor"
	kindPeer  kind = "peer"
)

// tracer is what connections are closed under.
type tracer struct {
	name      string
	kind      kind
	mechanism string   // fentry, kprobe, tracepoint
	argv      []string // in the guest; nil: untraced
	// ready is what its standard error says once it is attached; "": it is, when its first line comes.
	ready string
	pkg   string // the Debian package of a peer
}

// bpftraceProgram prints a line at each of the four functions that close and reset.
const bpftraceProgram = `kprobe:tcp_close,kprobe:tcp_shutdown,kprobe:tcp_send_fin,kprobe:tcp_send_active_reset ` +
	`{ printf("%s %d %s\n", probe, pid, comm); }`

var modes = []string{"fentry", "kprobe", "tracepoint"}

// tracers are all that is measured, in the order of the table.
func tracers() []tracer {
	list := []tracer{{name: untraced, kind: kindNone}}
	add := func(t tracer) { list = append(list, t) }
	for _, mode := range modes {
		ours := func(name string, args ...string) {
			add(tracer{
				name: mode + name, kind: kindOurs, mechanism: mode, ready: "tracing on",
				argv: append([]string{closetrace, "--attach", mode}, args...),
			})
		}
		ours(", json", "-o", "json")
		ours(", table")
		ours(", filter rejects", "-o", "json", "-P", "1")
		add(tracer{
			name: "floor " + mode, kind: kindFloor, mechanism: mode, ready: "attached",
			argv: []string{benchPath, "floor", mode},
		})
	}
	peer := func(name, mechanism, pkg string, argv ...string) {
		add(tracer{name: name, kind: kindPeer, mechanism: mechanism, pkg: pkg, argv: argv})
	}
	peer("tcplife", "tracepoint", "libbpf-tools", "/usr/sbin/tcplife")
	peer("tcpstates", "tracepoint", "libbpf-tools", "/usr/sbin/tcpstates")
	peer("bpftrace, four kprobes", "kprobe", "bpftrace", "/usr/bin/bpftrace", "-e", bpftraceProgram)
	return list
}

func peers() []tracer {
	return slices.DeleteFunc(tracers(), func(t tracer) bool { return t.kind != kindPeer })
}
