package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Privilege is a capability, and what closetrace needs it for.
type Privilege struct {
	Name     string `json:"capability"`
	For      string `json:"for"`
	Required bool   `json:"required"` // there is no tracing without it
	Held     bool   `json:"held"`
	Unseen   string `json:"unseen,omitempty"` // what is not seen without it
	Flag     string `json:"flag,omitempty"`   // the only flag that it is for
}

// privileges are all that closetrace uses. test/live proves each: with those
// that are required it traces, without any one of them it says what is missing.
var privileges = []struct {
	capability cap.Value
	purpose    string
	required   func(held *cap.Set) bool
	unseen     string
	flag       string
	needless   func() bool // nothing is unseen without it on this machine
	kept       bool        // needed also once attached
}{
	{
		capability: cap.BPF, purpose: "load programs, make and read maps", required: always,
		kept: true, // before 5.19 also to read a map's counters
	},
	{capability: cap.PERFMON, purpose: "attach programs to the kernel and let them read its memory", required: always},
	{
		capability: cap.SYSLOG, purpose: "name the kernel's functions (/proc/kallsyms)",
		unseen: "which timer sent a RST: it is inferred from the socket's state", needless: kallsymsReadable,
	},
	{
		capability: cap.DAC_READ_SEARCH, purpose: "list what processes of other users hold open (/proc); name cgroups that are new",
		unseen: ownersUnseen + ", and the paths of cgroups that are new", kept: true,
	},
	{
		capability: cap.SYS_PTRACE, purpose: "tell which sockets these are (/proc)",
		unseen: ownersUnseen, kept: true,
	},
	{
		capability: cap.SYS_ADMIN, purpose: "enter the network namespace of --netns; kprobes where kernel.perf_event_paranoid is above 2",
		unseen: "the audit of another network namespace", flag: "--netns",
	},
	{
		capability: cap.SYS_RESOURCE, purpose: "lift the limit on locked memory (before 5.11)",
		required: memlockTooLow,
	},
}

// FileCapabilities is what gives closetrace to everybody who may execute it, as
// setcap(8) takes it: all that a run without --netns makes use of.
const FileCapabilities = "cap_bpf,cap_perfmon,cap_syslog,cap_dac_read_search,cap_sys_ptrace=ep"

const ownersUnseen = "who holds a socket that a segment or a timer ended"

func always(*cap.Set) bool { return true }

// memlockNeeded is more than what the maps take with a ring buffer of the usual
// size.
const memlockNeeded = 32 << 20

// memlockTooLow: this kernel charges maps to the limit on locked memory, and
// the limit can neither be lifted nor is it enough. Whether it does is found by
// making a map.
func memlockTooLow(held *cap.Set) bool {
	if !holds(held, cap.BPF) || rlimit.RemoveMemlock() == nil {
		return false
	}
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || limit.Cur < memlockNeeded
}

// Privileges tells what closetrace can make use of, and what of it this process
// has in effect.
func Privileges() []Privilege {
	var all []Privilege
	set := cap.GetProc()
	for _, p := range privileges {
		q := Privilege{
			Name: name(p.capability), For: p.purpose, Required: p.required != nil && p.required(set),
			Held: holds(set, p.capability), Flag: p.flag,
		}
		if p.needless == nil || !p.needless() {
			q.Unseen = p.unseen
		}
		all = append(all, q)
	}
	return all
}

// Unseen says what is not seen for want of privileges, and for want of which.
func Unseen(of []Privilege) []string {
	var all []string
	for i, p := range of {
		lacking := func(q Privilege) bool { return !q.Held && q.Unseen == p.Unseen }
		if p.Unseen == "" || !lacking(p) || slices.ContainsFunc(of[:i], lacking) {
			continue
		}
		var names []string
		for _, q := range of[i:] {
			if lacking(q) {
				names = append(names, q.Name)
			}
		}
		all = append(all, fmt.Sprintf("%s (without %s)", p.Unseen, strings.Join(names, " and ")))
	}
	return all
}

// holds tells whether a capability is in effect. CAP_SYS_ADMIN includes those
// that were split off from it in Linux 5.8.
func holds(set *cap.Set, c cap.Value) bool {
	if c == cap.BPF || c == cap.PERFMON {
		if held, err := set.GetFlag(cap.Effective, cap.SYS_ADMIN); err == nil && held {
			return true
		}
	}
	held, err := set.GetFlag(cap.Effective, c)
	return err == nil && held
}

func name(c cap.Value) string { return strings.ToUpper(c.String()) }

// CheckPrivileges returns an [Error] of kind [ErrPrivilege] if this process
// cannot load tracing programs.
func CheckPrivileges() error {
	var missing []string
	for _, p := range Privileges() {
		if p.Required && !p.Held {
			missing = append(missing, p.Name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &Error{
		Kind: ErrPrivilege,
		What: fmt.Sprintf("tracing on kernel %s needs more privileges: %s missing", Release(), strings.Join(missing, " and ")),
		Next: "run as root: sudo closetrace; closetrace check says which capability is for what",
	}
}

// DropPrivileges gives up, for all threads and for good, what is not needed any
// more once everything is attached. With entersNetns the right to enter network
// namespaces stays.
func DropPrivileges(entersNetns bool) error {
	kept, err := stillNeeded(cap.GetProc(), entersNetns)
	if err == nil {
		err = kept.SetProc()
	}
	return err
}

// stillNeeded is what of a set is needed once attached.
func stillNeeded(now *cap.Set, entersNetns bool) (*cap.Set, error) {
	split, err := now.GetFlag(cap.Permitted, cap.BPF)
	if err != nil {
		return nil, err
	}
	kept := cap.NewSet()
	for _, p := range privileges {
		if !p.kept && (p.capability != cap.SYS_ADMIN || split && !entersNetns) {
			continue
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			had, err := now.GetFlag(flag, p.capability)
			if err == nil {
				err = kept.SetFlag(flag, had, p.capability)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return kept, nil
}
