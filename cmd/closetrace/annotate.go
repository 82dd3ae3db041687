package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/closetrace/closetrace/internal/annotate"
	"github.com/closetrace/closetrace/internal/capture"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/outfile"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/version"
)

const annotateAbout = `closetrace annotate copies a packet capture, pcap or pcapng, with a comment on each FIN and
RST that a recorded ending explains: its path, the process and the reason. Wireshark
shows the comments; frame.comment is their display filter. All else is copied as it is.

The capture may be from either end or from between. A packet belongs to an ending by its
addresses, its sequence number and the time; behind NAT, by sequence numbers that fit
nothing else. The summary says how many FINs and RSTs have no comment, and why.
`

const annotateExamples = `Examples:
  closetrace annotate web1.pcap -r web1.rec.zst -o why.pcapng
  closetrace annotate -v between.pcapng -r client.rec.zst -r server.rec.zst -o why.pcapng
  wireshark -Y 'frame.comment contains "closetrace: "' why.pcapng
`

// annotateFlags are the flags of closetrace annotate.
type annotateFlags struct {
	recordings []string
	out        string
	force      bool
	verbose    bool
}

func newAnnotate(c *console, dropAll func() error) *cobra.Command {
	a := &annotateFlags{}
	cmd := &cobra.Command{
		Use:   "annotate CAPTURE -r FILE -o FILE [flags]",
		Short: "Comment the FINs and RSTs of a packet capture",
		RunE:  func(cmd *cobra.Command, args []string) error { return a.run(cmd, c, dropAll, args) },

		DisableFlagsInUseLine: true,
	}
	g := newGroup("Flags")
	g.flags.VarP(flagvalue.Files{List: &a.recordings}, "recording", "r",
		"a recording of closetrace -w; name several after it, or repeat it; also of several hosts")
	g.flags.VarP(flagvalue.File{Path: &a.out}, "output-file", "o", "write to this file, as pcapng")
	g.flags.BoolVar(&a.force, "force", false, "replace the file of -o if it exists")
	g.flags.BoolVarP(&a.verbose, "verbose", "v", false, "list the FINs and RSTs without a comment, and why they have none")
	helpFlag(g)
	codes := hint.ExitCodes("a file cannot be read (2: cannot be opened) or written", hint.Usage, hint.Incomplete)
	m := manual{about: annotateAbout, groups: []flagGroup{g}, tail: codes + "\n" + annotateExamples}
	m.attach(cmd)
	return cmd
}

func (a *annotateFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return hint.New(hint.Usage, "no capture to annotate", seeHelp(cmd))
	case len(a.recordings) == 0:
		return hint.New(hint.Usage, "no recording", "use -r FILE, a recording of closetrace -w")
	case a.out == "":
		return hint.New(hint.Usage, "no file to write to", "use -o FILE")
	}
	return nil
}

func (a *annotateFlags) run(cmd *cobra.Command, c *console, dropAll func() error, args []string) error {
	if err := a.check(cmd, args); err != nil {
		return err
	}
	var opened []*os.File
	for i, path := range slices.Concat(args[:1], a.recordings, args[1:]) { // files, because they are read several times
		file, err := record.Open(path)
		if err != nil && i == 0 && !errors.Is(err, os.ErrPermission) {
			return hint.New(hint.Usage, err.Error(), "tcpdump -w FILE makes a capture")
		}
		if err != nil {
			return err
		}
		defer file.Close()
		opened = append(opened, file)
	}
	info, err := opened[0].Stat()
	if err != nil {
		return err
	}
	from := annotate.Interruptible{Context: cmd.Context(), File: opened[0]}
	in, err := capture.Read(args[0], from, info.Size())
	if err != nil {
		return err
	}
	out, err := outfile.Create(a.out, a.force, opened)
	if err != nil && !hint.Is(err, hint.Usage) {
		return hint.New(hint.Usage, err.Error(), "name another file with -o")
	}
	if err != nil {
		return err
	}
	return out.Close(a.write(cmd.Context(), c, dropAll, in, opened[1:], out))
}

func (a *annotateFlags) write(
	ctx context.Context, c *console, dropAll func() error, in *capture.File, recordings []*os.File, out *outfile.File,
) error {
	if err := dropAll(); err != nil { // before the text of another machine is read
		return err
	}
	begin := func() (io.Writer, error) { return out.Begin() }
	return annotate.File(ctx, in, begin, &annotate.Options{
		Recordings: recordings, Stream: c.streamOptions(0), Version: version.Build().Version, Verbose: a.verbose,
	})
}
