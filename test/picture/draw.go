package main

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

const (
	charWidth, lineHeight = 8.4, 19.0 // of a 14 px monospace font
	margin, titleBar      = 16.0, 34.0
)

// attribute is what an SGR parameter of ECMA-48 becomes in SVG.
var attribute = map[string]string{
	"1": ` font-weight="bold"`, "2": ` opacity="0.7"`,
	"31": ` fill="#ff7b72"`, "32": ` fill="#7ee787"`, "33": ` fill="#e3b341"`, "36": ` fill="#76e3ea"`,
}

// run is text with the same attributes.
type run struct{ text, attributes string }

// draw returns an SVG of a terminal that shows text, whose only escape sequences are SGR.
func draw(text string, columns int) []byte {
	var lines [][]run
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, wrap(parse(line), columns)...)
	}
	width := 2*margin + charWidth*float64(columns)
	height := titleBar + lineHeight*float64(len(lines)) + margin
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- drawn by go run ./test/picture -->\n"+
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%[1]v" height="%[2]v">`+"\n"+
		`<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>`+"\n", width, height)
	for i, colour := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="17" r="5.5" fill="%s"/>`+"\n", 20+18*i, colour)
	}
	b.WriteString(`<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" ` +
		`fill="#c9d1d9" xml:space="preserve">` + "\n")
	for i, line := range lines {
		column := 0
		for _, r := range line {
			n := len([]rune(r.text))
			// A text without a length is as wide as the reader's font makes it.
			if strings.TrimSpace(r.text) != "" {
				fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" textLength="%.1f"%s>%s</text>`+"\n", margin+charWidth*float64(column),
					titleBar+lineHeight*(float64(i)+0.8), charWidth*float64(n), r.attributes, html.EscapeString(r.text))
			}
			column += n
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return []byte(b.String())
}

var sgr = regexp.MustCompile("\x1b\\[([0-9;]*)m")

func parse(line string) (runs []run) {
	attributes, begin := "", 0
	for _, at := range sgr.FindAllStringSubmatchIndex(line, -1) {
		runs = append(runs, run{line[begin:at[0]], attributes})
		attributes, begin = "", at[1]
		for parameter := range strings.SplitSeq(line[at[2]:at[3]], ";") {
			attributes += attribute[parameter]
		}
	}
	return append(runs, run{line[begin:], attributes})
}

// wrap breaks a line as a terminal does, in the middle of words.
func wrap(line []run, columns int) [][]run {
	lines, left := [][]run{nil}, columns
	for _, r := range line {
		text := []rune(r.text)
		for len(text) > left {
			lines[len(lines)-1] = append(lines[len(lines)-1], run{string(text[:left]), r.attributes})
			lines, text, left = append(lines, nil), text[left:], columns
		}
		lines[len(lines)-1] = append(lines[len(lines)-1], run{string(text), r.attributes})
		left -= len(text)
	}
	return lines
}
