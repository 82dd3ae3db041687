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
func TestNothingStaysAttached(t *testing.T) {
	trace(t, probe.Filter{}).finish(t)
	eventually(t, "programs gone", func() bool { return len(ours(t)) == 0 })
}

// ours lists loaded programs that bear the names of closetrace's.
func ours(t *testing.T) []string {
	t.Helper()
	var names []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return names
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
		for _, prefix := range []string{"fentry_tcp", "fexit_tcp", "kprobe_tcp", "kretprobe_tcp", "tracepoint_"} {
			if strings.HasPrefix(info.Name, prefix) {
				names = append(names, info.Name)
			}
		}
	}
}
