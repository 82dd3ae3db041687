package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/sockets"
	"github.com/closetrace/closetrace/internal/stuck"
)

const stuckAbout = `closetrace stuck lists the sockets that have not ended, and says why: those in
CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, CLOSING and LAST_ACK. It asks the kernel, by BPF
iterators or else by sock_diag and /proc.

Sockets of one process, service, state and diagnosis are one line, the most first; -o
wide and json have each of them. SERVICE is here:PORT if somebody listens at the port
here, else the other end. An age with ≥ is the least that is certain. It is exact of what
comes into its state while --watch looks on, or by --since. The diagnoses:

  never-accepted  it is still in its listener's accept queue; WHY names the listener
  leaked          all was read, the EOF included, and nobody closes it
  not-reading     the application leaves data, or the EOF alone, unread
  busy-sending    data is not sent, or not acknowledged by the peer
  forked-child    a process holds it that has it from another one
  peer-silent     the peer does not acknowledge the FIN
  peer-open       this end is closed or shut down, the peer has not closed
`

const stuckExamples = `Examples:
  sudo closetrace stuck
  sudo closetrace stuck --min-age 1m -o wide
  sudo closetrace stuck --all-netns
  sudo closetrace stuck --watch 10s        again and again, with growth and exact ages
  sudo closetrace stuck -o json | jq 'select(.diagnosis == "leaked") | .holders'
`

// stuckFlags are what the command line says about stuck sockets.
type stuckFlags struct {
	netns    string
	allNetns bool
	minAge   time.Duration
	watch    time.Duration
	count    uint64
	output   format
	source   string
	since    string
	verbose  bool
}

func newStuck(e *env) *cobra.Command {
	f := &stuckFlags{output: formatTable, source: sourceAuto}
	cmd := &cobra.Command{
		Use:   "stuck [flags]",
		Short: "List the sockets that have not ended, and say why",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), e) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.StringVar(&f.netns, "netns", "", "in this network namespace: `NAME` of ip-netns(8), path,\nprocess id or inode:N")
	g.flags.BoolVar(&f.allNetns, "all-netns", false, "in all network namespaces with a process or a name")
	g.flags.DurationVar(&f.minAge, "min-age", 0, "only those known to be in their state for `TIME`")
	g.flags.DurationVar(&f.watch, "watch", 0, "list again every `TIME`, and how much groups grew")
	g.flags.Uint64Var(&f.count, "count", 0, "with --watch: stop after `N` lists")
	g.flags.VarP(outputChoice(&f.output), "output", "o", "table: groups; wide: every socket; json: a socket per line")
	source := choice[string]{&f.source, []string{sourceAuto, sourceIterator, sourceSockDiag}}
	g.flags.Var(source, "source", "ask by a BPF iterator, or by sock_diag and /proc;\nauto takes the first that works")
	g.flags.StringVar(&f.since, "since", "", "exact ages also from `FILE`, a record of this boot\n(closetrace -w FILE, which may still run)")
	g.flags.BoolVarP(&f.verbose, "verbose", "v", false, "say what was asked, and what not, why")
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{about: stuckAbout, groups: []flagGroup{g}, tail: exitCodes + "\n" + stuckExamples}
	m.attach(cmd)
	complete(cmd, "output", outputChoice(&f.output).words())
	complete(cmd, "source", source.words())
	return cmd
}

// validate refuses what makes no sense.
func (f *stuckFlags) validate() error {
	switch {
	case f.allNetns && f.netns != "":
		return &usageError{"--all-netns and --netns exclude each other", "leave out one of them"}
	case f.minAge < 0:
		return &usageError{"--min-age: a negative time is not possible", "as 30s or 5m"}
	case f.watch < 0:
		return &usageError{"--watch: a negative time is not possible", "as 2s or 1m"}
	case f.count > 0 && f.watch == 0:
		return &usageError{"--count counts the lists of --watch", "say --watch TIME as well"}
	}
	return nil
}

func (f *stuckFlags) run(ctx context.Context, e *env) error {
	if err := f.validate(); err != nil {
		return err
	}
	history, err := f.history(e)
	if err != nil {
		return err
	}
	from, err := f.open(e)
	if err != nil {
		return err
	}
	defer from.close()
	from.history = history
	out := &stuckOutput{to: e.patient(e.stdout), format: f.output, watch: f.watch > 0, source: from.name}
	for n := uint64(1); ; n++ {
		err := f.list(e, from, out)
		switch {
		case errors.Is(err, syscall.EPIPE):
			return nil
		case err != nil || f.watch == 0 || n == f.count:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(f.watch):
		}
	}
}

