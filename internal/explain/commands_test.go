package explain

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// output is what the experiments of the topics print. The stack is for the live tests, because it needs root.
var output = map[string]string{
	"close-vs-shutdown dup": `^after close: no EOF, the copy holds the connection\nafter shutdown: b'' is EOF\n$`,
	"linger abort":          `^\[Errno 104\] Connection reset by peer\n$`,
	"close-wait leak":       `(?s)^read: b''\n.*\n0 +0 +127\.0\.0\.1:`,
	"time-wait who":         `^with FIN:\n0 +0 +127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+ *\nwith RST:\n$`,
	"half-close eof":        `^client read b'' is EOF\nserver had not read 7000\n$`,
	"half-close half":       `^server read b'request'\nclient read b'response'\n$`,
	"call-chain udp":        `^\[Errno 111\] Connection refused\n$`,
	"call-chain stack":      "",
}

// A reader can run the experiments as they are printed, and sees what the topic says.
func TestCommands(t *testing.T) {
	for _, tool := range []string{"python3", "ss"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the experiments need %s: %v", tool, err)
		}
	}
	_, topics, err := All()
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	for _, p := range topics {
		for _, name := range p.Commands() {
			command := p.Command(name)
			name = p.Name + " " + name
			ran[name] = true
			want, known := output[name]
			switch {
			case !known:
				t.Errorf("%s has no expected output", name)
			case want != "":
				out, err := exec.Command("sh", "-c", command).CombinedOutput()
				if err != nil || !regexp.MustCompile(want).Match(out) {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			}
			for _, l := range Languages {
				if !strings.Contains(p.Text(Layout{Language: l}), "\n"+command+"\n") {
					t.Errorf("%s is not in the text in %s as it is run", name, l)
				}
			}
		}
	}
	for name := range output {
		if !ran[name] {
			t.Errorf("no topic has %s", name)
		}
	}
}
