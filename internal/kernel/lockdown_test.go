package kernel

import "testing"

func TestChosenOf(t *testing.T) {
	for text, want := range map[string]string{
		"[none] integrity confidentiality\n": "none",
		"none [integrity] confidentiality\n": "integrity",
		"none integrity [confidentiality]\n": "confidentiality",
		"":                                   "unknown", "none\n": "unknown", "[\n": "unknown", "[]": "unknown",
	} {
		if got := chosenOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
