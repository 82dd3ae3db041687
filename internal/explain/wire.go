package explain

import (
	"fmt"
	"strings"

	"github.com/closetrace/closetrace/internal/ladder"
	"github.com/closetrace/closetrace/internal/sink/table"
)

// maxLabel is the width in cells of the longest name of a segment that an arrow has space for.
const maxLabel = 18

// parseWire parses the section wire of a page. A line is a step, "here | segment | there". The segment is "FIN >" if
// this side sends it, "< FIN" if the peer does, "FIN >x" or "x< FIN" if it is lost, or empty.
func parseWire(text string) ([]ladder.Step, error) {
	var steps []ladder.Step
	for line := range strings.Lines(text) {
		field := strings.Split(line, "|")
		if len(field) != 3 || strings.Trim(line, " |\n") == "" {
			return nil, fmt.Errorf("wire: %q is not of the form here | segment | there", strings.TrimSpace(line))
		}
		var step ladder.Step
		step.Acts[ladder.Left].What = strings.TrimSpace(field[0])
		step.Acts[ladder.Right].What = strings.TrimSpace(field[2])
		if segment := strings.TrimSpace(field[1]); segment != "" {
			parsed, err := parseSegment(segment)
			if err != nil {
				return nil, err
			}
			step.Segments = []ladder.Segment{parsed}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func parseSegment(text string) (s ladder.Segment, err error) {
	first, rest, _ := strings.Cut(text, " ")
	at := strings.LastIndex(text, " ")
	switch {
	case first == "<" || first == "x<":
		s = ladder.Segment{From: ladder.Right, Label: rest, Lost: first == "x<"}
	case at >= 0 && (text[at+1:] == ">" || text[at+1:] == ">x"):
		s = ladder.Segment{From: ladder.Left, Label: text[:at], Lost: text[at+1:] == ">x"}
	default:
		return s, fmt.Errorf("wire: %q has no direction", text)
	}
	if table.Width(s.Label) > maxLabel {
		return s, fmt.Errorf("wire: %q is too long", text)
	}
	return s, nil
}

// diagram draws the segments between this side and the peer.
func (p *Page) diagram(l Language) string {
	steps, err := parseWire(wireTerms[l].Replace(p.sections["wire"]))
	if err != nil {
		return "" // cannot happen: parsePage rejects it
	}
	model := ladder.Model{Steps: steps}
	model.Ends[ladder.Left].Name, model.Ends[ladder.Right].Name = words[l]["this"], words[l]["other"]
	return model.Text(ladder.Layout{Indent: len("    ")})
}
