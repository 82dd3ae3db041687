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
// that one of them alone needs; or what a Debian needs, its disk and containers.
func modulesFor(k kernel, o options) []string {
	if len(o.debian) > 0 {
		return slices.Concat(o.modules, []string{"virtio_blk", "overlay"})
	}
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

// A kernel whose neighbours run the rest (mode) runs looksAtPath in each attach mode: the verdicts of every path, with
// the comments of annotate on what was sent, and of random closes against the wire. One whose answers may be others
// (kernel) also runs looksAtFact in each mode, and, in the first, looksAtLoad and looksAtKernel, whose results do not
// depend on the mode. Stacks are tested in one mode of each kernel, in which the caller of a function is the hardest to
// find: kprobe.
//
// A kernel that runs all runs these and looksAtTier in each mode, and looksAtKernel, looksAtFentry and looksAtReader in
// the first mode only, which is fentry: it takes the most privileges, and is the one that most machines have, while
// this machine's live tests run in another. looksAtReader has the tests of what is concluded from records. The results
// of looksAtProgram depend neither on the mode nor on the kernel: it runs in the last mode, in which closetrace starts
// the fastest. If the live tests have run on this machine, such a kernel runs only the other lists.
var (
	looksAtPath = []string{"TestLab", "TestWireRandom", "TestMPTCPSubflows", "TestNothingStaysAttached"}
	looksAtFact = []string{
		"TestKernelCounters", "TestClosesAtOnce", "TestUnreadBytes", "TestFilters", "TestConnectionID",
		"TestPreforkServer",
	}
	looksAtLoad  = []string{"TestTwoContainers", "TestBurstNamesVictims", "TestManyBlockedCloses", "TestLeastPrivilege"}
	looksAtStack = []string{"TestStack"}
	looksAtTier  = []string{
		"TestLabQuiet", "TestNotedPlaceOfTwoThreads", "TestNotesAfterNotesTakenBack", "TestDroppedMessageOfUnwantedSocket",
	}
	looksAtKernel = []string{"TestCheck", "TestStuck", "TestStuckAge", "TestPrivilegeMissing"}
	looksAtFentry = []string{
		"TestPrivilegesAreDropped", "TestContainer", "TestFieldCases", "TestFieldCasesFirewall", "TestPidOfVictim", "TestNoBTF",
		"TestBothEnds",
	}
	looksAtReader = []string{
		"TestRingTooSmall", "TestLossesBeforeTracing", "TestVerdictsAfterLostRecords", "TestCloseWait", "TestStuckMemory",
		"TestOneWayProtocol", "TestEndedBefore", "TestSameAddresses", "TestParanoidKernel", "TestAgain", "TestTwoTracers",
		"TestSoakQuiet", "TestAnnotate", "TestServe", "TestRefusedMode",
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
		"TestWhyFromARecording", "TestWhyWaits", "TestBTFFromFile",
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
	if k.tests == "all" && !ranHere {
		skipped := [][]string{notInGuest}
		if !first {
			skipped = append(skipped, looksAtKernel, looksAtFentry, looksAtReader)
		}
		if !last {
			skipped = append(skipped, looksAtProgram)
		}
		return choose("-test.skip", skipped...)
	}
	chosen := [][]string{looksAtPath}
	if k.tests != "mode" {
		chosen = append(chosen, looksAtFact)
	}
	if k.tests == "all" {
		chosen = append(chosen, looksAtLoad, looksAtTier)
	}
	if k.tests == "all" && first {
		chosen = append(chosen, looksAtKernel, looksAtFentry)
	}
	if k.tests == "kernel" && first {
		chosen = append(chosen, looksAtLoad, looksAtKernel)
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
