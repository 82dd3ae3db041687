//go:build linux

package live

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/closetrace/closetrace/internal/probe"
)

// After Close none of our programs is left in the kernel, after an aborted Open
// neither.
func TestNothingStaysAttached(t *testing.T) { attempts(t, nothingStaysAttached) }

func nothingStaysAttached(t testing.TB) {
	trace(t, probe.Filter{}).finish(t)
	eventually(t, "programs gone", func() bool { return len(ours(t)) == 0 })
}

// ours lists loaded programs that bear the names of closetrace's.
func ours(t testing.TB) []*ebpf.ProgramInfo {
	t.Helper()
	var found []*ebpf.ProgramInfo
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return found
		}
		must(t, err)
		id = next
		prog, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := prog.Info()
		prog.Close()
		if err != nil {
			continue
		}
		for _, prefix := range []string{"fentry_", "fexit_", "kprobe_", "kretprobe_", "tracepoint_"} {
			if strings.HasPrefix(info.Name, prefix) {
				found = append(found, info)
			}
		}
	}
}

// remains lists what the kernel holds of closetrace, by name: programs, maps
// and kprobes. A link that is attached, or a file that pins something, holds a
// program or a map.
func remains(t testing.TB) []string {
	t.Helper()
	names := append(ourMaps(t), ourKprobes(t)...)
	for _, info := range ours(t) {
		names = append(names, info.Name)
	}
	return names
}

func ourMaps(t testing.TB) (names []string) {
	t.Helper()
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return names
		}
		must(t, err)
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := m.Info()
		m.Close()
		if err == nil && (info.Name == "reply_rates" || info.Name == "filter_values") {
			names = append(names, info.Name)
		}
	}
}

// ourKprobes lists the kprobes that were made by name, in tracefs, where they
// outlive their maker. closetrace has its own made otherwise.
func ourKprobes(t testing.TB) (names []string) {
	t.Helper()
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		text, err := os.ReadFile(dir + "/kprobe_events")
		if err != nil {
			continue // not mounted, or no kprobes
		}
		for l := range strings.Lines(string(text)) {
			if strings.Contains(l, "tcp") || strings.Contains(l, "inet_shutdown") || strings.Contains(l, "sk_stream_error") {
				names = append(names, l)
			}
		}
	}
	return names
}
