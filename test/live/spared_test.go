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
	sparedLeaves = 5 // so often a process leaves a CPU before anything is concluded
	sparedTime   = 10 * time.Second
)

// spared tells whether this kernel keeps programs from running over a process. Linux has no such thing, but there are
// kernels that spare process 1, which runs the machine, and do not count that. Then nothing is seen of what softirq does
// while it interrupts that process. How often a process leaves a CPU is counted by the kernel, and here by a program.
func spared(t testing.TB, pid int) bool {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	defer counts.Close()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
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
	}})
	must(t, err)
	defer prog.Close()
	ln, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sched_switch", Program: prog})
	must(t, err)
	defer ln.Close()
	before, left := leaves(t, pid), 0
	for end := time.Now().Add(sparedTime); left < sparedLeaves && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		left = leaves(t, pid) - before
	}
	var seen uint64
	must(t, counts.Lookup(uint32(0), &seen))
	t.Logf("process %d left a CPU %d times, a program saw %d", pid, left, seen)
	return left >= sparedLeaves && seen == 0
}

// leaves is how often the threads of a process have left a CPU, of their own accord and not.
func leaves(t testing.TB, pid int) (n int) {
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

// What runs over a test is seen, or nothing would be.
func TestSpared(t *testing.T) {
	privileged(t)
	if spared(t, os.Getpid()) {
		t.Error("no program ran over the process that attached it")
	}
}
