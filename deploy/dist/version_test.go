package main

import (
	"os/exec"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]struct{ name, tilde, alpine string }{
		"v1.2.3":       {"1.2.3", "1.2.3", "1.2.3"},
		"v1.2.3-rc.1":  {"1.2.3-rc.1", "1.2.3~rc.1", "1.2.3_rc1"},
		"v1.2.3+dirty": {"1.2.3", "1.2.3", "1.2.3"},
		"v0.0.0-20261129111600-c386066abcde": {
			"0.0.0-20261129111600-c386066abcde", "0.0.0~20261129111600.c386066abcde", "0.0.0_alpha20261129111600",
		},
		"v1.2.4-0.20261129111600-c386066abcde": {
			"1.2.4-0.20261129111600-c386066abcde", "1.2.4~0.20261129111600.c386066abcde", "1.2.4_alpha20261129111600",
		},
	} {
		v, err := parseVersion(text)
		if err != nil || v.String() != want.name || v.tilde() != want.tilde || v.alpine() != want.alpine {
			t.Errorf("%s: %s, %s, %s, %v, want %v", text, v, v.tilde(), v.alpine(), err, want)
		}
	}
	for _, text := range []string{"(devel)", "", "1.2.3", "v1.2.3-nightly"} {
		if v, err := parseVersion(text); err == nil {
			t.Errorf("%q: %v", text, v)
		}
	}
}

// dpkg sorts a later commit after an earlier one, and a release after what came before it.
func TestVersionsAreSorted(t *testing.T) {
	sorted := []string{
		"v1.2.2", "v1.2.3-0.20261129111600-c386066abcde", "v1.2.3-0.20261129111601-000000000000", "v1.2.3-rc.1",
		"v1.2.3-rc.2", "v1.2.3", "v1.2.4-0.20261129111602-c386066abcde",
	}
	for i := range sorted[1:] {
		before, err := parseVersion(sorted[i])
		if err != nil {
			t.Fatal(err)
		}
		after, err := parseVersion(sorted[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if err := exec.Command("dpkg", "--compare-versions", before.tilde(), "lt", after.tilde()).Run(); err != nil {
			t.Errorf("dpkg sorts %s after %s", before.tilde(), after.tilde())
		}
	}
}
