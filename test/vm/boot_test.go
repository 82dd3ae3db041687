//go:build vm

// These tests boot every kernel of test/kernels.txt and need QEMU and, the first time, a Debian mirror:
//
//	go test -tags vm -v ./test/vm -run Boot

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/test/vm/guest"
)

const testguest = "/bin/testguest"

func thing(name string, timeout time.Duration, args ...string) guest.Job {
	return guest.Job{Name: "-/" + name, Argv: append([]string{testguest}, args...), Timeout: timeout}
}

// bootEach runs jobs on each kernel, within a limit, and passes the report and the directory of the guest's files to
// check.
func bootEach(
	t *testing.T,
	jobs []guest.Job,
	limit time.Duration,
	check func(t *testing.T, rows map[string]row, printed, out string),
) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kernels, err := loadKernels(root, "all")
	if err != nil {
		t.Fatal(err)
	}
	store, err := newStore(false, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	programs := []program{{path: initPath, pkg: "./test/vm/init"}, {path: testguest, pkg: "./test/vm/testguest"}}
	for _, k := range kernels {
		t.Run(k.name, func(t *testing.T) {
			image, err := store.image(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			files, err := build(t.Context(), root, t.TempDir(), k.arch, programs)
			if err != nil {
				t.Fatal(err)
			}
			spec := guestSpec{
				kernel: k, image: image, modules: []string{"tcp_diag", "veth", "af_packet"}, files: files, jobs: jobs,
				outDir: t.TempDir(), limit: limit,
			}
			var printed bytes.Buffer
			r := &report{out: &printed}
			start := time.Now()
			if err := r.run(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %.1f s from start to power off\n%s", image.release, time.Since(start).Seconds(), printed.String())
			rows := map[string]row{}
			for _, row := range r.rows {
				_, job := row.modeAndJob()
				rows[job] = row
			}
			check(t, rows, printed.String(), spec.outDir)
		})
	}
}

func wantFailure(t *testing.T, rows map[string]row, job, want string) {
	t.Helper()
	got, ok := rows[job]
	if !ok {
		t.Errorf("%s: no verdict", job)
	}
	if got.failure != want {
		t.Errorf("%s: failure %q, want %q", job, got.failure, want)
	}
}

func TestBootJobs(t *testing.T) {
	jobs := []guest.Job{
		thing("machine", time.Minute, "machine"),
		thing("modules", time.Minute, "modules", "inet_diag", "tcp_diag", "veth"),
		thing("exit0", time.Minute, "exit", "0"),
		thing("exit3", time.Minute, "exit", "3"),
		thing("hang", 2*time.Second, "hang"),
		thing("orphan", time.Minute, "orphan"),
		thing("alone", time.Minute, "alone"),
		{Name: "-/absent", Argv: []string{"/bin/absent"}, Timeout: time.Minute},
		thing("write", time.Minute, "write", "deep/data", "3000000"),
	}
	bootEach(t, jobs, limitFor(jobs), func(t *testing.T, rows map[string]row, printed, out string) {
		for _, job := range []string{"machine", "modules", "exit0", "orphan", "alone", "write"} {
			wantFailure(t, rows, job, "")
		}
		wantFailure(t, rows, "exit3", "exit code 3")
		wantFailure(t, rows, "hang", "timed out after 2s")
		wantFailure(t, rows, "absent", "start: no such file or directory")
		if got, want := strings.Join(rows["exit3"].output, "|"), "to stdout|to stderr, unfinished"; got != want {
			t.Errorf("output of exit3 %q, want %q", got, want)
		}
		if info, err := os.Stat(filepath.Join(out, "deep", "data")); err != nil || info.Size() != 3000000 {
			t.Errorf("file from the guest: %v, %v", info, err)
		}
		if log, err := os.ReadFile(filepath.Join(out, "dmesg.txt")); err != nil ||
			!strings.Contains(string(log), "Linux version") {
			t.Errorf("kernel log of %d bytes: %v", len(log), err)
		}
	})
}

func TestBootPanic(t *testing.T) {
	jobs := []guest.Job{
		thing("before", time.Minute, "exit", "0"),
		thing("panic", time.Minute, "panic"),
		thing("after", time.Minute, "exit", "0"),
	}
	bootEach(t, jobs, limitFor(jobs), func(t *testing.T, rows map[string]row, printed, out string) {
		wantFailure(t, rows, "before", "")
		wantFailure(t, rows, "panic", "did not end: kernel panic: sysrq triggered crash")
		wantFailure(t, rows, "after", "never ran: kernel panic: sysrq triggered crash")
		if !strings.Contains(printed, "sysrq: Trigger a crash") {
			t.Errorf("the tail of the console is missing from:\n%s", printed)
		}
		if n := strings.Count(printed, "kernel panic: sysrq triggered crash; booting again\n"); n != 1 {
			t.Errorf("booted again %d times:\n%s", n, printed)
		}
	})
}

func TestBootLimit(t *testing.T) {
	jobs := []guest.Job{
		thing("before", time.Minute, "exit", "0"),
		thing("hang", time.Hour, "hang"),
	}
	const limit = 20 * time.Second
	bootEach(t, jobs, limit, func(t *testing.T, rows map[string]row, printed, out string) {
		wantFailure(t, rows, "before", "")
		wantFailure(t, rows, "hang", "did not end: the guest did not power off within 20s")
		if !strings.Contains(printed, "hanging") {
			t.Errorf("the output of the job is missing from:\n%s", printed)
		}
	})
}
