package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/closetrace/closetrace/test/vm/guest"
)

// machine is how one architecture is emulated. It has two serial ports: the first is the console, the second carries
// the files that the guest sends.
type machine struct {
	qemu    string
	install string // the Debian package of it
	args    []string
	counted []string // instead of args, where instructions are counted; nil if that was not tried
	second  []string // adds the second port, with the chardev "sent"
	console string   // the kernel's name of the first port
	port    string   // the device of the second
}

// machines has an entry for each architecture that was tried.
var machines = map[string]machine{
	"amd64": {
		qemu:    "qemu-system-x86_64",
		install: "qemu-system-x86",
		args:    []string{"-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,-la57"},
		counted: []string{
			"-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max,-cx16,-la57",
			"-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm", "-seed", "1",
		},
		second:  []string{"-serial", "chardev:sent"},
		console: "ttyS0",
		port:    "/dev/ttyS1",
	},
	"arm64": {
		qemu:    "qemu-system-aarch64",
		install: "qemu-system-arm",
		args:    []string{"-machine", "virt,gic-version=3", "-accel", "tcg,thread=single", "-cpu", "cortex-a72"},
		second:  []string{"-device", "pci-serial,chardev=sent"},
		console: "ttyAMA0",
		port:    "/dev/ttyS0",
	},
}

func machineFor(arch string) (machine, error) {
	m, ok := machines[arch]
	if !ok {
		return m, fmt.Errorf("no machine is known for the architecture %q", arch)
	}
	if _, err := exec.LookPath(m.qemu); err != nil {
		return m, withHint(fmt.Errorf("%s not found", m.qemu), "install QEMU's system emulation (Debian: "+m.install+")")
	}
	return m, nil
}

// limitFor returns the time limit of a guest: its jobs, and time to boot and to send files, with a margin because
// emulation on a busy machine is slow.
func limitFor(jobs []guest.Job) time.Duration {
	limit := 3 * time.Minute
	for _, job := range jobs {
		limit += job.Timeout + 10*time.Second
	}
	return limit
}

// vm is one guest to boot.
type vm struct {
	machine   machine
	vmlinuz   string
	initramfs string
	dir       string // for the files of this boot
	limit     time.Duration
	root      string   // the image of its disk, of which it changes a copy; "": none
	lacks     []string // features of its CPU
	counts    bool     // guest time is the number of instructions, one a nanosecond, on one CPU
}

// sentFile returns the file with the output of the second port.
func (v vm) sentFile() string {
	return filepath.Join(v.dir, "out.tar.gz")
}

// boot runs the guest until it powers off, and writes its console to c. It returns nil only if the guest reached its
// end: every job ran and the files were sent. A reboot, as after a kernel panic, ends the guest.
func (v vm) boot(ctx context.Context, c *console) error {
	ctx, cancel := context.WithTimeout(ctx, v.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, v.machine.qemu, v.args()...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = c, &stderr
	err := cmd.Run()
	_ = c.Close() // never fails
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the guest did not power off within %v", v.limit)
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %w: %s", v.machine.qemu, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return c.lost()
}

// systemdArgs are read by systemd: init is its service, the console belongs to init alone, and this is no first boot,
// on which systemd would ask for a time zone.
var systemdArgs = []string{
	"systemd.wants=" + guest.Service, "systemd.show_status=false",
	"systemd.mask=serial-getty@ttyS0.service", "systemd.mask=serial-getty@ttyAMA0.service",
	"systemd.mask=systemd-modules-load.service", // init has loaded them
	"systemd.machine_id=c105e7ace0000000000000000000c0de", "systemd.firstboot=false", "systemd.condition_first_boot=false",
}

func (v vm) args() []string {
	kernelArgs := []string{
		"console=" + v.machine.console, "quiet", "panic=-1", "random.trust_cpu=on",
		// Emulated, each read of any other clock is a detour, and so is each retpoline.
		"tsc=reliable", "mitigations=off",
		// A CPU that is stuck for two minutes does not recover: the guest panics, and prints where.
		"watchdog_thresh=60", "softlockup_panic=1",
	}
	args, cpus := v.machine.args, "2"
	if v.counts {
		args, cpus = v.machine.counted, "1"
		// What is the same in every boot costs the same in every boot.
		kernelArgs = append(kernelArgs, "clocksource=tsc", "nokaslr", "norandmaps", "nowatchdog")
	}
	args = slices.Clone(args)
	for _, feature := range v.lacks {
		args[slices.Index(args, "-cpu")+1] += ",-" + feature
	}
	memory := "1536M"
	if v.root != "" {
		memory = "3G"
		kernelArgs = append(kernelArgs, systemdArgs...)
		args = append(args, "-drive", "if=none,id=root,format=raw,snapshot=on,file="+strings.ReplaceAll(v.root, ",", ",,"),
			"-device", "virtio-blk-pci,drive=root")
	}
	return slices.Concat(args, []string{
		"-smp", cpus, "-m", memory,
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "file,id=sent,path=" + strings.ReplaceAll(v.sentFile(), ",", ",,"),
		"-kernel", v.vmlinuz, "-initrd", v.initramfs,
		"-append", strings.Join(kernelArgs, " "),
	}, v.machine.second)
}

// saveSent unpacks the files of the guest into dir.
func (v vm) saveSent(dir string) error {
	sent, err := os.Open(v.sentFile())
	if err != nil {
		return err
	}
	defer sent.Close()
	return unpackTar(sent, dir)
}
