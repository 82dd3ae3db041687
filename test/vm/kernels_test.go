package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/test/vm/guest"
)

func TestReadKernels(t *testing.T) {
	const text = `
# a comment
6.1   bookworm,bookworm-security  linux-image-cloud-amd64  amd64  fentry,kprobe  all  -   # and another
5.10  bullseye                    linux-image-cloud-arm64  arm64  kprobe         kernel  mptcp,reset-reason
`
	got, err := readKernels(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []kernel{
		{
			name:   "6.1",
			suites: []string{"bookworm", "bookworm-security"},
			pkg:    "linux-image-cloud-amd64",
			arch:   "amd64",
			modes:  []string{"fentry", "kprobe"},
			tests:  "all",
		},
		{
			name:   "5.10",
			suites: []string{"bullseye"},
			pkg:    "linux-image-cloud-arm64",
			arch:   "arm64",
			modes:  []string{"kprobe"},
			tests:  "kernel",
			gaps:   []string{"mptcp", "reset-reason"},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestReadKernelsRejects(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"# nothing\n", "no kernel"},
		{"6.1 s p a kprobe -\n", "line 1: 6 columns"},
		{"6.1 s p a kprobe all - more\n", "line 1: 8 columns"},
		{"\n6.1 s p a kprope all -\n", `line 2: kernel 6.1: unknown attach mode "kprope"`},
		{"6.1 s p a kprobe, all -\n", "empty item"},
		{"6.1 s p a kprobe some -\n", `tests are all, kernel or mode, not "some"`},
		{"6.1 s p a kprobe all kprope:mptcp\n", `unknown attach mode "kprope"`},
		{"6.1 s,,s p a kprobe all -\n", "empty item"},
		{"6.1 s p a kprobe all -\n6.1 s p a fentry all -\n", "line 2: kernel 6.1 is listed twice"},
		{"all s p a kprobe all -\n", "cannot be the name"},
		{"../x s p a kprobe all -\n", "cannot be the name"},
	} {
		if _, err := readKernels(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
}

func TestSelectKernels(t *testing.T) {
	kernels := []kernel{{name: "6.1"}, {name: "6.12"}}
	if got, err := selectKernels(kernels, "all"); err != nil || len(got) != 2 {
		t.Errorf("all: %v, %v", got, err)
	}
	if got, err := selectKernels(kernels, "6.1"); err != nil || len(got) != 1 || got[0].name != "6.1" {
		t.Errorf("6.1: %v, %v", got, err)
	}
	if got, err := selectKernels(kernels, "6.12,6.1"); err != nil || len(got) != 2 || got[0].name != "6.12" {
		t.Errorf("a list: %v, %v", got, err)
	}
	_, err := selectKernels(kernels, "6.1,6")
	if err == nil || hint.Of(err) != "it has: 6.1, 6.12" {
		t.Errorf("6: error %v with hint %q", err, hint.Of(err))
	}
}

// Every kernel that is listed must be one that the runner can boot.
func TestListedKernels(t *testing.T) {
	list, err := os.Open("../kernels.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	kernels, err := readKernels(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kernels {
		if _, ok := machines[k.arch]; !ok {
			t.Errorf("kernel %s: no machine for %s", k.name, k.arch)
		}
	}
}

func TestJobsFor(t *testing.T) {
	k := kernel{name: "6.1", modes: []string{"kprobe", "tracepoint"}, gaps: []string{"a", "tracepoint:b"}}
	names := func(o options) string {
		var all []string
		for _, job := range jobsFor(k, o) {
			mode, _, _ := strings.Cut(job.Name, "/")
			gaps := map[string]string{"kprobe": "a", "tracepoint": "a,b"}[mode]
			if gaps != "" &&
				!slices.Equal(
					job.Env,
					[]string{"CLOSETRACE_LIVE=1", "CLOSETRACE_GAPS=" + gaps, "CLOSETRACE_REPORT=/out/" + mode + ".json"},
				) {
				t.Errorf("%s: env %q", job.Name, job.Env)
			}
			all = append(all, job.Name)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct {
		o    options
		want string
	}{
		{options{}, "kprobe/live tracepoint/live"},
		{options{modes: []string{"tracepoint"}}, "tracepoint/live"},
		{options{modes: []string{"fentry"}}, ""},
		{options{command: []string{"/bin/closetrace", "check"}}, "-/closetrace"},
	} {
		if got := names(c.o); got != c.want {
			t.Errorf("%+v: jobs %q, want %q", c.o, got, c.want)
		}
	}
}

// A Debian is for a command; it has a disk, and its containers another file system.
func TestDebian(t *testing.T) {
	o, err := parseOptions([]string{"-debian", "podman,dbus", "-modules", "veth", "--", "/bin/true"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	modules := modulesFor(kernel{tests: "all"}, o)
	if !slices.Equal(o.debian, []string{"podman", "dbus"}) ||
		!slices.Equal(modules, []string{"veth", "virtio_blk", "overlay"}) {
		t.Errorf("packages %q, modules %q", o.debian, modules)
	}
	if _, err := parseOptions([]string{"-debian", "podman"}, io.Discard); err == nil {
		t.Error("no error without a command")
	}
	v := vm{machine: machines["amd64"], root: "/a,b"}
	args := strings.Join(v.args(), " ")
	for _, want := range []string{"format=raw,snapshot=on,file=/a,,b ", "virtio-blk-pci,drive=root", guest.Service} {
		if !strings.Contains(args, want) {
			t.Errorf("%q is not in %s", want, args)
		}
	}
}

// The tests that jobs.go names exist.
func TestPickedTests(t *testing.T) {
	files, err := filepath.Glob("../live/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for _, name := range slices.Concat(
		looksAtPath, looksAtFact, looksAtLoad, looksAtKernel, looksAtStack, looksAtTier, looksAtFentry, looksAtReader,
		looksAtProgram, notInGuest,
	) {
		if !strings.Contains(source.String(), "\nfunc "+name+"(t *testing.T) {") {
			t.Errorf("test/live has no %s", name)
		}
	}
	for _, c := range []struct {
		tests     string
		mode      int
		ranHere   bool
		flag      string
		has, lack []string
	}{
		{"kernel", 0, false, "run", []string{"TestLab", "TestUnreadBytes", "TestCheck", "TestLeastPrivilege"},
			[]string{"TestStack", "TestLabQuiet"}},
		{"kernel", 1, false, "run", []string{"TestLab", "TestUnreadBytes"},
			[]string{"TestCheck", "TestStack", "TestLeastPrivilege"}},
		{"kernel", 2, false, "run", []string{"TestLab", "TestUnreadBytes", "TestStack"}, []string{"TestCheck"}},
		{"mode", 0, false, "run", []string{"TestLab"}, []string{"TestUnreadBytes", "TestCheck", "TestStack"}},
		{"mode", 2, false, "run", []string{"TestLab", "TestStack"}, []string{"TestUnreadBytes", "TestCheck"}},
		{"all", 0, false, "skip", []string{"TestRealGo", "TestRunCommand"},
			[]string{"TestLab", "TestCheck", "TestContainer", "TestCloseWait"}},
		{"all", 0, true, "run", []string{"TestLab", "TestLabQuiet", "TestLeastPrivilege", "TestCheck", "TestBothEnds"},
			[]string{"TestRealGo", "TestRunCommand", "TestCloseWait"}},
		{"all", 1, false, "skip", []string{"TestRealGo", "TestRunCommand", "TestCheck", "TestContainer", "TestCloseWait"},
			[]string{"TestLab", "TestLabQuiet", "TestLeastPrivilege"}},
		{"all", 2, false, "skip", []string{"TestRealGo", "TestCheck", "TestContainer"}, []string{"TestLab", "TestRunCommand"}},
		{"all", 1, true, "run", []string{"TestLab", "TestLabQuiet", "TestTwoContainers"}, []string{"TestStack", "TestCheck"}},
		{"all", 2, true, "run", []string{"TestLab", "TestLabQuiet", "TestStack"}, []string{"TestRealGo", "TestRunCommand"}},
	} {
		got := kernel{tests: c.tests, modes: []string{"fentry", "tracepoint", "kprobe"}}.testsIn(c.mode, c.ranHere)
		pattern, is := strings.CutPrefix(strings.Join(got, " "), "-test."+c.flag+"=")
		if !is {
			t.Errorf("%+v: %s", c, got)
			continue
		}
		chosen := regexp.MustCompile(pattern)
		for _, name := range c.has {
			if !chosen.MatchString(name) {
				t.Errorf("%+v: %s lacks %s", c, got, name)
			}
		}
		for _, name := range c.lack {
			if chosen.MatchString(name) {
				t.Errorf("%+v: %s has %s", c, got, name)
			}
		}
	}
}

// Each test of a kernel that runs all runs in at least one of its modes, if guests can run it.
func TestAllRunSomewhere(t *testing.T) {
	k := kernel{tests: "all", modes: []string{"fentry", "kprobe", "tracepoint"}}
	for _, name := range slices.Concat(
		looksAtPath, looksAtFact, looksAtLoad, looksAtKernel, looksAtStack, looksAtTier, looksAtFentry, looksAtReader,
		looksAtProgram,
	) {
		skipped := 0
		for mode := range k.modes {
			pattern := strings.TrimPrefix(k.testsIn(mode, false)[0], "-test.skip=")
			if regexp.MustCompile(pattern).MatchString(name) {
				skipped++
			}
		}
		if skipped == len(k.modes) {
			t.Errorf("%s runs in no mode", name)
		}
	}
}

func TestLongestFirst(t *testing.T) {
	kernels := []kernel{{name: "old"}, {name: "all tests", tests: "all"}, {name: "newer"}, {name: "newest"}}
	var order []string
	for _, k := range longestFirst(kernels) {
		order = append(order, k.name)
	}
	if want := []string{"all tests", "newest", "newer", "old"}; !slices.Equal(order, want) || kernels[0].name != "old" {
		t.Errorf("order %q, want %q", order, want)
	}
}
