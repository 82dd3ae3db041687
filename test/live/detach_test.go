//go:build linux

package live

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/closetrace/closetrace/internal/probe"
)

// After Close, and after an Open that fails, none of the programs of this
// process is left in the kernel.
func TestNothingStaysAttached(t *testing.T) { attempts(t, nothingStaysAttached) }

func nothingStaysAttached(t testing.TB) {
	tr := trace(t, probe.Filter{})
	own := held(t, os.Getpid())
	tr.finish(t)
	checkDetached(t, own)
}

// withAnotherTracer lists tests that look for what closetrace leaves in the
// kernel, and tests of privileges and check. The first ones are enough on an
// emulated processor, where each of the others takes a minute.
var withAnotherTracer = []struct {
	name string
	test func(*testing.T)
}{
	{"NothingStaysAttached", TestNothingStaysAttached},
	{"ClosedPipe", TestClosedPipe},
	{"Killed", TestKilled},
	{"RefusedMode", TestRefusedMode},
	{"Check", TestCheck},
	{"NoReader", TestNoReader},
	{"CheckCommand", TestCheckCommand},
	{"LeastPrivilege", TestLeastPrivilege},
	{"PrivilegesAreDropped", TestPrivilegesAreDropped},
	{"InterruptWhileAttaching", TestInterruptWhileAttaching},
}

// Another closetrace on this machine does not make these tests fail, and they do
// not disturb it.
func TestAnotherTracer(t *testing.T) {
	other := launchTo(t, outputFile(t), "-o", "json")
	tests := withAnotherTracer
	if emulated() {
		tests = tests[:5]
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.test)
	}
	own := held(t, other.Process.Pid)
	if len(own) < 4 {
		t.Errorf("the other closetrace holds only %v", names(own))
	}
	eventually(t, "no leftovers while the other closetrace runs", func() bool { return len(leftovers(t)) == 0 })
	if code, stderr := other.interrupt(t); code != 0 || lost(stderr) > 0 {
		t.Errorf("the other closetrace: exit code %d, %s", code, stderr)
	}
	checkDetached(t, own)
}

// What this process holds is a leftover. TestAnotherTracer shows that what
// another process holds is none.
func TestLeftovers(t *testing.T) {
	privileged(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "reply_rates", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	defer m.Close()
	eventually(t, "the map of this process is a leftover", func() bool {
		return slices.Equal(leftovers(t), []string{"reply_rates"})
	})
	must(t, m.Close())
	eventually(t, "the map is gone", func() bool { return len(leftovers(t)) == 0 })
}

// object is a BPF program or map: the key of its id in /proc/PID/fdinfo, and
// the id.
type object struct {
	key string // prog_id or map_id
	id  uint32
}

// before lists what had been loaded before the tests began: it is of another
// closetrace.
var before = sync.OnceValue(func() map[object]string {
	found, _ := loadedObjects() // without privileges no test looks for any
	return found
})

// loaded returns all BPF programs and maps with names of closetrace's. A link
// that is attached, or a file that pins something, keeps its program or map.
func loaded(t testing.TB) map[object]string {
	t.Helper()
	found, err := loadedObjects()
	must(t, err)
	return found
}

func loadedObjects() (map[object]string, error) {
	found := map[object]string{}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		id = next
		if info := programInfo(id); info != nil && isProgramName(info.Name) {
			found[object{"prog_id", uint32(id)}] = info.Name
		}
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		if name := mapName(id); name == "reply_rates" || name == "filter_values" {
			found[object{"map_id", uint32(id)}] = name
		}
	}
}

func isProgramName(name string) bool {
	for _, prefix := range []string{"fentry_", "fexit_", "kprobe_", "kretprobe_", "tracepoint_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// programInfo returns nil if the program was unloaded in the meantime.
func programInfo(id ebpf.ProgramID) *ebpf.ProgramInfo {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil
	}
	return info
}

// mapName returns "" if the map was freed in the meantime.
func mapName(id ebpf.MapID) string {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return ""
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// held returns the programs and maps of closetrace's that the descriptors of a
// process hold, or the links at its descriptors.
func held(t testing.TB, pid int) map[object]string {
	t.Helper()
	found := loaded(t)
	descriptors := descriptorObjects(pid)
	maps.DeleteFunc(found, func(o object, _ string) bool { return !descriptors[o] })
	return found
}

// descriptorObjects returns nothing of a process that has ended.
func descriptorObjects(pid int) map[object]bool {
	found := map[object]bool{}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid)) // the pattern is valid
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // closed in the meantime
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			if id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil && strings.HasSuffix(key, "_id") {
				found[object{key, uint32(id)}] = true
			}
		}
	}
	return found
}

// leftovers lists by name what the kernel holds of closetrace since the tests
// began and no other process does: programs, maps and kprobes.
func leftovers(t testing.TB) []string {
	t.Helper()
	found := loaded(t)
	maps.DeleteFunc(found, func(o object, _ string) bool { _, old := before()[o]; return old })
	if len(found) == 0 {
		return kprobesByName(t)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, process := range processes {
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for o := range descriptorObjects(pid) {
			delete(found, o)
		}
	}
	return append(names(found), kprobesByName(t)...)
}

func names(objects map[object]string) []string { return slices.Sorted(maps.Values(objects)) }

// checkDetached waits until these objects are gone from the kernel, as are all
// leftovers.
func checkDetached(t testing.TB, own map[object]string) {
	t.Helper()
	eventually(t, "programs and maps gone", func() bool {
		now := loaded(t)
		for o := range own {
			if _, still := now[o]; still {
				return false
			}
		}
		return len(leftovers(t)) == 0
	})
}

// kprobesByName lists the kprobes of tracefs, which outlive the process that
// made them. closetrace makes its kprobes by perf_event_open(2) instead.
func kprobesByName(t testing.TB) (names []string) {
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
