package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/outfile"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/report"
	"github.com/closetrace/closetrace/internal/version"
)

const reportAbout = `closetrace report writes a document to hand over: what ended abnormally by cause,
process and service, over time, an example of each verdict as a diagram of both ends,
what to do about it, and how it was recorded.

It is one HTML page without script, which needs no network and no other file. --format
md writes Markdown for an issue tracker. The page has totals and examples, so it stays
small however long the recording is. It contains addresses and names of processes.
`

const reportExamples = `Examples:
  closetrace report night.rec.zst -o report.html
  closetrace report --since 02:55 --until 03:10 night.rec.zst -o report.html
  closetrace report --lang zh night.rec.zst >report.html
  closetrace report --format md --errors night.rec.zst
`

// reportFormat is a value of --format.
type reportFormat string

const (
	reportHTML     reportFormat = "html"
	reportMarkdown reportFormat = "md"
)

// reportFlags are the flags of closetrace report.
type reportFlags struct {
	shown    filter.Endings
	to       string
	force    bool
	format   reportFormat
	language explain.Language
}

func newReport(c *console, dropAll func() error) *cobra.Command {
	r := &reportFlags{format: reportHTML, language: c.language}
	cmd := &cobra.Command{
		Use:   "report FILE... [flags]",
		Short: "Write a page about recordings, to hand over",
		Args:  someFiles,
		RunE:  func(cmd *cobra.Command, paths []string) error { return r.run(cmd.Context(), c, dropAll, paths) },

		DisableFlagsInUseLine: true,
	}
	shown := endingFlags(&r.shown)
	momentFlags(shown, &r.shown)
	g := newGroup("Output")
	g.flags.VarP(flagvalue.File{Path: &r.to}, "output", "o", "write to `FILE` instead of standard output")
	g.flags.BoolVar(&r.force, "force", false, "replace the file of -o if it exists")
	format := flagvalue.OneOf(&r.format, reportHTML, reportMarkdown)
	g.flags.Var(format, "format", "html: a page; md: Markdown for an issue tracker")
	languageFlag(g, &r.language, "")
	helpFlag(g)
	codes := hint.ExitCodes("no recording (2: cannot be opened), or output not written", hint.Usage, hint.Incomplete)
	m := manual{about: reportAbout, groups: []flagGroup{shown, g}, tail: codes + "\n" + reportExamples}
	m.attach(cmd)
	completeEndings(cmd, "only", "not")
	complete(cmd, "format", format.Words())
	completeLanguage(cmd)
	return cmd
}

func (r *reportFlags) run(ctx context.Context, c *console, dropAll func() error, paths []string) (err error) {
	files, err := pipeline.Open(ctx, c.stdin, paths)
	if err != nil {
		return err
	}
	defer pipeline.CloseAll(files)
	var file *outfile.File
	if r.to != "" {
		if file, err = outfile.Create(r.to, r.force, pipeline.Inputs(c.stdin, paths, files)); err != nil {
			return err
		}
		defer func() { err = file.Close(err) }()
	}
	if err := dropAll(); err != nil { // before the text of another machine is read
		return err
	}
	text, err := r.text(ctx, c, files, paths)
	switch {
	case text == nil:
		return err
	case r.to == "":
		return cmp.Or(write(c.stdout, string(text)), err)
	}
	return cmp.Or(writeAll(file, text), err)
}

// writeAll replaces what is in a file.
func writeAll(file *outfile.File, text []byte) error {
	w, err := file.Begin()
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

// text returns the report. It is nil if there is none; a damaged recording has one and an error.
func (r *reportFlags) text(ctx context.Context, c *console, files []*os.File, paths []string) ([]byte, error) {
	collected := report.New()
	o := c.streamOptions(0)
	o.Filter, o.OnSummary = r.shown, collected.AddRecording
	o.Observers = []pipeline.Observer{collected}
	err := pipeline.ReplayAll(ctx, files, 1, collected, o)
	if err != nil && !hint.Is(err, hint.Incomplete) {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, errors.New("interrupted; there is no report")
	}
	write := collected.HTML
	if r.format == reportMarkdown {
		write = collected.Markdown
	}
	var b bytes.Buffer
	look := report.Options{Language: r.language, Say: r.language.Say(), Version: version.Build().Line(), Files: paths}
	if writeErr := write(&b, look); writeErr != nil {
		return nil, writeErr
	}
	return b.Bytes(), err
}
