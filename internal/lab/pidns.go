//go:build linux

package lab

import (
	"fmt"
	"os"
)

// initialPIDNamespace is PROC_PID_INIT_INO of the kernel.
const initialPIDNamespace = 4026531836

// reportedID returns a process or thread id of this process's pid namespace as closetrace reports it, which is in the
// initial pid namespace. In any other namespace, for example a container's, that id is not known: it returns 0.
func reportedID(id int) int {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || namespace != fmt.Sprintf("pid:[%d]", initialPIDNamespace) {
		return 0
	}
	return id
}
