package main

import (
	"path"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// jobsFor returns what to run on a kernel: the live tests, the lab among them, in each attach mode that is both the
// kernel's and wanted (nil wants all); or, if there is one, only the command that the user gave. A job's name is
// MODE/JOB.
func jobsFor(k kernel, o options) []guest.Job {
	if len(o.command) > 0 {
		return []guest.Job{{Name: "-/" + path.Base(o.command[0]), Argv: o.command, Env: []string{live}, Timeout: o.timeout}}
	}
	var jobs []guest.Job
	for i, mode := range k.modes {
		if o.modes != nil && !slices.Contains(o.modes, mode) {
			continue
		}
		jobs = append(jobs, guest.Job{
			Name:    mode + "/" + liveJob,
			Argv:    append([]string{liveTestPath, "-test.v", "-attach=" + mode}, k.testsIn(i)...),
			Env:     []string{live, "CLOSETRACE_GAPS=" + strings.Join(k.gapsOf(mode), ","), "CLOSETRACE_REPORT=" + path.Join(guest.OutDir, reportFile(mode))},
			Timeout: o.timeout,
		})
	}
	return jobs
}

// Where not all live tests are run, it is those whose answer may be another on another kernel: looksAtMode in each
// attach mode, and looksAtKernel, whose answer is the same in all of them, in the first. Where all are run, those that
// look at the program and not at how it is attached are left out after the first mode, too. Stacks are looked at in one mode
// of each kernel, which is that in which the caller of a function is the hardest to tell: kprobe.
var (
	looksAtMode = []string{
		"TestLab", "TestWireRandom", "TestKernelCounters", "TestClosesAtOnce", "TestUnreadBytes", "TestTwoContainers",
		"TestFilters", "TestManySleepers", "TestLeastPrivilege", "TestNothingStaysAttached",
	}
	looksAtStack   = []string{"TestStack"}
	looksAtKernel  = []string{"TestCheck", "TestRefusedMode", "TestStuck", "TestStuckAge", "TestPrivilegeMissing"}
	looksAtProgram = []string{
		"TestCheckCommand", "TestClosedPipe", "TestNoBTF", "TestNamesAreShownNotObeyed", "TestReaderComesBack", "TestNobodyReads", "TestLinesComeSoon",
		"TestAuditTellsOfLostRecords", "TestStoppedForSeconds", "TestReplayPrintsTheSame", "TestReplayFiltersAsTheKernelDoes", "TestCgroupFilter",
		"TestRunGuardsACommand", "TestCallChainOfThisKernel", "TestOwnersTakePrivileges", "TestNamesTakePrivileges",
		"TestNetnsTakesPrivileges", "TestPrivilegesAreDropped", "TestFileCapabilities", "TestContainer", "TestContainerNames",
		"TestDocuments",
	}
	// notInGuest needs what no guest has: tmux.
	notInGuest = []string{"TestTopInATerminal"}
)

// testsIn returns the arguments that choose the tests for one of a kernel's modes.
func (k kernel) testsIn(mode int) []string {
	choose := func(flag string, names ...[]string) []string {
		return []string{flag + "=^(" + strings.Join(slices.Concat(names...), "|") + ")$"}
	}
	switch {
	case k.allTests && mode == 0:
		return choose("-test.skip", notInGuest)
	case k.allTests:
		return choose("-test.skip", looksAtKernel, looksAtProgram, notInGuest)
	case mode == 0:
		return choose("-test.run", looksAtMode, looksAtKernel)
	case k.modes[mode] == "kprobe":
		return choose("-test.run", looksAtMode, looksAtStack)
	default:
		return choose("-test.run", looksAtMode)
	}
}

// liveJob is the name of a job of live tests.
const liveJob = "live"

// live: as root in the guest, nothing excuses a skip.
const live = "CLOSETRACE_LIVE=1"

// reportFile is where the live tests of an attach mode leave their report.
func reportFile(mode string) string {
	return mode + ".json"
}
