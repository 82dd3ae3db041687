//go:build linux

package main

import (
	"slices"
	"strings"
)

// Paths in the guest.
const (
	benchPath   = "/bin/bench"
	floorObject = "/bin/floor.o"
	outFile     = "/out/results.json"
	closetrace  = "/bin/closetrace" // where test/vm puts it
)

// What closetrace does, after the mode in the name of a row. In the quiet tier it shows nothing of the FIN mix.
const (
	jsonTracer    = ", json"
	quietTracer   = ", only RSTs"
	recordTracer  = ", record"
	zstTracer     = ", record .zst"
	serveTracer   = ", serve"
	rejectsTracer = ", filter rejects"
)

// recording is the file of a recording, without its suffix.
const recording = "/tmp/bench"

const untraced = "untraced"

// kind of tracer.
type kind string

const (
	kindNone  kind = "none"
	kindOurs  kind = "closetrace"
	kindFloor kind = "floor"
	kindPeer  kind = "peer"
)

// tracer is what traces the connections.
type tracer struct {
	name      string
	kind      kind
	mechanism string   // fentry, kprobe, tracepoint
	argv      []string // in the guest; nil: untraced
	// ready is what it prints to standard error when it has attached; "": it prints its first line then.
	ready string
	pkg   string // the Debian package of a peer
	mixes string // that it is measured under; "": all
	file  string // that it writes instead of standard output
}

// isMeasured reports whether the tracer is measured under a mix.
func (t *tracer) isMeasured(mix string) bool {
	return t.mixes == "" || slices.Contains(strings.Split(t.mixes, ","), mix)
}

// bpftraceProgram prints a line at each of the four functions that close and reset.
const bpftraceProgram = `kprobe:tcp_close,kprobe:tcp_shutdown,kprobe:tcp_send_fin,kprobe:tcp_send_active_reset ` +
	`{ printf("%s %d %s\n", probe, pid, comm); }`

var modes = []string{"fentry", "kprobe", "tracepoint"}

// tracers lists everything that is measured, in the order of the table.
func tracers() []tracer {
	list := []tracer{{name: untraced, kind: kindNone}}
	add := func(t tracer) { list = append(list, t) }
	for _, mode := range modes {
		ours := func(name, mixes string, args ...string) tracer {
			return tracer{
				name: mode + name, kind: kindOurs, mechanism: mode, ready: "tracing on", mixes: mixes,
				argv: append(append([]string{closetrace}, args...), "--attach", mode),
			}
		}
		record := func(name, file string) tracer {
			t := ours(name, mixFIN, "record", "-w", file, "--force")
			t.file = file
			return t
		}
		add(ours(jsonTracer, "", "-o", "json"))
		add(ours(", table", mixFIN))
		add(ours(quietTracer, mixFIN+","+mixLinger0+","+mixUnread, "-o", "json", "--only", "rst"))
		add(record(recordTracer, recording+".rec"))
		add(record(zstTracer, recording+".rec.zst"))
		// Without the scan for stuck sockets, which is every 30 s and may fall into a measurement or not.
		add(ours(serveTracer, mixFIN, "serve", "--stuck-every", "0s"))
		add(ours(rejectsTracer, mixFIN, "-o", "json", "-P", "1"))
		add(tracer{
			name: "floor " + mode, kind: kindFloor, mechanism: mode, ready: "attached", mixes: mixFIN,
			argv: []string{benchPath, "floor", mode},
		})
	}
	peer := func(name, mechanism, pkg string, argv ...string) {
		add(tracer{name: name, kind: kindPeer, mechanism: mechanism, pkg: pkg, argv: argv, mixes: mixFIN})
	}
	peer("tcplife", "tracepoint", "libbpf-tools", "/usr/sbin/tcplife")
	peer("tcpstates", "tracepoint", "libbpf-tools", "/usr/sbin/tcpstates")
	peer("bpftrace, four kprobes", "kprobe", "bpftrace", "/usr/bin/bpftrace", "-e", bpftraceProgram)
	return list
}

func peers() []tracer {
	return slices.DeleteFunc(tracers(), func(t tracer) bool { return t.kind != kindPeer })
}
