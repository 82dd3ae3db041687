package debian

import (
	"reflect"
	"testing"
)

func TestParseTargets(t *testing.T) {
	const text = `Elsewhere|Debian|https://vendor.example/apt/
Debian|Debian-Security|https://mirror.example/debian-security/
Debian|Debian|https://mirror.example/debian/
Debian|Debian|https://second.example/debian/
||https://unfetched.example/debian/
`
	want := Archives{Main: "https://mirror.example/debian/", Security: "https://mirror.example/debian-security/"}
	if got := parseTargets(text); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := parseTargets(""); got != (Archives{}) {
		t.Errorf("from nothing: %+v", got)
	}
}

func TestMirrorFromEnvironment(t *testing.T) {
	t.Setenv(MirrorEnv, "file:///srv/debian file:///srv/security")
	got, err := FindArchives(t.Context())
	if want := (Archives{Main: "file:///srv/debian", Security: "file:///srv/security"}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestSources(t *testing.T) {
	suites := []string{"bookworm", "bookworm-security"}
	signed := "deb [arch=arm64 signed-by=" + Keyring + " target=Packages] "
	list, leftOut := Sources(suites, "arm64", Archives{Main: "m:", Security: "s:"})
	if want := signed + "m: bookworm main\n" + signed + "s: bookworm-security main\n"; list != want || leftOut != nil {
		t.Errorf("got %q without %q, want %q", list, leftOut, want)
	}
	list, leftOut = Sources(suites, "arm64", Archives{Main: "m:"})
	if want := signed + "m: bookworm main\n"; list != want || !reflect.DeepEqual(leftOut, []string{"bookworm-security"}) {
		t.Errorf("got %q without %q, want %q", list, leftOut, want)
	}
}

func TestComplaint(t *testing.T) {
	if got := complaint("W: careful\nE: one\nnoise\nE: two\n"); got != ": one; two" {
		t.Errorf("errors: %q", got)
	}
	if got := complaint("W: careful\n"); got != ": careful" {
		t.Errorf("warnings: %q", got)
	}
}
