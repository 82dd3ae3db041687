//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/closetrace/closetrace/internal/enrich"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/netns"
)

// fixture returns targets in a made-up /proc.
func fixture(t testing.TB) targets {
	proc := t.TempDir()
	for pid, text := range map[string]string{
		"4211": "Name:\tnginx\nTgid:\t4211\nPid:\t4211\n",
		"4212": "Name:\tnginx\nTgid:\t4211\nPid:\t4212\n",
	} {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "status"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return targets{
		spaces:    netns.Finder{Proc: proc, Named: filepath.Join(proc, "netns")},
		checkPIDs: func() error { return enrich.CheckPIDs(proc) },
	}
}

func TestProcess(t *testing.T) {
	f := fixture(t)
	if err := f.process(4211); err != nil {
		t.Errorf("a process: %v", err)
	}
	for pid, want := range map[uint32]string{
		4212: "4212 is a thread of process 4211", 1: "no process has the id 1",
	} {
		if err := f.process(pid); err == nil || err.Error() != want {
			t.Errorf("%d: %v", pid, err)
		}
	}
}

// In a container the ids of processes are others than those of endings.
func TestProcessInPIDNamespace(t *testing.T) {
	const initial, other = "pid:[4026531836]", "pid:[4026532198]"
	for _, tt := range []struct {
		name, first, self string // the pid namespaces of process 1 and of this one; empty: cannot be read
		refused           bool
	}{
		{"outside", initial, initial, false},
		{"no pid namespaces", "", "", false},
		{"in a container", other, other, true},
		{"in a container, without CAP_SYS_PTRACE", "", other, true},
		{"in a new namespace with the old /proc", initial, other, false},
	} {
		f := fixture(t)
		for process, namespace := range map[string]string{"1": tt.first, "self": tt.self} {
			dir := filepath.Join(f.spaces.Proc, process, "ns")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if namespace == "" {
				continue
			}
			if err := os.Symlink(namespace, filepath.Join(dir, "pid")); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.process(4211); hint.Is(err, hint.Usage) != tt.refused || (err != nil) != tt.refused {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestNoCgroups(t *testing.T) {
	f := targets{cgroups: func() (enrich.CgroupMount, error) { return enrich.CgroupMount{}, errors.New("not mounted") }}
	if _, err := f.cgroup("/"); !hint.Is(err, hint.Unsupported) {
		t.Errorf("a filter by cgroup: %v", err)
	}
	if _, err := f.container("0f4b"); !hint.Is(err, hint.Unsupported) {
		t.Errorf("a filter by container: %v", err)
	}
}

func TestNarrow(t *testing.T) {
	for _, f := range []eventFilter{
		{}, {Events: filter.Events{Netns: []uint32{5}}}, {Events: filter.Events{IPv4: true, IPv6: true}},
	} {
		if f.narrow() {
			t.Errorf("%+v is narrow", f)
		}
	}
	for _, f := range []eventFilter{
		{Events: filter.Events{Ports: []uint16{1}}},
		{Events: filter.Events{LocalPorts: []uint16{1}}}, {Events: filter.Events{RemotePorts: []uint16{1}}},
		{Events: filter.Events{IPv4: true}}, {Events: filter.Events{IPv6: true}},
		{Events: filter.Events{Cgroups: []string{"/a"}}}, {Events: filter.Events{Containers: []string{"0f"}}},
	} {
		if !f.narrow() {
			t.Errorf("%+v is not narrow", f)
		}
	}
}
