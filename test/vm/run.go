package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// guestSpec is a guest to run.
type guestSpec struct {
	kernel  kernel
	image   image
	modules []string // to be loaded, with what they depend on
	files   []file   // with init among them
	jobs    []guest.Job
	outDir  string // where the files from the guest go
	limit   time.Duration
	root    string // as of vm
	counts  bool   // as of vm
	lacks   []string
	again   bool // the guest panicked, and this is its second boot
}

// run boots a guest and reports every job. It returns an error if the guest could not be started or its files not
// kept; failures inside are in the report. A guest that panics is booted a second time, with all its jobs: a kernel was
// seen to die of the flags that QEMU 7.2 had spoiled behind cmpxchg16b.
func (r *report) run(ctx context.Context, s guestSpec) error {
	machine, err := machineFor(s.kernel.arch)
	if err != nil {
		return err
	}
	if s.counts && machine.counted == nil {
		return fmt.Errorf("instructions cannot be counted on %s", s.kernel.arch)
	}
	dir, err := os.MkdirTemp("", "closetrace-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	v := vm{
		machine:   machine,
		vmlinuz:   s.image.vmlinuz,
		initramfs: filepath.Join(dir, "initramfs"),
		dir:       dir,
		limit:     s.limit,
		root:      s.root,
		counts:    s.counts,
		lacks:     s.lacks,
	}
	nonce := rand.Text()
	if err := s.pack(v.initramfs, nonce, machine.port); err != nil {
		return err
	}
	c := newConsole(nonce)
	r.follow(s.kernel, c, s.jobs)
	lost := v.boot(ctx, c)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.panicked() && !s.again {
		r.bootAgain(s.kernel, c)
		s.again = true
		return r.run(ctx, s)
	}
	r.finish(s.kernel, c, s.jobs, lost)
	if lost != nil {
		return nil
	}
	if err := v.saveSent(s.outDir); err != nil {
		return err
	}
	return r.collect(s.kernel, s.outDir)
}

// pack writes the initramfs: the plan, the modules and the files. A root has the files of every machine already.
func (s guestSpec) pack(path, nonce, port string) error {
	tree, err := readModules(s.image.modules)
	if err != nil {
		return err
	}
	modules, err := tree.load(s.modules)
	if err != nil {
		return fmt.Errorf("kernel %s: %w", s.kernel.name, err)
	}
	plan := guest.Plan{Nonce: nonce, Hostname: "closetrace-vm", Port: port, Jobs: s.jobs}
	files := append(fixedFiles(), s.files...)
	if s.root != "" {
		plan.Root = "/dev/vda"
		files = slices.Clone(s.files)
		for _, f := range files {
			if f.name != initPath {
				plan.Files = append(plan.Files, f.name)
			}
		}
	}
	for _, m := range modules {
		name := "/modules/" + m.name + ".ko"
		plan.Modules = append(plan.Modules, name)
		files = append(files, file{name: name, mode: 0o644, data: m.data})
	}
	data, err := json.MarshalIndent(plan, "", "  ")
	if err != nil {
		return err
	}
	files = append(files, file{name: guest.PlanFile, mode: 0o644, data: data})
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeInitramfs(out, files), out.Close())
}

// fixedFiles are files that programs expect on every machine.
func fixedFiles() []file {
	text := func(name, content string) file {
		return file{name: name, mode: cpio.FileMode(0o644), data: []byte(content)}
	}
	return []file{
		text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
		text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
		text("/etc/group", "root:x:0:\n"),
	}
}
