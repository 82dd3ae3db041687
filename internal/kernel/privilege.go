package kernel

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rights"
)

// Privilege is a capability and what closetrace needs it for.
type Privilege struct {
	Name     string `json:"capability"`
	For      string `json:"for"`
	Required bool   `json:"required"` // tracing is impossible without it
	Held     bool   `json:"held"`
	Unseen   string `json:"unseen,omitempty"` // what is not seen without it
	Flag     string `json:"flag,omitempty"`   // the only flag that needs it
}

// privileges are all capabilities that closetrace uses. test/live checks each: with the required ones closetrace
// traces, and without one of the others it says what it does not see.
var privileges = []struct {
	capability cap.Value
	purpose    string
	required   func(held *cap.Set) bool
	unseen     string
	flag       string
	needless   func() bool // this machine shows the same without it
	kept       bool        // still needed once attached
}{
	{
		capability: cap.BPF, purpose: "load programs, create and read maps", required: always,
		kept: true, // before 5.19 also to read a map's counters
	},
	{capability: cap.PERFMON, purpose: "attach programs to the kernel and let them read its memory", required: always},
	{
		capability: cap.SYSLOG, purpose: "name the kernel's functions (/proc/kallsyms)",
		unseen:   "which timer sent a RST, and whether ICMP refused a connection: inferred from the socket's state",
		needless: kallsymsReadable,
	},
	{
		capability: cap.DAC_READ_SEARCH,
		purpose:    "list the descriptors of other users' processes (/proc); resolve paths of new cgroups",
		unseen:     ownersUnseen + ", and the paths of new cgroups", kept: true,
	},
	{
		capability: cap.SYS_PTRACE, purpose: "see which sockets these descriptors are (/proc)",
		unseen: ownersUnseen, kept: true,
	},
	{
		capability: cap.SYS_ADMIN,
		purpose:    "enter the network namespace of --netns; kprobes where kernel.perf_event_paranoid is above 2",
		unseen:     "the audit of another network namespace", flag: "--netns",
	},
	{
		capability: cap.SYS_RESOURCE, purpose: "lift the limit on locked memory (before 5.11)",
		required: memlockTooLow,
	},
}

// FileCapabilities is the argument of setcap(8) that lets every user who may execute closetrace trace: all that it uses
// without --netns.
const FileCapabilities = "cap_bpf,cap_perfmon,cap_syslog,cap_dac_read_search,cap_sys_ptrace=ep"

const ownersUnseen = "the process that holds a socket that a segment or a timer ended"

func always(*cap.Set) bool { return true }

// memlockNeeded exceeds what the maps need with the default ring buffer.
const memlockNeeded = 32 << 20

// memlockTooLow reports whether this kernel charges maps to the limit on locked memory, and that limit is too low and
// cannot be lifted.
func memlockTooLow(held *cap.Set) bool {
	if !holds(held, cap.BPF) || rlimit.RemoveMemlock() == nil || !chargesLockedMemory() {
		return false
	}
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || limit.Cur < memlockNeeded
}

// Privileges returns the capabilities that closetrace can use, and whether this process has them in effect.
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

// Unseen returns what is not seen because privileges are missing, with the names of those.
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

// holds reports whether a capability is in effect. CAP_SYS_ADMIN includes those that were split from it in Linux 5.8.
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

// CheckPrivileges returns an error of kind [hint.Privilege] if this process cannot load tracing programs.
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
	return &hint.Error{
		Kind: hint.Privilege,
		What: fmt.Sprintf("tracing on kernel %s needs more privileges: %s missing",
			Release(), strings.Join(missing, " and ")),
		Hint: "run as root (sudo closetrace); closetrace check lists what each capability is for",
	}
}

// Use is what a run still does once it is attached, beyond reading events and /proc.
type Use uint8

// The uses, which can be combined.
const (
	EntersNetns   Use = 1 << iota // enters network namespaces
	SignalsOthers                 // signals processes of other users
	RemovesCgroup                 // removes a cgroup, also where root may not write to the one above (mode 0555)
	CreatesFiles                  // creates and deletes files, also in directories of other users if it is root
)

// DropPrivileges permanently drops, for all threads, the capabilities that are not needed after attaching, nor for
// later.
func DropPrivileges(later Use) error {
	kept, err := stillNeeded(cap.GetProc(), later)
	if err != nil {
		return err
	}
	return rights.Limit(kept)
}

// stillNeeded returns the part of a set that is needed after attaching.
func stillNeeded(now *cap.Set, later Use) (*cap.Set, error) {
	split, err := now.GetFlag(cap.Permitted, cap.BPF)
	if err != nil {
		return nil, err
	}
	var needed []cap.Value
	for _, p := range privileges {
		if p.kept || p.capability == cap.SYS_ADMIN && (!split || later&EntersNetns != 0) {
			needed = append(needed, p.capability)
		}
	}
	if later&SignalsOthers != 0 {
		needed = append(needed, cap.KILL)
	}
	if later&(RemovesCgroup|CreatesFiles) != 0 {
		needed = append(needed, cap.DAC_OVERRIDE)
	}
	kept := cap.NewSet()
	for _, c := range needed {
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			had, err := now.GetFlag(flag, c)
			if err == nil {
				err = kept.SetFlag(flag, had, c)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return kept, nil
}
