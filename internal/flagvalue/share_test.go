package flagvalue

import "testing"

func TestShare(t *testing.T) {
	for text, want := range map[string]float64{"0": 0, "5%": 0.05, "0.25": 0.25, "100%": 1, "1": 1} {
		got := -1.0
		if err := (Share{&got}).Set(text); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "-1", "101%", "2", "NaN", "Inf", "x", "5 %", "5%%"} {
		got := 7.0
		if err := (Share{&got}).Set(text); err == nil || got != 7 {
			t.Errorf("%q is accepted as %v", text, got)
		}
	}
}
