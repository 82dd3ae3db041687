//go:build linux

// Command bench measures what tracing the ends of connections costs: in instructions, which a guest counts that runs
// under emulation, so that a machine's load does not change the figures.
//
//	go run ./test/bench                          # all tracers, all mixes; writes docs/performance.md
//	go run ./test/bench -only fentry -mixes fin  # a part, only to standard output
//	go run ./test/bench -lacks erms,fsrm         # on a CPU on which the kernel copies memory by words
//
// It boots one kernel of test/kernels.txt by go run ./test/vm -icount. In the guest this same program opens and closes
// connections (load.go), untraced and under each tracer (tracers.go), and reads the clock, which advances by one
// nanosecond per instruction (measure.go). Natively, and only as root, it measures how long closetrace takes to start.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	resultsFile = "test/bench/results.json"
	document    = "docs/performance.md"
	kernelName  = "6.12" // in test/kernels.txt
)

const allMixes = mixFIN + "," + mixLinger0 + "," + mixUnread + "," + mixBare + "," + mixThreads

// options are those of the host and of the guest.
type options struct {
	only  string // a pattern of the tracers' names
	mixes string
	conns int // a measurement
	times int
	// lacks are features that the guest's CPU does not have.
	lacks string
	// starts is how often closetrace is started natively, in each attach mode, and its CPU time measured there.
	starts int
}

func (o *options) flags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&o.only, "only", "", "measure only tracers whose name matches `PATTERN`, and write no document")
	flags.StringVar(&o.mixes, "mixes", allMixes, "measure the mixes in `LIST`")
	flags.IntVar(&o.conns, "n", 4000, "open and close `N` connections in a measurement")
	flags.IntVar(&o.times, "times", 3, "repeat each measurement `N` times")
	flags.StringVar(
		&o.lacks,
		"lacks",
		"",
		"boot the guest on a CPU without the features in `LIST`, for example erms,fsrm, and write no document",
	)
	flags.IntVar(&o.starts, "starts", 9, "start closetrace and measure its CPU time here `N` times; needs root")
	return flags
}

func (o *options) args() []string {
	return []string{"-only", o.only, "-mixes", o.mixes, "-n", fmt.Sprint(o.conns), "-times", fmt.Sprint(o.times)}
}

// isMeasured reports whether a tracer is to be measured. The untraced run always is, as the baseline.
func (o *options) isMeasured(name string) (bool, error) {
	fits, err := regexp.MatchString(o.only, name)
	return fits || name == untraced, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run runs one of the parts: everything, only the native measurements, only the document from the stored results,
// what runs in the guest, or the floor.
func run(ctx context.Context, args []string) error {
	part := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		part, args = args[0], args[1:]
	}
	var o options
	flags := o.flags("bench")
	switch part {
	case "":
		if err := flags.Parse(args); err != nil {
			return err
		}
		return onHost(ctx, o)
	case "starts":
		if err := flags.Parse(args); err != nil {
			return err
		}
		return measureStartsOnly(ctx, o)
	case "report":
		r, err := stored()
		if err != nil {
			return err
		}
		return r.document(document)
	case "guest":
		if err := flags.Parse(args); err != nil {
			return err
		}
		return inGuest(o)
	case "floor":
		return floor(ctx, strings.Join(args, " "))
	}
	return fmt.Errorf("no part %q: there are starts, report, guest and floor", part)
}

// onHost measures in the guest and natively. It stores only the results of a whole run.
func onHost(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "closetrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	results, err := measureInGuest(ctx, o, dir)
	if err != nil {
		return err
	}
	if o.only != "" || o.lacks != "" {
		return results.write(os.Stdout)
	}
	if err := results.measureNative(ctx, dir, o.starts); err != nil {
		return err
	}
	return results.keep()
}

// measureStartsOnly measures only natively, and keeps the stored results of the guest.
func measureStartsOnly(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "closetrace-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	results, err := stored()
	if err != nil {
		return err
	}
	if err := results.measureNative(ctx, dir, o.starts); err != nil {
		return err
	}
	return results.keep()
}

// stored reads the results of the last whole run.
func stored() (*results, error) {
	text, err := os.ReadFile(resultsFile)
	if err != nil {
		return nil, err
	}
	var r results
	return &r, json.Unmarshal(text, &r)
}

// keep writes the results and the document.
func (r *results) keep() error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(resultsFile, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return r.document(document)
}

// measureInGuest builds what the guest needs, boots it and reads its results.
func measureInGuest(ctx context.Context, o options, dir string) (*results, error) {
	bench, object := filepath.Join(dir, "bench"), filepath.Join(dir, "floor.o")
	build := command(ctx, "go", "build", "-o", bench, "./test/bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	compile := command(ctx, "clang-14", "-target", "bpf", "-D__TARGET_ARCH_x86", "-Ibpf", "-O2", "-g", "-Wall", "-Werror",
		"-c", "test/bench/floor.bpf.c", "-o", object)
	for _, cmd := range []*exec.Cmd{build, compile} {
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s: %w", cmd, err)
		}
	}
	args := []string{
		"run", "./test/vm", "-kernel", kernelName, "-icount", "-v", "-timeout", "12h", "-lacks", o.lacks, "-o", filepath.Join(dir, "out"),
		"-file", bench + ":" + benchPath, "-file", object + ":" + floorObject,
	}
	for _, f := range peerFiles() {
		args = append(args, "-file", f+":"+f)
	}
	args = append(append(args, "--", benchPath, "guest"), o.args()...)
	if err := command(ctx, "go", args...).Run(); err != nil {
		return nil, fmt.Errorf("the guest: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "out", kernelName, filepath.Base(outFile)))
	if err != nil {
		return nil, err
	}
	found := new(results)
	err = json.Unmarshal(text, found)
	found.PeerVersions = peerVersions()
	return found, err
}

// command runs a command whose output goes to standard error, because standard output is for results.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

// The marks between which the document is written by this program.
const (
	begin = "<!-- from here on written by make bench -->\n"
	end   = "<!-- to here -->\n"
)

// document writes the results between the marks of a document.
func (r *results) document(path string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return errors.New(path + " has no marks to write between")
	}
	var b strings.Builder
	b.WriteString(before + begin)
	if err := r.write(&b); err != nil {
		return err
	}
	b.WriteString(end + after)
	return os.WriteFile(path, []byte(b.String()), 0o644)
}
