package screen

import (
	"strings"

	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
)

// page is a text that covers the screen.
type page struct {
	text  []string // by line; nil: closed
	first int      // the line at the top of the screen
}

func (p *page) isOpen() bool { return p.text != nil }

func (p *page) open(text string) {
	*p = page{text: strings.Split(strings.TrimSuffix(text, "\n"), "\n")}
}

// press handles a key while the page is open on a screen of this height.
func (p *page) press(k tea.KeyPressMsg, keys *keys, height int) {
	last := max(len(p.text)-height, 0)
	switch {
	case key.Matches(k, keys.back), key.Matches(k, keys.explain):
		*p = page{}
		return
	case key.Matches(k, keys.up):
		p.first--
	case key.Matches(k, keys.down):
		p.first++
	case key.Matches(k, keys.pageUp):
		p.first -= height
	case key.Matches(k, keys.pageDown), key.Matches(k, keys.pause):
		p.first += height
	case key.Matches(k, keys.first):
		p.first = 0
	case key.Matches(k, keys.last):
		p.first = last
	}
	p.first = min(max(p.first, 0), last)
}

// lines returns what is on a screen of this height.
func (p *page) lines(height int) []string {
	first := min(p.first, len(p.text))
	return p.text[first:min(first+max(height, 0), len(p.text))]
}
