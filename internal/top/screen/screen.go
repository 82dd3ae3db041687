// Package screen shows the counts of package top on a full screen, and takes keys.
package screen

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/top"
)

// Losses are what a trace has lost so far, as a probe counts it.
type Losses struct{ LostRecords, MissedProbes, Suppressed uint64 }

// Options say what to show.
type Options struct {
	In, Out *os.File // the terminal
	Color   bool
	ASCII   bool                // the terminal has no other characters
	Say     func(string) string // returns WHY in the language of the reader; nil: it is in English
	By      top.Grouping        // at the start
	Sort    top.Order           // at the start
	Kernel  string              // what is traced
	Attach  string              // how
	Losses  func() Losses
	// Explain returns the text that explains a path, for a terminal of this width in cells.
	Explain func(path events.Path, width int) string
	// Trace traces into the counts until ctx ends. It calls onPanic before a panic ends the process.
	Trace func(ctx context.Context, onPanic func()) error
	// Stderr holds back what is written to standard error while the screen is shown.
	Stderr *DelayedWriter
}

// Show traces while the screen is shown: until the user quits, ctx ends or tracing fails. Whatever happens, it leaves
// the terminal as it found it.
func Show(ctx context.Context, counts *Counts, o Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	guard := &panicGuard{Model: newView(counts, o)}
	program := tea.NewProgram(guard, tea.WithoutSignalHandler(), tea.WithInput(o.In), tea.WithOutput(o.Out),
		tea.WithColorProfile(profile(o.Color)), tea.WithFPS(20), tea.WithFilter(defaultSize))
	closed := make(chan struct{})
	onPanic := func() {
		program.Quit()
		<-closed
	}
	context.AfterFunc(ctx, program.Quit)
	traced := make(chan error, 1)
	go func() {
		traced <- o.Trace(ctx, onPanic)
		program.Quit()
	}()
	o.Stderr.hold()
	_, err := program.Run()
	close(closed)
	stop()
	traceErr := <-traced
	if stderrErr := o.Stderr.release(); traceErr == nil {
		traceErr = stderrErr
	}
	if guard.panicked != "" {
		panic(guard.panicked)
	}
	if err != nil {
		return fmt.Errorf("the screen: %w", err)
	}
	return traceErr
}

// panicGuard quits the program after a panic of its view, so that the terminal is restored before the process ends.
type panicGuard struct {
	tea.Model
	panicked string // the value and the stack
}

// Update returns the command of the view, or quits.
func (g *panicGuard) Update(msg tea.Msg) (same tea.Model, next tea.Cmd) {
	defer g.catch()
	same, next = g, tea.Quit // the result after a panic
	if g.panicked == "" {
		_, next = g.Model.Update(msg)
	}
	return same, next
}

// View returns what the view shows, or nothing.
func (g *panicGuard) View() (screen tea.View) {
	defer g.catch()
	if g.panicked == "" {
		screen = g.Model.View()
	}
	return screen
}

func (g *panicGuard) catch() {
	if p := recover(); p != nil {
		g.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
	}
}

// profile returns the colours that every terminal has, or none. The library would run programs to find out more.
func profile(color bool) colorprofile.Profile {
	if color {
		return colorprofile.ANSI
	}
	return colorprofile.ASCII
}

// defaultSize replaces a size of zero, as of a terminal on a serial line, by 80 by 24.
func defaultSize(_ tea.Model, msg tea.Msg) tea.Msg {
	if size, ok := msg.(tea.WindowSizeMsg); ok && (size.Width <= 0 || size.Height <= 0) {
		return tea.WindowSizeMsg{Width: 80, Height: 24}
	}
	return msg
}
