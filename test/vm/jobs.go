package main

import (
	"path"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// translating are the modules that translate addresses, for TestBothEnds.
var translating = []string{"nft_chain_nat", "nft_nat", "nft_masq"}

// modulesFor returns the modules that a kernel loads: those of the command line and, where all live tests run, those
// that one of them alone needs.
func modulesFor(k kernel, o options) []string {
	if k.tests != "all" {
		return o.modules
	}
	return slices.Concat(o.modules, translating)
}

// jobsFor returns the jobs on a kernel: the live tests, which include the lab, in each attach mode that the kernel
// has and that is wanted (nil wants all); or only the command that the user gave. A job's name is MODE/JOB.
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
			Name: mode + "/" + liveJob,
			Argv: append([]string{liveTestPath, "-test.v", "-attach=" + mode}, k.testsIn(i, o.native != "")...),
			Env: []string{
				live,
				"CLOSETRACE_GAPS=" + strings.Join(k.gapsOf(mode), ","),
				"CLOSETRACE_REPORT=" + path.Join(guest.OutDir, reportFile(mode)),
			},
			Timeout: o.timeout,
		})
	}
	return jobs
}

// On a kernel that runs a part of the live tests, these are the ones that depend on the kernel: looksAtMode in each
// attach mode, and looksAtKernel, whose results do not depend on the mode, in the first. Stacks are tested in one mode
// of each kernel, in which the caller of a function is the hardest to find: kprobe. A kernel whose neighbours run
// looksAtKernel and looksAtLoad runs only the others.
//
// On a kernel that runs all, looksAtKernel, looksAtFentry and looksAtReader, which has the tests of what is concluded
// from records, run in the first mode only, which is fentry: it takes the most privileges, and is the one that most
// machines have, while this machine's live tests run in another; and
// looksAtProgram, whose results depend neither on the mode nor on the kernel, in the last mode only, in which
// closetrace starts the fastest, and not at all if the live tests have run on this machine.
var (
	looksAtMode = []string{
		"TestLab", "TestWireRandom", "TestKernelCounters", "TestClosesAtOnce", "TestUnreadBytes", "TestFilters",
		"TestMPTCPSubflows", "TestConnectionID", "TestNothingStaysAttached",
	}
	looksAtLoad   = []string{"TestTwoContainers", "TestBurstNamesVictims", "TestManyBlockedCloses", "TestLeastPrivilege"}
	looksAtStack  = []string{"TestStack"}
	looksAtTier   = []string{"TestLabQuiet"} // in each mode of a kernel that runs all, else in the first
	looksAtKernel = []string{"TestCheck", "TestRefusedMode", "TestStuck", "TestStuckAge", "TestPrivilegeMissing"}
	looksAtFentry = []string{
		"TestPrivilegesAreDropped", "TestContainer", "TestFieldCases", "TestFieldCasesFirewall", "TestPidOfVictim", "TestNoBTF",
		"TestBothEnds", "TestAnnotate",
	}
	looksAtReader = []string{
		"TestRingTooSmall", "TestVerdictsAfterLostRecords", "TestCloseWait", "TestStuckMemory", "TestOneWayProtocol",
		"TestEndedBefore", "TestSameAddresses", "TestParanoidKernel", "TestAgain", "TestTwoTracers", "TestSoakQuiet",
	}
	looksAtProgram = []string{
		"TestOwnersNeedPrivileges", "TestNamesNeedPrivileges", "TestNetnsNeedsPrivileges", "TestFileCapabilities",
		"TestPrivilegesOfRunAndWatchAreDropped", "TestRefusedToRoot", "TestAnotherTracer", "TestDocuments",
		"TestExperimentsInContainer", "TestStackWithCapabilities",
		"TestCheckCommand", "TestClosedPipe", "TestNamesAreEscaped", "TestSlowReader", "TestNoReader", "TestLatency",
		"TestAuditAfterLostRecords", "TestAuditOfOtherNamespaces", "TestStoppedForSeconds", "TestReplayPrintsTheSame",
		"TestReplayFiltersAsTheKernelDoes", "TestCgroupFilter", "TestRunCommand", "TestContainerNames",
		"TestFilesOfOtherUsers", "TestFilesOfTheUser", "TestCommandOfOtherUsers", "TestReplayIsUnprivileged",
		"TestDiskFull", "TestEndingSignals", "TestNoHangup", "TestMemoryLimit", "TestHostileStacks",
		"TestWhyFromARecording", "TestWhyWaits",
	}
	// notInGuest needs what no guest has: tmux, servers of Debian, segments that netfilter loses at random.
	notInGuest = []string{
		"TestTopInATerminal", "TestRealNginx", "TestRealHAProxy", "TestRealRedis", "TestRealPostgres", "TestRealNode",
		"TestRealGo", "TestRealJava", "TestBothEndsHAProxy",
		"TestBothEndsLoss",
	}
)

// testsIn returns the arguments that choose the tests for one of a kernel's modes. ranHere says that the live tests
// have run on this machine.
func (k kernel) testsIn(mode int, ranHere bool) []string {
	choose := func(flag string, names ...[]string) []string {
		return []string{flag + "=^(" + strings.Join(slices.Concat(names...), "|") + ")$"}
	}
	first, last := mode == 0, mode == len(k.modes)-1
	switch {
	case k.tests == "all":
		skipped := [][]string{notInGuest}
		if !first {
			skipped = append(skipped, looksAtKernel, looksAtFentry, looksAtReader)
		}
		if !last || ranHere {
			skipped = append(skipped, looksAtProgram)
		}
		return choose("-test.skip", skipped...)
	case first && k.tests == "kernel":
		return choose("-test.run", looksAtMode, looksAtLoad, looksAtKernel, looksAtTier)
	}
	chosen := [][]string{looksAtMode}
	if k.tests == "kernel" {
		chosen = append(chosen, looksAtLoad)
	}
	if k.modes[mode] == "kprobe" {
		chosen = append(chosen, looksAtStack)
	}
	return choose("-test.run", chosen...)
}

// liveJob is the name of a job of live tests.
const liveJob = "live"

// live requires every test to run: the guest has root.
const live = "CLOSETRACE_LIVE=1"

// reportFile is where the live tests of an attach mode leave their report.
func reportFile(mode string) string {
	return mode + ".json"
}
