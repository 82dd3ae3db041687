// Command vm boots Debian's kernels in QEMU and runs closetrace inside: the live tests, which
// include the lab with a wire capture, in each attach mode of each kernel in test/kernels.txt.
//
//	go run ./test/vm                      # everything
//	go run ./test/vm -list                # list kernels and jobs
//	go run ./test/vm -kernel 6.1 -modes kprobe
//	go run ./test/vm -kernel 6.1 -- /bin/closetrace lab --attach kprobe close.rst.unread
//	go run ./test/vm -kernel 6.12 -debian podman -- /usr/bin/podman info
//
// It needs QEMU, the go command, and apt with a Debian mirror for kernels that are not in its cache yet; it needs no
// root. One guest is booted per kernel, two at a time, with an initramfs that holds nothing but our static programs
// (package init is its process 1) and what -file adds. With -debian, a disk has a Debian whose systemd is process 1.
// At the end it prints a table of results, and writes how many
// instructions the verifier looked at to bin/verified.txt. The exit code is 0 only if every job passed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/closetrace/closetrace/test/vm/guest"

	"github.com/closetrace/closetrace/internal/hint"
)

// options is the command line.
type options struct {
	kernel  string
	modes   []string // nil: all
	verbose bool
	outDir  string
	list    bool
	refresh bool
	native  string
	atOnce  int
	timeout time.Duration
	modules []string
	files   []file
	debian  []string
	counts  bool
	lacks   []string
	command []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	passed := false
	if err == nil {
		passed, err = runAll(ctx, o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "vm: %v\n", err)
		if next := hint.Of(err); next != "" {
			fmt.Fprintf(stderr, "hint: %s\n", next)
		}
		return 1
	}
	if !passed {
		return 1
	}
	return 0
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is printed once, by run
	flags.StringVar(&o.kernel, "kernel", "all", "boot the kernels called `NAME,…` in test/kernels.txt")
	modes := flags.String("modes", "", "run only the attach modes in `LIST`")
	flags.BoolVar(&o.verbose, "v", false, "print all output of the guest")
	flags.StringVar(&o.outDir, "o", "", "keep the files that jobs leave in /out, below `DIR`/KERNEL")
	flags.BoolVar(&o.list, "list", false, "list the kernels and their jobs, and run nothing")
	flags.BoolVar(&o.refresh, "refresh", false, "look for newer kernels now")
	flags.StringVar(&o.native, "native", "",
		"add the report of live tests on this machine from `FILE` to the table, and leave out the tests that it covers")
	flags.IntVar(&o.atOnce, "at-once", 2, "boot `N` guests at a time")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "limit the time of one job")
	debian := flags.String("debian", "",
		"run COMMAND as a service of the systemd of a Debian of the kernel's suites, with the packages in `LIST`")
	flags.BoolVar(&o.counts, "icount", false, "count instructions: one CPU, and each takes one nanosecond of guest time")
	lacks := flags.String(
		"lacks",
		"",
		"boot on a CPU without the features in `LIST`, by QEMU's names, for example erms,fsrm",
	)
	modules := flags.String("modules", "inet_diag,tcp_diag,veth,af_packet,nf_tables,nft_reject_inet",
		"load the kernel modules in `LIST`")
	flags.Func("file", "put a file into the guest, `HOST:GUEST`; may be repeated", func(s string) error {
		from, name, ok := strings.Cut(s, ":")
		if !ok {
			return errors.New("want HOST:GUEST")
		}
		o.files = append(o.files, file{name: name, mode: 0o755, from: from})
		return nil
	})
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stderr)
		fmt.Fprintln(stderr, "usage: go run ./test/vm [flags] [-- COMMAND...]")
		flags.PrintDefaults()
	}
	if err != nil {
		return o, err
	}
	o.modes = splitList(*modes)
	o.lacks = splitList(*lacks)
	o.modules = splitList(*modules)
	o.debian = splitList(*debian)
	o.command = flags.Args()
	if len(o.command) > 0 && !filepath.IsAbs(o.command[0]) {
		return o, withHint(fmt.Errorf("%q is not the path of a program in the guest", o.command[0]),
			"give an absolute path, such as "+closetracePath)
	}
	if len(o.debian) > 0 && len(o.command) == 0 {
		return o, withHint(errors.New("-debian without a COMMAND"), "the live tests need no Debian")
	}
	return o, checkModes(o.modes)
}

