package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/kernel"
	"github.com/closetrace/closetrace/internal/probe"
	"github.com/closetrace/closetrace/internal/top"
)

const topAbout = `closetrace top shows on the whole terminal, live, how many connections end, per second
and in all: by path, by process or by remote host, and the last endings of each.

Keys: up and down choose a group, enter shows its last endings, esc goes back, tab
groups by the next thing, s sorts by the next column, space pauses the screen while
counting goes on, z starts again from zero, q quits. The summary comes at the end.
`

const topExamples = `Examples:
  sudo closetrace top
  sudo closetrace top --by process --sort errors
  sudo closetrace top -L 443 --only rst
`

// topFlags are what the command line says about the screen.
type topFlags struct {
	traceFlags
	by    top.Grouping
	order top.Order
}

func newTop(e *env) *cobra.Command {
	t := &topFlags{traceFlags: newTraceFlags(), by: top.ByPath, order: top.ByRate}
	cmd := &cobra.Command{
		Use:   "top [flags]",
		Short: "Count endings live, on the whole terminal",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return t.run(cmd.Context(), e) },
	}
	by, order := choice[top.Grouping]{&t.by, top.Groupings()}, choice[top.Order]{&t.order, top.Orders()}
	g := newGroup("Screen")
	g.flags.Var(by, "by", "what to begin with: path, process, remote")
	g.flags.Var(order, "sort", "by what to begin with: rate, total, errors, name")
	colorFlag(g.flags, &t.color)
	namesFlag(g, &t.names)
	t.durationFlag(g)
	t.verboseFlag(g)
	g.flags.BoolP("help", "h", false, "print this")
	m := manual{
		about:  topAbout,
		groups: append(t.filterFlags(), g, t.kernelFlags()),
		tail:   exitCodes + "\n" + topExamples,
	}
	m.attach(cmd)
	t.complete(cmd)
	complete(cmd, "by", by.words())
	complete(cmd, "sort", order.words())
	return cmd
}

func (t *topFlags) run(ctx context.Context, e *env) error {
	if !isTerminal(e.files[0]) || !isTerminal(e.files[1]) || e.term == "" || e.term == "dumb" {
		return &usageError{"top needs a terminal, for keys and for its screen", "closetrace prints lines for a file or a pipe, closetrace -o json for a program"}
	}
	if err := t.check(e); err != nil {
		return err
	}
	// What leaves a terminal alone otherwise would leave it in disorder.
	ctx, restore := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer restore()
	counts := newTopCounts(kernel.MonoNow)
	said := &held{to: e.stderr}
	behind := *e
	behind.stderr = said
	s, audit, err := t.begin(ctx, &behind, counts)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer s.source.Close()
	return t.show(ctx, &behind, said, s, audit, counts)
}

// show traces while there is the screen, and then says what there is to say.
func (t *topFlags) show(ctx context.Context, e *env, said *held, s *stream, audit *audit, counts *topCounts) error {
	ctx, stop := t.limited(ctx)
	defer stop()
	watched := &watched{source: s.source}
	s.source = watched

	h := s.source.Header()
	view := &topView{
		counts: counts, losses: watched.Losses, about: fmt.Sprintf("on %s by %s", oneLine(h.Kernel), h.Attach),
		color: t.color.means(e.color), keys: newTopKeys(), help: newHelp(), by: t.by, order: t.order,
	}
	guarded := &guardedView{Model: view}
	screen := tea.NewProgram(guarded, tea.WithoutSignalHandler(),
		tea.WithInput(e.files[0]), tea.WithOutput(e.files[1]), tea.WithColorProfile(profile(view.color)), tea.WithFPS(20), tea.WithFilter(sized))
	over := make(chan struct{})
	s.crashed = func() {
		screen.Quit()
		<-over
	}
	context.AfterFunc(ctx, screen.Quit)
	traced := make(chan error, 1)
	go func() {
		defer s.lastWords()
		traced <- trace(ctx, e, s, audit)
		screen.Quit()
	}()
	said.hold()
	_, err := screen.Run()
	close(over)
	stop()
	traceErr := <-traced
	if saidErr := said.release(); traceErr == nil {
		traceErr = saidErr
	}
	if guarded.died != "" {
		panic(guarded.died)
	}
	if err != nil {
		return fmt.Errorf("the screen: %w", err)
	}
	return traceErr
}

// guardedView is a view after whose panic the terminal is given back in good order,
// before the process dies of it.
type guardedView struct {
	tea.Model
	died string // of what, and where
}

// Update is the view's, or the end.
func (g *guardedView) Update(msg tea.Msg) (same tea.Model, next tea.Cmd) {
	defer g.survive()
	same, next = g, tea.Quit // what stands after a panic
	if g.died == "" {
		_, next = g.Model.Update(msg)
	}
	return same, next
}

// View is the view's, or nothing.
func (g *guardedView) View() (screen tea.View) {
	defer g.survive()
	if g.died == "" {
		screen = g.Model.View()
	}
	return screen
}

func (g *guardedView) survive() {
	if p := recover(); p != nil {
		g.died = fmt.Sprintf("%v\n%s", p, debug.Stack())
	}
}

// profile is what the screen may ask of its terminal: the colours that every one
// has, or none. The library is not asked to find out, as it runs programs for it.
func profile(color bool) colorprofile.Profile {
	if color {
		return colorprofile.ANSI
	}
	return colorprofile.ASCII
}

// topCounts is the sink of endings that the screen looks at.
type topCounts struct {
	clock func() uint64
	mu    sync.Mutex
	board *top.Board
}

func newTopCounts(clock func() uint64) *topCounts {
	return &topCounts{clock: clock, board: top.New(clock())}
}

// Write counts e.
func (c *topCounts) Write(e *events.Ending) error {
	now := c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.board.Add(e, now)
	return nil
}

// Flush and Close have nothing to do.
func (c *topCounts) Flush() error { return nil }
func (c *topCounts) Close() error { return nil }

// look returns the counts of now.
func (c *topCounts) look() (*top.Board, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.board.Clone(), c.clock()
}

// zero starts again.
func (c *topCounts) zero() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.board = top.New(c.clock())
}

// watched is a source whose losses may be asked for at any time.
type watched struct {
	source
	mu sync.Mutex
}

// Losses are the source's.
func (w *watched) Losses() probe.Losses {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.source.Losses()
}

// Detach is the source's.
func (w *watched) Detach() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.source.Detach()
}

// held is standard error, which is held back while the terminal has a screen on it.
type held struct {
	to      io.Writer
	mu      sync.Mutex
	holding bool
	text    bytes.Buffer
}

func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.holding {
		return h.to.Write(p)
	}
	return h.text.Write(p)
}

// hold begins to hold back.
func (h *held) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holding = true
}

// release says all that was held back.
func (h *held) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holding = false
	_, err := h.text.WriteTo(h.to)
	return err
}
