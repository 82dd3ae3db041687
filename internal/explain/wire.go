package explain

import (
	"fmt"
	"strings"
)

// A line of a diagram is "here | segment | there". The segment is "FIN >" on
// its way to the peer, "< FIN" on its way here, "FIN >x" or "x< FIN" if it is
// lost, or nothing.
type step struct{ here, arrow, there string }

const arrowWidth = 26

func parseWire(text string) ([]step, error) {
	var steps []step
	for line := range strings.Lines(text) {
		field := strings.Split(line, "|")
		if len(field) != 3 || strings.Trim(line, " |\n") == "" {
			return nil, fmt.Errorf("wire: %q is not of the form here | segment | there", strings.TrimSpace(line))
		}
		arrow, err := drawArrow(strings.TrimSpace(field[1]))
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{strings.TrimSpace(field[0]), arrow, strings.TrimSpace(field[2])})
	}
	return steps, nil
}

func drawArrow(segment string) (string, error) {
	if segment == "" {
		return strings.Repeat(" ", arrowWidth), nil
	}
	var left, right, label string
	switch first, rest, _ := strings.Cut(segment, " "); {
	case first == "<" || first == "x<":
		left, label = first, rest
	default:
		i := strings.LastIndex(segment, " ")
		if i < 0 || segment[i+1:] != ">" && segment[i+1:] != ">x" {
			return "", fmt.Errorf("wire: %q goes nowhere", segment)
		}
		label, right = segment[:i], segment[i+1:]
	}
	label = " " + label + " "
	dashes := arrowWidth - cells(label) - len(left) - len(right)
	if dashes < 4 {
		return "", fmt.Errorf("wire: %q is too long", segment)
	}
	return left + strings.Repeat("-", dashes/2) + label + strings.Repeat("-", dashes-dashes/2) + right, nil
}

// diagram draws what goes over the wire.
func (p *Page) diagram(l Language) string {
	steps, err := parseWire(wireTerms[l].Replace(p.sections["wire"]))
	if err != nil {
		return "" // parsePage has refused it
	}
	width := cells(words[l]["this"])
	for _, s := range steps {
		width = max(width, cells(s.here))
	}
	var b strings.Builder
	row := func(s step) {
		text := s.here + strings.Repeat(" ", width-cells(s.here)) + "  " + s.arrow + "  " + s.there
		b.WriteString("    " + strings.TrimRight(text, " ") + "\n")
	}
	row(step{words[l]["this"], strings.Repeat(" ", arrowWidth), words[l]["other"]})
	for _, s := range steps {
		row(s)
	}
	return b.String()
}
