package kernel

import (
	"slices"
	"testing"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

func TestHolds(t *testing.T) {
	tests := []struct {
		set  string
		c    cap.Value
		want bool
	}{
		{"=ep", cap.BPF, true},
		{"=", cap.BPF, false},
		{"cap_bpf=p", cap.BPF, false},
		{"cap_bpf=ep", cap.BPF, true},
		{"cap_bpf=ep", cap.PERFMON, false},
		{"cap_sys_admin=ep", cap.BPF, true},
		{"cap_sys_admin=ep", cap.PERFMON, true},
		{"cap_sys_admin=ep", cap.SYSLOG, false},
	}
	for _, tt := range tests {
		set, err := cap.FromText(tt.set)
		if err != nil {
			t.Fatal(err)
		}
		if got := holds(set, tt.c); got != tt.want {
			t.Errorf("%s in %q: %v", tt.c, tt.set, got)
		}
	}
}

// What stays once attached: what was there, and of that only what is needed.
func TestStillNeeded(t *testing.T) {
	tests := []struct {
		set   string
		later Use
		want  string
	}{
		{"=ep", 0, "cap_bpf,cap_dac_read_search,cap_sys_ptrace=ep"},
		{"=ep", EntersNetns, "cap_bpf,cap_dac_read_search,cap_sys_ptrace,cap_sys_admin=ep"},
		{"=ep", SignalsOthers, "cap_bpf,cap_dac_read_search,cap_sys_ptrace,cap_kill=ep"},
		{"=ep", RemovesCgroup, "cap_bpf,cap_dac_read_search,cap_sys_ptrace,cap_dac_override=ep"},
		{"=ep", CreatesFiles, "cap_bpf,cap_dac_read_search,cap_sys_ptrace,cap_dac_override=ep"},
		{"cap_bpf,cap_perfmon=ep", CreatesFiles, "cap_bpf=ep"}, // a user's files need none
		{"cap_bpf,cap_perfmon,cap_syslog=ep", 0, "cap_bpf=ep"},
		{"cap_bpf,cap_perfmon=ep", EntersNetns | SignalsOthers, "cap_bpf=ep"},
		{"cap_sys_admin=ep", 0, "cap_sys_admin=ep"}, // it stands in for CAP_BPF
		{"cap_sys_ptrace=p cap_bpf=ep", 0, "cap_sys_ptrace=p cap_bpf=ep"},
	}
	for _, tt := range tests {
		now, err := cap.FromText(tt.set)
		if err != nil {
			t.Fatal(err)
		}
		want, err := cap.FromText(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := stillNeeded(now, tt.later)
		if err != nil {
			t.Fatal(err)
		}
		if differ, err := got.Cf(want); err != nil || differ != 0 {
			t.Errorf("of %q, %v: %s, want %s", tt.set, tt.later, got, want)
		}
	}
}

// Every privilege says what for, and what is lost without it unless all is.
func TestPrivileges(t *testing.T) {
	for _, p := range privileges {
		if p.purpose == "" || (p.required == nil) == (p.unseen == "") {
			t.Errorf("%s: for %q, required: %v, unseen without it: %q", p.capability, p.purpose, p.required != nil, p.unseen)
		}
	}
}

func TestUnseen(t *testing.T) {
	all := []Privilege{
		{Name: "CAP_A", Required: true},
		{Name: "CAP_B", Unseen: "b"}, {Name: "CAP_C", Unseen: "b"}, {Name: "CAP_D", Unseen: "d", Held: true},
		{Name: "CAP_E", Unseen: "e"},
	}
	want := []string{"b (without CAP_B and CAP_C)", "e (without CAP_E)"}
	if got := Unseen(all); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	all[1].Held = true
	if got := Unseen(all[:4]); !slices.Equal(got, []string{"b (without CAP_C)"}) {
		t.Errorf("%q", got)
	}
}