// list looks once, and says on standard error what could not be looked at.
func (f *stuckFlags) list(e *env, from *stuckSource, out *stuckOutput) error {
	places, hidden, err := f.places(e)
	if err != nil {
		return err
	}
	seen, err := look(from, places, f.allNetns)
	if err != nil {
		return err
	}
	found, left := stuck.AtLeast(seen.found, stuck.Milliseconds(f.minAge.Milliseconds()))
	if err := outputError(out.print(found)); err != nil {
		return err
	}
	if len(seen.found) == 0 && f.watch == 0 {
		fmt.Fprintln(e.stderr, "closetrace: no socket waits for its end"+f.elsewhere())
	}
	seen.notes(e.stderr, f.minAge, left)
	if hidden += seen.closed; hidden > 0 && f.allNetns {
		return &kernel.Error{
			Kind: kernel.ErrPrivilege,
			What: fmt.Sprintf("the network namespaces of %s could not be looked at", plural(hidden, "process", "processes")),
			Next: "run as root, outside of containers and of what a security module confines: sudo closetrace stuck --all-netns",
		}
	}
	return nil
}

// elsewhere says where else there may be some.
func (f *stuckFlags) elsewhere() string {
	if f.allNetns {
		return ""
	}
	return " in this network namespace; --all-netns looks at all"
}

// places are the network namespaces to look at: their paths by inode number, "" for
// this process's own.
func (f *stuckFlags) places(e *env) (paths map[uint32]string, hidden int, err error) {
	own, err := e.finder.inode(filepath.Join(e.finder.proc, "self/ns/net"))
	if err != nil {
		return nil, 0, err
	}
	paths = map[uint32]string{own: ""}
	switch {
	case f.allNetns:
		paths, hidden = e.finder.everyNetns()
		paths[own] = ""
	case f.netns != "":
		inode, err := e.finder.netns(f.netns)
		if err != nil || inode == own {
			return paths, 0, err
		}
		path, _ := e.finder.netnsPath(f.netns)
		if strings.HasPrefix(f.netns, "inode:") {
			every, _ := e.finder.everyNetns()
			if path = every[inode]; path == "" {
				return nil, 0, &usageError{fmt.Sprintf("no process is in network namespace %d", inode), "lsns -t net lists them"}
			}
		}
		paths = map[uint32]string{inode: path}
	}
	return paths, hidden, nil
}

// seen is what a look found, and what it did not get to see.
type seen struct {
	found  []stuck.Finding
	hidden int  // processes
	closed int  // network namespaces, by a process each
	moving bool // some sockets changed while they were listed
}

func look(from *stuckSource, places map[uint32]string, several bool) (*seen, error) {
	s := &seen{}
	var all []stuck.Socket
	for _, inode := range slices.Sorted(maps.Keys(places)) {
		some, whole, err := from.sockets(places[inode], inode)
		switch {
		case err == nil:
		case several && errors.Is(err, fs.ErrPermission):
			s.closed++
			continue
		case several && errors.Is(err, errNetnsGone):
			continue
		default:
			return nil, unlisted(inode, err)
		}
		all = append(all, some...)
		s.moving = s.moving || !whole
	}
	from.history.Fill(all, kernel.MonoNow())
	holders, hidden, err := from.holders(stuck.Wanted(all))
	if err != nil {
		return nil, err
	}
	s.found, s.hidden = stuck.Find(all, holders), hidden
	stuck.Sort(s.found)
	return s, nil
}

// unlisted says what can be done about a network namespace that cannot be listed.
func unlisted(inode uint32, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &kernel.Error{
			Kind: kernel.ErrPrivilege,
			What: fmt.Sprintf("network namespace %d cannot be entered: %v", inode, err),
			Next: "run as root: sudo closetrace stuck",
		}
	case errors.Is(err, sockets.ErrUnsupported):
		return &kernel.Error{
			Kind: kernel.ErrUnsupported,
			What: fmt.Sprintf("kernel %s does not list TCP sockets: %v", kernel.Release(), err),
			Next: "modprobe tcp_diag, or a kernel with CONFIG_INET_TCP_DIAG",
		}
	}
	return err
}

// notes tells what the list leaves out.
func (s *seen) notes(to io.Writer, minAge time.Duration, left int) {
	if left > 0 {
		fmt.Fprintf(to, "closetrace: %d left out, which are younger than %s or of unknown age\n", left, minAge)
	}
	if s.hidden > 0 {
		fmt.Fprintf(to, "closetrace: %s may not be looked at, so that holders may be missing\n", plural(s.hidden, "process", "processes"))
	}
	if s.moving {
		fmt.Fprintln(to, "closetrace: sockets changed while they were listed, so that some may be missing")
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
