package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/flagvalue"
	"github.com/closetrace/closetrace/internal/hint"
)

// values are the flags of a command.
type values struct {
	listen string
	last   int
	every  time.Duration
	ports  []uint16
	names  bool
	config string
}

func newSettings(v *values) *Settings {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.StringVar(&v.listen, "listen", "127.0.0.1:9740", "answer at `HOST:PORT`")
	flags.IntVar(&v.last, "last", 100, "keep `N` endings")
	flags.Var(flagvalue.Duration{Time: &v.every}, "stuck-every", "count every `TIME`")
	flags.Var(flagvalue.Ports(&v.ports), "lport", "local ports")
	flags.BoolVar(&v.names, "container-names", false, "names")
	flags.StringVar(&v.config, "config", "", "the file")
	return New(flags)
}

// readText reads a configuration.
func readText(t *testing.T, s *Settings, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, err := range s.ReadFile(path, "config") {
		if !hint.Is(err, hint.Usage) || hint.Of(err) == "" {
			t.Errorf("%v is no usage error with a hint", err)
		}
		all = append(all, strings.ReplaceAll(err.Error(), filepath.Dir(path)+"/", ""))
	}
	return all
}

func TestRead(t *testing.T) {
	var v values
	s := newSettings(&v)
	if mistakes := readText(t, s, `# a comment
listen: "[::1]:9740"
last: 0
stuck-every: 1m
lport: [443, 8000-8001]
container-names: true
`); mistakes != nil {
		t.Fatal(mistakes)
	}
	if v.listen != "[::1]:9740" || v.last != 0 || v.every != time.Minute || !v.names ||
		!slices.Equal(v.ports, []uint16{443, 8000, 8001}) {
		t.Errorf("%+v", v)
	}
	for _, empty := range []string{"", "# nothing\n", "---\n", "{}\n"} {
		if mistakes := readText(t, newSettings(&values{}), empty); mistakes != nil {
			t.Errorf("%q: %q", empty, mistakes)
		}
	}
}

// A flag on the command line wins, and what it is set to twice is not mixed.
func TestCommandLineWins(t *testing.T) {
	var v values
	s := newSettings(&v)
	if err := s.flags.Parse([]string{"--lport=22", "--last", "7"}); err != nil {
		t.Fatal(err)
	}
	s.Given()
	if mistakes := readText(t, s, "lport: 443\nlast: 9\nlisten: :1\n"); mistakes != nil {
		t.Fatal(mistakes)
	}
	if v.last != 7 || !slices.Equal(v.ports, []uint16{22}) || v.listen != ":1" {
		t.Errorf("%+v", v)
	}
}

