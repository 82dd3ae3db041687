//go:build linux

package live

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

const (
	minSwitches   = 5 // so often a process leaves a CPU before anything is concluded
	maxSwitchWait = 10 * time.Second
)

// programsSkip reports whether this kernel skips BPF programs while a process is
// current. Upstream Linux does not, but some kernels skip them for process 1,
// without counting, so that what softirq does while it interrupts that process
// goes unseen. The kernel and a BPF program both count how often the process
// leaves a CPU.
func programsSkip(t testing.TB, pid int) bool {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	defer counts.Close()
	prog, err := ebpf.NewProgram(
		&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
			asm.FnGetCurrentPidTgid.Call(),
			asm.RSh.Imm(asm.R0, 32),
			asm.JNE.Imm(asm.R0, int32(pid), "out"),
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, counts.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		}},
	)
	must(t, err)
	defer prog.Close()
	ln, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_switch", Program: prog})
	must(t, err)
	defer ln.Close()
	before, left := contextSwitches(t, pid), 0
	for end := time.Now().Add(maxSwitchWait); left < minSwitches && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		left = contextSwitches(t, pid) - before
	}
	var seen uint64
	must(t, counts.Lookup(uint32(0), &seen))
	t.Logf("process %d left a CPU %d times, a program saw %d", pid, left, seen)
	return left >= minSwitches && seen == 0
}

// contextSwitches returns how often the threads of a process left a CPU,
// voluntarily or not.
func contextSwitches(t testing.TB, pid int) (n int) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(text)) {
			var switches int
			if name, value, _ := strings.Cut(line, ":"); strings.HasSuffix(name, "voluntary_ctxt_switches") {
				_, err := fmt.Sscan(value, &switches)
				must(t, err)
				n += switches
			}
		}
	}
	return n
}

// Programs run while the test process is current, or no live test would see
// anything.
func TestOwnProcessIsNotSkipped(t *testing.T) {
	privileged(t)
	if programsSkip(t, os.Getpid()) {
		t.Error("no program ran over the process that attached it")
	}
}
