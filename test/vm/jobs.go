package main

import (
	"path"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// jobsFor returns what to run on a kernel: in each attach mode that is both the kernel's and wanted (nil wants all),
// the lab and the live tests; or, if there is one, only the command that the user gave. A job's name is MODE/JOB.
func jobsFor(k kernel, o options) []guest.Job {
	job := func(name string, argv ...string) guest.Job {
		env := []string{
			"CLOSETRACE_GAPS=" + strings.Join(k.gaps, ","),
			"CLOSETRACE_LIVE=1", // as root in the guest, nothing excuses a skip
		}
		return guest.Job{Name: name, Argv: argv, Env: env, Timeout: o.timeout}
	}
	if len(o.command) > 0 {
		return []guest.Job{job("-/"+path.Base(o.command[0]), o.command...)}
	}
	var jobs []guest.Job
	for _, mode := range k.modes {
		if o.modes != nil && !slices.Contains(o.modes, mode) {
			continue
		}
		jobs = append(jobs,
			job(mode+"/lab", closetracePath, "lab", "--attach", mode),
			job(mode+"/live", liveTestPath, "-test.v", "-attach="+mode),
		)
	}
	return jobs
}
