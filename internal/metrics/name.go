package metrics

import (
	"cmp"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/closetrace/closetrace/internal/events"
)

// The workloads that are not the name of one. No name is one of these.
const (
	Other = "other" // those that are beyond the bound
	Any   = "any"   // of all processes: the kernel side counts without them
	None  = "none"  // no process and no cgroup is known
)

// maxName is the length of the name of a workload, in bytes: of the longest namespace and pod of Kubernetes. Two whose
// names were cut would be one.
const maxName = 63 + len("/") + 253

// NameOf returns the name of the workload of an ending: that of the process that made the call, or that holds the
// socket.
func NameOf(e *events.Ending) string {
	comm := ""
	if task := cmp.Or(e.Actor, e.Owner); task != nil {
		comm = task.Name()
	}
	return Name(e.Cgroup, e.ContainerNames, comm)
}

// Name returns the name of a workload: the owner of a Kubernetes pod, a systemd service, a container or, if there is
// none of them or its name is unknown, a program. It is the same for each replica and each restart.
func Name(cgroup string, names *events.ContainerNames, comm string) string {
	c := events.ContainerOf(cgroup)
	name := classOf(comm)
	switch service := serviceOf(c.Unit); {
	case names != nil && names.Pod != "":
		name = strings.TrimPrefix(names.Namespace+"/", "/") + ownerOf(names.Pod)
	case service != "" && c.ID == "":
		name = service
	case names != nil && names.Name != "":
		name = names.Name
	}
	switch name = clean(name); name {
	case "":
		return None
	case Other, Any, None:
		return "program " + name
	}
	return name
}

// Suffixes of the names of pods. Kubernetes makes random ones of these characters. A CronJob names each of its Jobs by
// the minutes since 1970.
var (
	ofCronJob    = regexp.MustCompile(`-[0-9]{8}-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	ofReplicaSet = regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	ofController = regexp.MustCompile(`-([bcdfghjklmnpqrstvwxz2456789]{5}|[0-9]+)$`)
)

// ownerOf returns the name of what made a pod: a Deployment, a StatefulSet, a DaemonSet, a CronJob or a Job.
func ownerOf(pod string) string {
	for _, suffix := range []*regexp.Regexp{ofCronJob, ofReplicaSet, ofController} {
		if at := suffix.FindStringIndex(pod); at != nil && at[0] > 0 {
			return pod[:at[0]]
		}
	}
	return pod
}

// transient matches services that systemd-run and others make for one command.
var transient = regexp.MustCompile(`^run-[^.]*[0-9]`)

// serviceOf returns the name of a systemd service, without its instance. Scopes and transient services are named
// by what runs in them.
func serviceOf(unit string) string {
	if !strings.HasSuffix(unit, ".service") || transient.MatchString(unit) {
		return ""
	}
	if name, _, ok := strings.Cut(unit, "@"); ok {
		return name + "@.service"
	}
	return unit
}

// numbered matches the end of a name that programs give to many processes or threads, such as pool-1-thread-12.
var numbered = regexp.MustCompile(`([-_:/#. ]+[0-9]+|[0-9]{3,})$`)

// classOf returns what the names of similar processes have in common.
func classOf(comm string) string {
	for {
		at := numbered.FindStringIndex(comm)
		if at == nil || at[0] == 0 {
			return comm
		}
		comm = comm[:at[0]]
	}
}

// clean returns a name as the value of a label: processes choose their names, so they may be any bytes.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	for len(name) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}