// splitList splits at commas. It returns nil for "".
func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// runAll boots one guest for each selected kernel and reports whether every job passed.
func runAll(ctx context.Context, o options, stdout, stderr io.Writer) (passed bool, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return false, err
	}
	kernels, err := loadKernels(root, o.kernel)
	if err != nil {
		return false, err
	}
	if o.list {
		return true, printKernels(stdout, kernels, o)
	}
	notice := func(format string, args ...any) { fmt.Fprintf(stderr, "vm: "+format+"\n", args...) }
	store, err := newStore(o.refresh, notice)
	if err != nil {
		return false, err
	}
	builds, err := newBuilds(root)
	if err != nil {
		return false, err
	}
	defer builds.remove()
	r := &report{out: stdout, verbose: o.verbose, releases: map[string]string{}}
	var guests errgroup.Group
	guests.SetLimit(o.atOnce)
	for _, k := range longestFirst(kernels) {
		if jobs := jobsFor(k, o); len(jobs) > 0 {
			guests.Go(func() error {
				if err := runKernel(ctx, k, jobs, o, store, builds, r); err != nil && ctx.Err() == nil {
					r.absent(k, err)
				}
				return ctx.Err()
			})
		}
	}
	if err := guests.Wait(); err != nil {
		return false, err
	}
	if len(r.rows) == 0 {
		return false, errors.New("nothing to run: none of the kernels has one of these modes")
	}
	if o.native != "" {
		if err := r.addNative(o.native); err != nil {
			return false, err
		}
		kernels = append([]kernel{{name: native}}, kernels...)
	}
	if err := r.writeInstructions(filepath.Join(root, "bin", "verified.txt"), kernels); err != nil {
		return false, err
	}
	return !r.failed(), r.table(kernels)
}

// longestFirst sorts kernels so that the longest runs begin first: those with all tests, then the others from the
// last line of test/kernels.txt to the first, because a newer kernel takes longer, and one for another architecture
// takes as long in two attach modes as its neighbours in three.
func longestFirst(kernels []kernel) []kernel {
	sorted := slices.Clone(kernels)
	slices.Reverse(sorted)
	slices.SortStableFunc(sorted, func(a, b kernel) int {
		switch {
		case (a.tests == "all") == (b.tests == "all"):
			return 0
		case a.tests == "all":
			return -1
		}
		return 1
	})
	return sorted
}

// runKernel fetches, builds and boots what one kernel needs.
func runKernel(
	ctx context.Context,
	k kernel,
	jobs []guest.Job,
	o options,
	store *store,
	builds *builds,
	r *report,
) error {
	image, err := store.image(ctx, k)
	if err != nil {
		return err
	}
	if !image.series(k.name) {
		return withHint(fmt.Errorf("kernel %s: %s is what its suites have now", k.name, image.release),
			"name suites in test/kernels.txt that still have that series")
	}
	programs, root := programsFor(jobs), ""
	if len(o.debian) > 0 {
		programs = programs[:1] // init: closetrace is to come from its package
		if root, err = store.root(ctx, k, o.debian); err != nil {
			return err
		}
	}
	built, err := builds.files(ctx, k.arch, programs)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "closetrace-out-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.outDir != "" {
		dir = filepath.Join(o.outDir, k.name)
	}
	r.booting(k, image)
	return r.run(ctx, guestSpec{
		kernel: k, image: image, modules: modulesFor(k, o), files: append(built, o.files...), jobs: jobs, outDir: dir,
		limit: limitFor(jobs), root: root, counts: o.counts, lacks: o.lacks,
	})
}

func loadKernels(root, name string) ([]kernel, error) {
	list, err := os.Open(filepath.Join(root, "test", "kernels.txt"))
	if err != nil {
		return nil, err
	}
	defer list.Close()
	kernels, err := readKernels(list)
	if err != nil {
		return nil, fmt.Errorf("test/kernels.txt: %w", err)
	}
	return selectKernels(kernels, name)
}

func printKernels(w io.Writer, kernels []kernel, o options) error {
	for _, k := range kernels {
		if _, err := fmt.Fprintf(w, "%s  %s %s from %s\n", k.name, k.pkg, k.arch, strings.Join(k.suites, ", ")); err != nil {
			return err
		}
		for _, job := range jobsFor(k, o) {
			if _, err := fmt.Fprintf(w, "    %s: %s\n", job.Name, strings.Join(job.Argv, " ")); err != nil {
				return err
			}
		}
	}
	return nil
}
