package main

import "github.com/spf13/pflag"

// colorWhen is when a table is in colours.
type colorWhen string

const (
	colorAuto   colorWhen = "auto"
	colorAlways colorWhen = "always"
	colorNever  colorWhen = "never"
)

// means tells whether to use colours, where auto stands for the given answer.
func (c colorWhen) means(auto bool) bool { return c == colorAlways || c == colorAuto && auto }

func colorChoice(c *colorWhen) choice[colorWhen] {
	return choice[colorWhen]{c, []colorWhen{colorAuto, colorAlways, colorNever}}
}

func colorFlag(flags *pflag.FlagSet, c *colorWhen) {
	flags.Var(colorChoice(c), "color", "PATH in red or yellow, by severity: always, never, or auto: on a terminal, unless NO_COLOR is set or TERM is dumb")
}
