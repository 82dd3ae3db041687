// Package guest has the protocol of the host and the guest's init: the plan, which the host puts into the initramfs,
// and the marks, which init prints between the output of the jobs.
package guest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// PlanFile is the path of the plan in the guest.
const PlanFile = "/plan.json"

// OutDir is the directory whose files init sends to the host at the end.
const OutDir = "/out"

// Plan has everything that init needs.
type Plan struct {
	Nonce    string   // part of every mark of this boot, so that no output can be mistaken for one
	Hostname string   // the guest's name
	Modules  []string // paths of uncompressed kernel modules, in the order to load them
	Port     string   // the serial device that carries the files of OutDir
	Jobs     []Job    // run one after the other
	Root     string   // the block device of a Debian whose systemd becomes process 1; init is then one of its services
	Files    []string // of the initramfs, to be copied to that Debian
}

// Service is the systemd unit of init, where a plan has a root.
const Service = "closetrace-vm.service"

// Job is one command. Its name is unique within a plan.
type Job struct {
	Name    string
	Argv    []string // Argv[0] is an absolute path in the guest
	Env     []string // added to PATH and HOME
	Timeout time.Duration
}

// Event is the kind of a mark.
type Event string

// The events of a boot, in order: Boot, then Start and End for each job, then Done, or Fail instead of any of them.
const (
	Boot  Event = "boot"  // the guest is ready for the first job
	Start Event = "start" // the output of a job follows
	End   Event = "end"   // the job and all its processes have ended
	Done  Event = "done"  // every job has run and the files are sent
	Fail  Event = "fail"  // init could not go on
)

// Mark is a message of init.
type Mark struct {
	Event    Event   `json:"event"`
	Job      string  `json:"job,omitempty"`
	Exit     int     `json:"exit"`
	Signal   string  `json:"signal,omitempty"` // the job was killed by it; Exit is then 128 + its number
	TimedOut bool    `json:"timed_out,omitempty"`
	Error    string  `json:"error,omitempty"` // why the job could not start, or why init could not go on
	Seconds  float64 `json:"seconds"`         // the duration of a job, or the time since the kernel started
}

// Passed reports whether this is an End mark of a job that succeeded.
func (m Mark) Passed() bool {
	return m.Event == End && m.Exit == 0 && m.Signal == "" && !m.TimedOut && m.Error == ""
}

// Line returns the mark as init prints it, with the newline.
func (m Mark) Line(nonce string) (string, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode mark: %w", err)
	}
	return prefix(nonce) + string(body) + "\n", nil
}

// Cut finds a mark in a line of the console. before is output that precedes the mark without a newline. A line
// without a mark, or with one that does not decode, is output.
func Cut(line, nonce string) (before string, m Mark, ok bool) {
	before, body, found := strings.Cut(line, prefix(nonce))
	if !found || json.Unmarshal([]byte(body), &m) != nil {
		return line, Mark{}, false
	}
	return before, m, true
}

func prefix(nonce string) string {
	return "@vm " + nonce + " "
}
