package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/closetrace/closetrace/test/documents"
)

// notRun are the other commands of the documents, of which it is only checked
// that what they name is there, and why that has to do.
var notRun = map[string]string{
	"victoria-logs": "TestFleet of test/fleet runs it",
	"prometheus":    "TestFleet of test/fleet runs it with this configuration",
	"promtool":      "TestRules and TestConfigurations of test/fleet run it on these files",
	"amtool":        "TestConfigurations of test/fleet runs it on this file",
	"curl":          "TestFleet and TestKubernetes of test/fleet ask the same",
	"openssl":       "it makes a key: TestReadKey of internal/anonymize reads such a file",
	"make":          "its targets are what runs the tests",
	"go":            "the tests that it names run anyway, and its commands are those of make record",
	"docker":        "TestContainer of test/live runs with these capabilities, without an engine",
	"apt-get":       packaged,
	"rpm":           packaged,
	"systemctl":     packaged,
	"tar":           packaged,
	"(cd":           "TestTwiceTheSame of deploy/dist runs sha256sum in the directory of a release",
	"podman":        packaged,
	"ctr":           packaged,
	"helm":          "TestKubernetes of test/fleet runs it in a real cluster",
	"kubectl":       "TestKubernetes of test/fleet runs it in a real cluster",
	"setcap":        "TestFileCapabilities of test/live sets these capabilities",
}

const packaged = "make test-packages unpacks, checks, installs and starts the packages"

// What the commands of the documents name is there: targets of make, tests, files.
// Those of closetrace itself are run by cmd/closetrace and test/live.
func TestOtherCommands(t *testing.T) {
	docs, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range docs {
		commands, err := d.Commands()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commands {
			program := c.Program()
			if program == "closetrace" {
				continue
			}
			found[program] = true
			// SHA256SUMS has names without a directory.
			if strings.Contains(c.Text, "SHA256SUMS") && !strings.HasPrefix(c.Text, "(cd dist && sha256sum ") {
				t.Errorf("%s: it finds no file", c)
			}
			switch why := notRun[program]; {
			case why == "":
				t.Errorf("%s: no test runs it", c)
			case program == "make":
				checkTargets(t, c)
			case program == "go":
				checkGo(t, c)
			}
		}
	}
	for program := range notRun {
		if !found[program] {
			t.Errorf("no document has a command of %s", program)
		}
	}
}

func checkTargets(t *testing.T, c documents.Command) {
	t.Helper()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(c.Text) {
		if word != "make" && word != "sudo" && !strings.Contains(word, "=") &&
			!strings.Contains(string(makefile), "\n"+word+":") {
			t.Errorf("%s: make has no target %s", c, word)
		}
	}
}

// checkGo finds the packages that a go command names, and the tests of -run.
func checkGo(t *testing.T, c documents.Command) {
	t.Helper()
	words := strings.Fields(c.Text)
	var sources string
	for _, word := range words {
		if !strings.HasPrefix(word, "./") {
			continue
		}
		files, err := filepath.Glob(filepath.Join("..", strings.TrimSuffix(word, "/..."), "*"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: there is no %s", c, word)
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				sources += string(text)
			}
		}
	}
	for i, word := range words[:len(words)-1] {
		if word != "-run" {
			continue
		}
		if !regexp.MustCompile(`func ` + words[i+1] + `\w*\(t `).MatchString(sources) {
			t.Errorf("%s: there is no test %s", c, words[i+1])
		}
	}
}
