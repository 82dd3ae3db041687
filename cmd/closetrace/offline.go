//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/why"
)

const about = `closetrace shows how and why TCP connections on a Linux machine ended: the path the kernel
took, the evidence, and the process that caused it.

It traces on Linux only. Here it reads what was recorded there: record with closetrace
record -w FILE, or with -w FILE of closetrace and closetrace serve, and copy the file.
`

const examples = `Examples:
  ssh web1 cat night.rec.zst | closetrace replay -
  closetrace replay --errors -o wide night.rec.zst
  closetrace why 10.0.0.5:33042 10.0.0.9:443 --from night.rec.zst
  closetrace report night.rec.zst -o page.html
  closetrace annotate night.pcap -r night.rec.zst -o why.pcapng
  closetrace explain close.rst.unread
`

// system is this process.
type system struct {
	args                 []string
	console              *console
	dropForUser, dropAll func() error
}

func thisSystem() *system {
	return &system{
		args: os.Args[1:], console: standardConsole(), dropForUser: rights.DropForUser, dropAll: rights.DropAll,
	}
}

// runHelper returns false: no helper is started here.
func runHelper() bool { return false }

// checkRuntime returns nil: nothing here limits Go's runtime.
func checkRuntime() error { return nil }

// needsPrivileges returns false: nothing here traces.
func needsPrivileges(*cobra.Command, []string) bool { return false }

// needsLinux returns the error for what needs a Linux kernel.
func needsLinux(what string) error {
	return hint.New(hint.Unsupported, fmt.Sprintf("%s needs a Linux kernel, and this is %s", what, runtime.GOOS),
		"run it on Linux; here replay, why --from, report and annotate read its recordings, and explain works")
}

// newRootCommand returns closetrace without a command, which would trace.
func newRootCommand(*system) *cobra.Command {
	cmd := &cobra.Command{RunE: func(*cobra.Command, []string) error { return needsLinux("tracing") }}
	cmd.SetFlagErrorFunc(func(of *cobra.Command, err error) error {
		if of == cmd && errors.As(err, new(*pflag.NotExistError)) {
			return needsLinux("tracing")
		}
		return flagError(of, err)
	})
	g := newGroup("Flags")
	helpFlag(g)
	g.flags.Bool("version", false, "print the version")
	codes := hint.ExitCodes("a file cannot be read, or the output not written", hint.Usage, hint.Unsupported,
		hint.Incomplete)
	help := manual{about: about, groups: []flagGroup{g}, tail: codes + "\n" + examples}
	help.attach(cmd)
	return cmd
}

// liveCommands returns the commands of Linux, which only say so.
func (*system) liveCommands() (all []*cobra.Command) {
	for _, name := range []string{"check", "lab", "record", "run", serveName, "stuck", "top", "trace"} {
		all = append(all, &cobra.Command{
			Use: name, Short: "Needs a Linux kernel", Hidden: true, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, _ []string) error { return needsLinux(cmd.CommandPath()) },
		})
	}
	return all
}

// What the help and a hint say of --wait.
const (
	whyWaits       = "; on Linux, --wait traces until the connection ends"
	whyWaitExample = ""
	orWait         = ""
)

// waitFlags are the flags of closetrace why that trace.
type waitFlags struct {
	active   bool          // --wait is given
	duration time.Duration // always 0
}

func newWaitFlags() waitFlags { return waitFlags{} }

func (w *waitFlags) flags(g flagGroup) {
	g.flags.BoolVar(&w.active, "wait", false, "trace until the connection ends, which needs Linux")
}

func (*waitFlags) kernelFlags(flagGroup) {}

func (*waitFlags) complete(*cobra.Command) {}

// trace returns an error.
func (*waitFlags) trace(context.Context, *system, []uint32, *why.Collector) error {
	return needsLinux("--wait")
}
