package main

import (
	"cmp"
	"io"
	"os"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/outfile"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/rights"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/internal/stdio"
)

// console is the standard input and outputs of a command.
type console struct {
	stdin          *os.File
	stdout, stderr output
	outputClosed   func() bool     // whether the reader of stdout has closed it
	interrupted    <-chan struct{} // closed by the first signal that ends a run
	language       explain.Language
}

// output is standard output or standard error.
type output struct {
	io.Writer
	file    *os.File // which a command of run inherits
	width   int      // in cells; 0: no limit
	summary sink.SummaryOptions
	color   bool // whether --color auto means colours

	isTerminal, isASCII, replaces bool // replaces: what is in file
}

func newOutput(f *os.File) output {
	o := output{
		Writer: f, file: f, width: stdio.Width(f, os.Getenv("COLUMNS")), isTerminal: stdio.IsTerminal(f),
		isASCII: !stdio.IsUTF8(os.Getenv),
	}
	o.color = o.isTerminal && stdio.HasColors(os.Getenv)
	o.summary = sink.SummaryOptions{
		Width: o.width, Rows: stdio.Height(f) / 2, Color: o.color, ASCII: o.isASCII, IsTerminal: o.isTerminal,
	}
	return o
}

// begin empties a file that is replaced. It is called before anything is printed, and not before the input is accepted.
func (o output) begin() error {
	if !o.replaces {
		return nil
	}
	return outfile.Empty(o.file)
}

// standardConsole returns the console of this process.
func standardConsole() *console {
	return &console{
		stdin: os.Stdin, stdout: newOutput(os.Stdout), stderr: newOutput(os.Stderr),
		outputClosed: func() bool { return stdio.Closed(os.Stdout) },
		language:     explain.FromLocale(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG"))),
	}
}

// streamOptions returns the options of every stream of events.
func (c *console) streamOptions(limit uint64) pipeline.Options {
	return pipeline.Options{
		Limit: limit, OutputClosed: c.outputClosed, Interrupted: c.interrupted, Stderr: c.stderr,
		ReportError: func(err error) { message.Report(c.stderr, err) },
		Summary:     c.stderr.summary,
	}
}

// open returns where the flags say that endings are printed, which is otherwise std, and whether that is closed. All
// that is printed there goes through one writer: once a write has failed, no other one follows or waits for it.
func (c *console) open(
	std output, closed func() bool, d *display, others pipeline.Others,
) (output, func() bool, error) {
	switch {
	case d.sums != nil && *d.sums && d.output != formatJSON:
		return output{}, nil, hint.New(hint.Usage, "--json-summary needs -o json", "add -o json")
	case !d.to.Given():
		std.Writer = pipeline.NewDeadlineWriter(std.Writer, c.interrupted)
		return std, closed, nil
	}
	var f *os.File
	err := rights.AsUser(func() (err error) {
		f, err = d.to.Open(others)
		return err
	})
	if err != nil {
		return output{}, nil, err
	}
	o := newOutput(f)
	o.Writer = pipeline.NewDeadlineWriter(f, c.interrupted)
	o.replaces = d.to.File != ""
	return o, func() bool { return stdio.Closed(f) }, nil
}

// sink returns the sink that prints endings to an output of [console.open].
func (c *console) sink(to output, d *display) pipeline.Sink {
	if d.every > 0 {
		d.speak(&to.summary)
		return pipeline.NewSummarySink(to, d.every, to.summary)
	}
	if d.output == formatJSON {
		return sink.NewJSONL(to)
	}
	t := sink.NewTable(to, sink.TableOptions{
		Wide: d.output == formatWide, Width: to.width, Color: d.color.enabled(to.color),
		ASCII: to.isASCII && d.isEnglish(), Recorded: d.recorded, Say: d.language.Say(),
	})
	if d.all || !to.isTerminal {
		return t
	}
	return sink.NewCollapsed(t, c.stderr)
}
