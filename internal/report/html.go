package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the template and the style
	"encoding/base64"
	"html/template"
	"io"

	"github.com/closetrace/closetrace/internal/ladder"
)

//go:embed page.html
var pageText string

//go:embed style.css
var style string

// policy returns the Content-Security-Policy of a page: it loads nothing, runs nothing and has no style but its own.
func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'"
}

// page is the template of a report.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"t": func(key string) string { return key }, "p": func(key string, _ ...any) string { return key },
	"c":      func(_, key string) string { return key },
	"ladder": func(*ladder.Model) template.HTML { return "" },
}).Parse(pageText))

// HTML writes the report as one page that needs no other file, no script and no network.
func (c *Collector) HTML(w io.Writer, o Options) error {
	v, err := c.view(o)
	if err != nil {
		return err
	}
	one, err := page.Clone()
	if err != nil {
		return err
	}
	one.Funcs(template.FuncMap{
		"t": v.word, "p": v.phrase, "c": v.counted,
		"ladder": func(m *ladder.Model) (template.HTML, error) {
			return m.Image(ladder.Layout{Say: v.Say}, v.word("ladder")).HTML()
		},
	})
	var b bytes.Buffer
	err = one.Execute(&b, struct {
		*view
		Policy string
		Style  template.CSS
	}{v, policy(), template.CSS(style)})
	if err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}
