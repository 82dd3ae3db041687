//go:build linux

// Command init is process 1 of the guest: it mounts what a Linux machine has mounted, loads the modules of its plan,
// runs the jobs one after the other with their output on the console, sends the files below /out through the second
// serial port and powers off. It prints marks (package guest), so that the host can distinguish a job that passed
// from one that never ran.
//
// If the plan has a root, a Debian on a disk, init copies itself there, leaves process 1 to its systemd, and runs the
// jobs as a service.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/test/vm/guest"
)

func main() {
	marks := markPrinter{}
	if err := run(&marks); err != nil {
		marks.mark(guest.Mark{Event: guest.Fail, Error: err.Error()})
	}
	drain(os.Stdout)
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// Reached only if the kernel refuses; it panics when process 1 returns, which the host reports.
	fmt.Println("init: power off:", err)
}

func run(marks *markPrinter) error {
	plan, err := readPlan()
	if err != nil {
		return err
	}
	marks.nonce = plan.Nonce
	if plan.Root != "" && os.Getpid() == 1 {
		return startSystemd(plan)
	}
	if plan.Root != "" {
		err = prepareService()
	} else {
		err = prepare(plan)
	}
	if err != nil {
		return err
	}
	marks.mark(guest.Mark{Event: guest.Boot})
	for _, job := range plan.Jobs {
		marks.mark(guest.Mark{Event: guest.Start, Job: job.Name})
		marks.mark(runJob(job, os.Stdout))
	}
	if err := sendOut(plan.Port); err != nil {
		return err
	}
	marks.mark(guest.Mark{Event: guest.Done})
	return nil
}

func readPlan() (guest.Plan, error) {
	var plan guest.Plan
	data, err := os.ReadFile(guest.PlanFile)
	if err != nil {
		return plan, fmt.Errorf("read plan: %w", err)
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		return plan, fmt.Errorf("decode plan: %w", err)
	}
	return plan, nil
}

// markPrinter prints marks.
type markPrinter struct {
	nonce string
}

// mark prints m. Marks other than a job's get the time since the kernel started.
func (s *markPrinter) mark(m guest.Mark) {
	if m.Job == "" {
		m.Seconds = uptime()
	}
	line, err := m.Line(s.nonce)
	if err != nil {
		line = fmt.Sprintf("init: %v\n", err)
	}
	// Without a console nothing can be printed; the host reports the missing mark.
	_, _ = os.Stdout.WriteString(line)
}

func uptime() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return float64(now.Nano()) / 1e9
}
