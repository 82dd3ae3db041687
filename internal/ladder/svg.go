package ladder

import (
	"html/template"
	"strings"
)

// The measures of an image, in its units, at a font of 12 units whose characters are 0.6 as wide.
const (
	imageWidth  = 400
	imageLine   = 16 // the height of a line of text
	imageMargin = 8  // from the edge to the line of an end
	imageGap    = 8  // between steps
	imageText   = imageMargin + 10
	imageCells  = (imageWidth - 2*imageText) * 10 / 72 // the characters that fit between the lines of the ends
	timeCells   = 13
)

// Image is a ladder as SVG. Colours and fonts are those of the page, by class: name, act, detail, got, time, note for
// texts; line, dot and inferred for the ends; fin, rst, data and lost for segments.
type Image struct {
	Label         string // what it shows, for those who do not see it
	Width, Height int
	Top           int // where the lines of the ends begin
	Ends          [2]int
	Texts         []imageLabel
	Dots          []imageDot
	Arrows        []imageArrow
}

type imageLabel struct {
	X, Y               int
	Class, Anchor, Say string
}

type imageDot struct {
	X, Y  int
	Class string
}

// imageArrow is a segment: a line, and the points of its head.
type imageArrow struct {
	From, To, Y, Shaft int
	Class              string
}

// Image draws the ladder for a page: the ends are lines, time runs downwards, and what an end does stands between them
// at its own side.
func (m *Model) Image(o Layout, label string) *Image {
	g := &Image{Label: label, Width: imageWidth, Ends: [2]int{imageMargin, imageWidth - imageMargin}}
	d := m.drawing(o)
	y := 0
	for side, lines := range d.rows[0].acts {
		at := 0
		for _, line := range lines {
			for _, part := range wrap(line, imageCells/2) {
				at += imageLine
				g.text(Side(side), at, 0, "name", part)
			}
		}
		y = max(y, at)
	}
	g.Top = y + imageGap
	y = g.Top
	for i := range m.Steps {
		y = g.step(&m.Steps[i], &d.rows[i+1], y+imageGap)
	}
	g.Height = y + imageGap
	return g
}

// step draws a step below y, and returns where it ends.
func (g *Image) step(s *Step, r *row, y int) int {
	acting := Left
	if len(r.acts[Left]) == 0 {
		acting = Right
	}
	both := len(r.acts[Left]) > 0 && len(r.acts[Right]) > 0
	if both && r.time != "" {
		y += imageLine
		g.Texts = append(g.Texts, imageLabel{imageWidth / 2, y, "time", "middle", r.time})
	}
	var sent []Segment // by the end that acts, and so after its act
	for _, segment := range r.segments {
		if segment.From == acting {
			sent = append(sent, segment)
		} else {
			y = g.arrow(segment, y)
		}
	}
	if !both && r.time != "" && len(r.acts[acting]) > 0 {
		g.text(acting.Other(), y+imageLine, imageText, "time", r.time)
	}
	end := y
	for side := range r.acts {
		end = max(end, g.act(Side(side), &s.Acts[side], r.acts[side], y))
	}
	y = end
	for _, segment := range sent {
		y = g.arrow(segment, y)
	}
	return y
}

// act writes the lines of an act, and marks its moment on the line of its end.
func (g *Image) act(side Side, a *Act, lines []string, y int) int {
	for i, line := range lines {
		class := "detail"
		switch {
		case i == 0:
			class = "act"
			dot := "dot"
			if a.Inferred {
				dot = "dot inferred"
			}
			g.Dots = append(g.Dots, imageDot{g.Ends[side], y + imageLine - 4, dot})
		case i == len(lines)-1 && a.Got != "":
			class = "got"
		}
		for _, part := range wrap(line, imageCells-timeCells) {
			y += imageLine
			g.text(side, y, imageText, class, part)
		}
	}
	return y
}

// text writes a line at the side of an end.
func (g *Image) text(side Side, y, margin int, class, text string) {
	if side == Right {
		g.Texts = append(g.Texts, imageLabel{imageWidth - margin, y, class, "end", text})
		return
	}
	g.Texts = append(g.Texts, imageLabel{margin, y, class, "start", text})
}

// arrow draws a segment below y, and returns where it ends.
func (g *Image) arrow(s Segment, y int) int {
	class := "data"
	switch s.Label {
	case "FIN":
		class = "fin"
	case "RST":
		class = "rst"
	}
	from, to, back := g.Ends[s.From]+2, g.Ends[s.From.Other()]-2, -7
	if s.From == Right {
		from, to, back = from-4, to+4, 7
	}
	if s.Lost {
		class, to = class+" lost", from+(to-from)*3/4
	}
	y += imageLine
	label := prefix(s.Label, imageCells)
	if s.Lost {
		label += " ✕"
	}
	g.Texts = append(g.Texts, imageLabel{imageWidth / 2, y, class, "middle", label})
	y += 6
	g.Arrows = append(g.Arrows, imageArrow{from, to, y, to + back, class})
	return y + 4
}

// HTML returns the image as an element of a page.
func (g *Image) HTML() (template.HTML, error) {
	var b strings.Builder
	err := image.Execute(&b, g)
	return template.HTML(b.String()), err // of a template that escapes
}

var image = template.Must(template.New("ladder").Funcs(template.FuncMap{
	"above": func(y int) int { return y - 4 }, "below": func(y int) int { return y + 4 },
}).Parse(`<svg class="ladder" role="img" aria-label="{{.Label}}" viewBox="0 0 {{.Width}} {{.Height}}">
{{- range .Ends}}
<line class="line" x1="{{.}}" y1="{{$.Top}}" x2="{{.}}" y2="{{$.Height}}"/>{{end}}
{{- range .Arrows}}
<line class="{{.Class}}" x1="{{.From}}" y1="{{.Y}}" x2="{{.Shaft}}" y2="{{.Y}}"/>
<polygon class="{{.Class}}" points="{{.To}},{{.Y}} {{.Shaft}},{{above .Y}} {{.Shaft}},{{below .Y}}"/>{{end}}
{{- range .Dots}}
<circle class="{{.Class}}" cx="{{.X}}" cy="{{.Y}}" r="4"/>{{end}}
{{- range .Texts}}
<text class="{{.Class}}" x="{{.X}}" y="{{.Y}}" text-anchor="{{.Anchor}}">{{.Say}}</text>{{end}}
</svg>`))
