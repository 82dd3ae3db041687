package explain

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the commands of the topics print. The stack is for the live tests: it
// needs root and tracefs.
var prints = map[string]string{
	"close-vs-shutdown dup": `^after close: no EOF, the copy holds the connection\nafter shutdown: b'' is EOF\n$`,
	"linger abort":          `^\[Errno 104\] Connection reset by peer\n$`,
	"close-wait leak":       `(?s)^read: b''\n.*\n0 +0 +127\.0\.0\.1:`,
	"time-wait who":         `^with FIN:\n0 +0 +127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ *\nwith RST:\n$`,
	"half-close half":       `^server read b'request'\nclient read b'response'\n$`,
	"call-chain udp":        `^\[Errno 111\] Connection refused\n$`,
	"call-chain stack":      "",
}

// The reader can run the commands as they stand, and sees what the topic says.
func TestCommands(t *testing.T) {
	for _, tool := range []string{"python3", "ss"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the commands are for %s: %v", tool, err)
		}
	}
	_, topics, err := All()
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{}
	for _, p := range topics {
		for section, command := range p.sections {
			name, is := strings.CutPrefix(section, "run.")
			if !is {
				continue
			}
			name = p.Name + " " + name
			tried[name] = true
			want, known := prints[name]
			switch {
			case !known:
				t.Errorf("%s: what does it print?", name)
			case want != "":
				out, err := exec.Command("sh", "-c", command).CombinedOutput()
				if err != nil || !regexp.MustCompile(want).Match(out) {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			}
			for _, l := range Languages {
				if !slices.Contains(strings.Split(p.Text(Layout{Language: l}), "\n"), strings.SplitN(command, "\n", 2)[0]) {
					t.Errorf("%s does not stand in the text, ready to be copied, in %s", name, l)
				}
			}
		}
	}
	for name := range prints {
		if !tried[name] {
			t.Errorf("no topic has %s", name)
		}
	}
}