// Every mistake is reported, with its line.
func TestMistakes(t *testing.T) {
	got := readText(t, newSettings(&values{}), `listen: x:1
listn: x
last: many

stuck-every: 5
listen: y:1
lport: [443, {}]
container-names: perhaps
config: other.yaml
last: [1, 2]
container-names:
? [a]
: b
`)
	want := []string{
		`c.yaml:2: unknown key "listn"`,
		`c.yaml:3: invalid value "many" for last`,
		`c.yaml:5: stuck-every: "5" has no unit`,
		`c.yaml:6: listen is on line 1 as well`,
		`c.yaml:7: lport: an item of the list is not a word`,
		`c.yaml:8: invalid value "perhaps" for container-names`,
		`c.yaml:9: config is only for the command line`,
		`c.yaml:10: last is on line 3 as well`,
		`c.yaml:11: container-names is on line 8 as well`,
		`c.yaml:12: the key is not a word`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// The hint on a wrong value says which ones there are.
func TestHintOfValue(t *testing.T) {
	for name, want := range map[string]string{"last": "last: N: keep N endings", "container-names": "use true or false"} {
		s := newSettings(&values{})
		if err := s.try(s.flags.Lookup(name), "yes", false); hint.Of(err) != want {
			t.Errorf("%s: hint %q, want %q", name, hint.Of(err), want)
		}
	}
}

func TestHostileText(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" + "c: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
	for text, want := range map[string]string{
		"last:\n":                               "c.yaml:1: last: it has no value",
		"last: [1, 2]\n":                        "c.yaml:1: last: it takes one value, not a list",
		"last: {n: 1}\n":                        "c.yaml:1: last: the value is neither a word nor a list of words",
		"last: *one\n":                          "",
		"lport: &p [*p]\n":                      "",
		"- last\n":                              "c.yaml: line 1 is not KEY: VALUE",
		"last\n":                                "c.yaml: line 1 is not KEY: VALUE",
		"last: 1\n---\nlast: 2\n":               "c.yaml: it has more than one document",
		"last: \"1\n":                           "",
		"last:\t1\n\tx: 2\n":                    "",
		"\x00\x01":                              "",
		"last: !!binary aGk=\n":                 `c.yaml:1: invalid value "aGk=" for last`,
		bomb:                                    `c.yaml:1: unknown key "a"`,
		"last: " + strings.Repeat("9", 70<<10):  "c.yaml has more than 64 KB",
		"lport: " + strings.Repeat("[", 20<<10): "",
		"<<: {last: 1}\n":                       `c.yaml:1: unknown key "<<"`,
	} {
		got := readText(t, newSettings(&values{}), text)
		if len(got) == 0 || want != "" && got[0] != want {
			t.Errorf("%.40q: %.200q, want %q", text, got, want)
		}
	}
}

// A file that is none does not block, and one that any user may change is refused.
func TestHostileFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(syscall.Mkfifo(at("fifo"), 0o644))
	must(os.Symlink("fifo", at("link")))
	must(os.Symlink("loop", at("loop")))
	must(os.WriteFile(at("any"), []byte("last: 1\n"), 0o644))
	must(os.Chmod(at("any"), 0o666))
	for name, want := range map[string]string{
		"fifo": "not a regular file", "link": "not a regular file", ".": "not a regular file",
		"loop": "too many levels of symbolic links", "absent": "no such file or directory",
		"any": "every user may write to",
	} {
		got := newSettings(&values{}).ReadFile(at(name))
		if len(got) != 1 || !strings.Contains(got[0].Error(), want) || hint.Of(got[0]) == "" {
			t.Errorf("%s: %v", name, got)
		}
	}
	for _, path := range []string{"/dev/zero", "/proc/kmsg"} {
		if got := newSettings(&values{}).ReadFile(path); len(got) != 1 {
			t.Errorf("%s: %v", path, got)
		}
	}
	// A ConfigMap is a link to a link.
	must(os.Mkdir(at("..data"), 0o755))
	must(os.WriteFile(at("..data/c.yaml"), []byte("last: 3\n"), 0o644))
	must(os.Symlink("..data/c.yaml", at("c.yaml")))
	var v values
	if got := newSettings(&v).ReadFile(at("c.yaml")); got != nil || v.last != 3 {
		t.Errorf("%v, last %d", got, v.last)
	}
	if unix.Getuid() == 0 {
		return // root may read every file
	}
	must(os.WriteFile(at("secret"), nil, 0o000))
	if got := newSettings(&values{}).ReadFile(at("secret")); len(got) != 1 {
		t.Errorf("secret: %v", got)
	}
}

// A reload finds what differs, and keeps the command line.
func TestRepeatAndChanged(t *testing.T) {
	var first, second values
	s := newSettings(&first)
	if err := s.flags.Parse([]string{"--lport=22,23", "--last=7"}); err != nil {
		t.Fatal(err)
	}
	s.Given()
	readText(t, s, "listen: :1\nstuck-every: 1m\nlast: 5\n")
	next := newSettings(&second)
	if err := next.Repeat(s); err != nil {
		t.Fatal(err)
	}
	readText(t, next, "listen: :2\nstuck-every: 1m\nlast: 6\ncontainer-names: true\n")
	if got := next.Changed(s); !slices.Equal(got, []string{"container-names", "listen"}) {
		t.Errorf("%q", got)
	}
	if second.last != 7 || !slices.Equal(second.ports, []uint16{22, 23}) {
		t.Errorf("%+v", second)
	}
}

// Whatever a file has, reading it ends, with a value or a mistake.
func FuzzRead(f *testing.F) {
	f.Add([]byte("last: 1\nlport: [1, 2]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		newSettings(&values{}).read("c.yaml", text, nil)
	})
}

// A mistake in how keys go together is on the line of the first key that the file has. It is none if one of the keys
// has a mistake of its own.
func TestAt(t *testing.T) {
	s := newSettings(&values{})
	if err := s.flags.Parse([]string{"--last=7"}); err != nil {
		t.Fatal(err)
	}
	s.Given()
	readText(t, s, "last: 5\nlisten: :1\nlport: 443\nlisten: :2\nstuck-every: 5\n")
	mistake := hint.New(hint.Usage, "they do not go together", "leave out one")
	for _, tt := range []struct {
		names []string
		want  string
	}{
		{[]string{"lport"}, "c.yaml:3: they do not go together"},
		{[]string{"last", "lport"}, "c.yaml:3: they do not go together"}, // last is on the command line
		{[]string{"last"}, "they do not go together"},
		{[]string{"container-names"}, "they do not go together"},
		{[]string{"lport", "listen"}, ""},
		{[]string{"stuck-every"}, ""},
	} {
		switch err := s.At(mistake, tt.names...); {
		case err == nil && tt.want != "":
			t.Errorf("%v: no mistake", tt.names)
		case err != nil && (tt.want == "" || !strings.HasSuffix(err.Error(), tt.want) || hint.Of(err) != "leave out one"):
			t.Errorf("%v: %v, want %q", tt.names, err, tt.want)
		}
	}
	if err := s.At(nil, "lport"); err != nil {
		t.Errorf("no mistake: %v", err)
	}
}
