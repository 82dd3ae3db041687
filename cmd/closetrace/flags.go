package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/closetrace/closetrace/internal/explain"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/pipeline"
	"github.com/closetrace/closetrace/internal/sink"
)

const (
	serveName = "serve" // which SIGHUP does not end
	runName   = "run"   // whose command has signals of its own
)

// noArguments returns an error for any argument.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if err := intervalApart(cmd, args); err != nil {
		return err
	}
	return hint.New(hint.Usage, fmt.Sprintf("unexpected argument %q", args[0]), seeHelp(cmd))
}

// intervalApart returns an error if the first argument is probably the value of --summary.
func intervalApart(cmd *cobra.Command, args []string) error {
	return flagvalue.Apart(cmd.Flags().Lookup("summary"), args)
}

// flagError turns an error of pflag into one with a hint.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "" {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		return hint.New(hint.Usage, err.Error(), flagvalue.Suggest("--"+unknown.GetSpecifiedName(), known, seeHelp(cmd)))
	}
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return hint.New(hint.Usage, err.Error(), seeHelp(cmd))
	}
	flag := invalid.GetFlag()
	var usage *hint.Error
	if errors.As(err, &usage) {
		return hint.New(hint.Usage, fmt.Sprintf("--%s: %s", flag.Name, usage.What), usage.Hint)
	}
	value, what := pflag.UnquoteUsage(flag)
	return hint.New(hint.Usage,
		fmt.Sprintf("invalid value %q for --%s", invalid.GetValue(), flag.Name),
		fmt.Sprintf("--%s %s: %s", flag.Name, value, what),
	)
}

func seeHelp(cmd *cobra.Command) string { return "see " + cmd.CommandPath() + " -h" }

// format is a value of --output.
type format string

const (
	formatText  format = "text"
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
)

// complete registers the words of a flag for shell completion.
func complete(cmd *cobra.Command, flag string, words []string) {
	// It fails only for a flag that does not exist, which a test would notice.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// outputUsage describes --output.
const outputUsage = "table; wide: more columns; json: an object per line, with all evidence"

func outputChoice(f *format) flagvalue.Choice[format] {
	return flagvalue.OneOf(f, formatTable, formatWide, formatJSON)
}

// completeList registers shell completion for a flag that takes a list of words.
func completeList(cmd *cobra.Command, flag string, words []string) {
	type directive = cobra.ShellCompDirective
	_ = cmd.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, typed string) (all []string, _ directive) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		for _, word := range words {
			all = append(all, before+word)
		}
		return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
}

func helpFlag(g flagGroup) { g.flags.BoolP("help", "h", false, "show this help") }

// languageFlag adds --lang. Its usage begins with what is in the language.
func languageFlag(g flagGroup, l *explain.Language, usage string) {
	g.flags.Var(flagvalue.LanguageOf(l), "lang",
		usage+"en or zh (Simplified Chinese), or a locale; by default from LC_ALL, LC_MESSAGES or LANG")
	g.flags.Lookup("lang").DefValue = "" // the help is the same in every locale
}

func completeLanguage(cmd *cobra.Command) {
	complete(cmd, "lang", flagvalue.LanguageOf(new(explain.Language)).Words())
}

// colorWhen is a value of --color.
type colorWhen string

const (
	colorAuto   colorWhen = "auto"
	colorAlways colorWhen = "always"
	colorNever  colorWhen = "never"
)

// enabled reports whether to use colours; auto is the answer for colorAuto.
func (c colorWhen) enabled(auto bool) bool { return c == colorAlways || c == colorAuto && auto }

func colorChoice(c *colorWhen) flagvalue.Choice[colorWhen] {
	return flagvalue.OneOf(c, colorAuto, colorAlways, colorNever)
}

func colorFlag(flags *pflag.FlagSet, c *colorWhen) {
	flags.Var(colorChoice(c), "color",
		"color PATH by severity: always, never, or auto (on a terminal, unless NO_COLOR is set or TERM is dumb)")
}

// display says how endings are shown.
type display struct {
	output format
	color  colorWhen
	all    bool
	every  time.Duration // prints only the summary; 0: prints endings
	to     pipeline.OutputTo
	// sums: with JSON, a last object is the summary. It is nil if no flag says so.
	sums *bool

	recorded bool // endings of a recording, not of now
	language explain.Language
}

func newDisplay(l explain.Language) display {
	return display{output: formatTable, color: colorAuto, language: l}
}

func (d *display) register(g flagGroup) {
	g.flags.VarP(outputChoice(&d.output), "output", "o", outputUsage)
	colorFlag(g.flags, &d.color)
	languageFlag(g, &d.language, "of WHY and of the summary: ")
	d.allFlag(g, "in a table: also closes without an effect, and on a terminal each line of a burst")
	g.flags.Var(flagvalue.Duration{Time: &d.every}, "summary",
		"print only the summary, live every `TIME`, as in --summary=1m")
	g.flags.Lookup("summary").NoOptDefVal = "10s"
	g.flags.Var(flagvalue.File{Path: &d.to.File}, "output-file", "print the endings to `FILE`, which is replaced")
	g.flags.BoolFunc("json-summary", "with -o json: print the summary as a last object; default with --output-file "+
		"and --output-fd, for which false turns it off", func(text string) error {
		on, err := strconv.ParseBool(text)
		d.sums = &on
		return err
	})
	g.flags.IntVar(&d.to.FD, "output-fd", 0, "print the endings to descriptor `N`, for example 3 with 3>FILE")
}

func (d *display) allFlag(g flagGroup, usage string) { g.flags.BoolVar(&d.all, "all", false, usage) }

// summaryTo returns where the summary goes as JSON, nil for nowhere.
func (d *display) summaryTo(out io.Writer) io.Writer {
	if d.output != formatJSON || d.sums == nil && !d.to.Given() || d.sums != nil && !*d.sums {
		return nil
	}
	return out
}

// complete registers the shell completions of the flags.
func (d *display) complete(cmd *cobra.Command) {
	complete(cmd, "output", outputChoice(&d.output).Words())
	complete(cmd, "color", colorChoice(&d.color).Words())
	completeLanguage(cmd)
}

// isEnglish reports whether texts are in English, which ASCII can show.
func (d *display) isEnglish() bool { return d.language != explain.Chinese }

// speak sets the language of a summary.
func (d *display) speak(o *sink.SummaryOptions) {
	o.Say, o.ASCII = d.language.Say(), o.ASCII && d.isEnglish()
}

// apply sets how the summary looks. A table leaves out endings without an effect, unless they are asked for.
func (d *display) apply(o *sink.SummaryOptions, shown *filter.Endings) {
	o.Color = d.color.enabled(o.Color)
	d.speak(o)
	o.HidesNoEffect = d.output != formatJSON && !d.all && len(shown.Only)+len(shown.States) == 0
}
