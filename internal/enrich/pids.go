package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// initialPIDNamespace is PROC_PID_INIT_INO of the kernel.
const initialPIDNamespace = "pid:[4026531836]"

// CheckPIDs returns an error if the ids in a /proc are not those of the initial pid namespace. They are those of
// process 1 there: unshare(1) may start a process in a new namespace that still has the /proc of the old one.
func CheckPIDs(proc string) error {
	for _, process := range []string{"1", "self"} { // the first needs CAP_SYS_PTRACE
		namespace, err := os.Readlink(filepath.Join(proc, process, "ns/pid"))
		if err != nil {
			continue
		}
		if namespace == initialPIDNamespace {
			return nil
		}
		return hint.New(hint.Usage, "process ids here are not those of the initial pid namespace, which endings have",
			"run the container with --pid=host, or use --container or --cgroup")
	}
	return nil
}

// CheckProcess returns an error unless pid is a running process. The id of a thread is an error, because no ending
// would match it.
func CheckProcess(proc string, pid uint32) error {
	status, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(int(pid)), "status"))
	if err != nil {
		return hint.New(hint.Usage, fmt.Sprintf("no process has the id %d", pid), "ps -e lists the processes")
	}
	for line := range strings.Lines(string(status)) {
		leader, found := strings.CutPrefix(line, "Tgid:")
		leader = strings.TrimSpace(leader)
		if found && leader != strconv.Itoa(int(pid)) {
			return hint.New(hint.Usage,
				fmt.Sprintf("%d is a thread of process %s", pid, leader),
				"filter by the process: -p "+leader,
			)
		}
	}
	return nil
}
