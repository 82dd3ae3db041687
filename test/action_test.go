package test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The script of the GitHub Action passes its inputs on, annotates the endings, adds them to the job's summary, and
// exits as closetrace run does. The name of a process ends no command of the workflow and no cell of the table.
func TestActionScript(t *testing.T) {
	needs(t, "jq", "bash")
	const hostile = "x\n::set-output name=a::b\r%25<script>|`"
	ending := map[string]any{
		"path": "close.rst.unread", "cause": "6 B unread in the receive queue", "local": "127.0.0.1:80",
		"remote": "127.0.0.1:4711", "actor": map[string]any{"pid": 7, "comm": hostile},
	}
	kernels := map[string]any{"path": "recv.rst", "cause": "RST received", "local": "[::1]:1", "remote": "[::1]:2"}
	got := runAction(t, 124, ending, ending, kernels)

	if got.code != 124 {
		t.Errorf("exit code %d, want that of closetrace, 124", got.code)
	}
	const args = "run --fail-on rst --only errors -o json --output-file ENDINGS -- bash -e -o pipefail -c make check"
	if got.args != args {
		t.Errorf("closetrace %s\nwant       %s", got.args, args)
	}
	const annotation = "::error title=close.rst.unread::127.0.0.1:80 → 127.0.0.1:4711 by " +
		"x%0A::set-output name=a::b%0D%2525<script>|`[7]: 6 B unread in the receive queue"
	const received = "::error title=recv.rst::[::1]:1 → [::1]:2: RST received"
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	if len(lines) != 3 || lines[0] != annotation || lines[2] != received {
		t.Errorf("annotations:\n%s\nwant, twice\n%s\nand\n%s", got.stdout, annotation, received)
	}
	for _, want := range []string{
		"### closetrace: 3 endings match\n",
		"<tr><td>2</td><td>close.rst.unread</td><td>x ::set-output name=a::b %25&lt;script&gt;|`[7]</td>",
		"<tr><td>1</td><td>recv.rst</td><td>kernel</td><td>RST received</td><td>[::1]:1</td><td>[::1]:2</td></tr>",
	} {
		if !strings.Contains(got.summary, want) {
			t.Errorf("the summary has no %q:\n%s", want, got.summary)
		}
	}
	if got.outputs != "endings=3\n" {
		t.Errorf("outputs %q", got.outputs)
	}
}

// Without an ending the summary says so. With more than GitHub shows, the script prints as many as it shows.
func TestActionScriptLimits(t *testing.T) {
	needs(t, "jq", "bash")
	quiet := runAction(t, 0)
	if quiet.code != 0 || quiet.stdout != "" || !strings.Contains(quiet.summary, "No connection of the command") ||
		quiet.outputs != "endings=0\n" {
		t.Errorf("without an ending: %+v", quiet)
	}
	if !strings.HasPrefix(quiet.summary, "### closetrace: 0 endings match\n") {
		t.Errorf("the summary without an ending:\n%s", quiet.summary)
	}
	one := runAction(t, 0, map[string]any{"path": "recv.rst", "cause": "RST received"})
	if one.outputs != "endings=1\n" || !strings.HasPrefix(one.summary, "### closetrace: 1 ending matches\n") {
		t.Errorf("with one ending: outputs %q, summary:\n%s", one.outputs, one.summary)
	}
	var many []map[string]any
	for port := range 300 {
		many = append(many, map[string]any{"path": "recv.rst", "cause": "RST received", "local": port,
			"actor": map[string]any{"pid": port, "comm": "x"}})
	}
	loud := runAction(t, 1, many...)
	if n := strings.Count(loud.stdout, "::error "); n != 10 {
		t.Errorf("%d annotations, want 10", n)
	}
	n := strings.Count(loud.summary, "<td>recv.rst</td>")
	if n != 100 || !strings.Contains(loud.summary, "\n200 more rows") {
		t.Errorf("%d rows, want 100 and 200 more:\n%s", n, loud.summary)
	}
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
}

// action is what a run of the script left.
type action struct {
	code                           int
	args, stdout, summary, outputs string
}

// runAction runs the script with a closetrace that writes endings and, as run does with --output-file, a summary, and
// exits with a code.
func runAction(t *testing.T, code int, endings ...map[string]any) action {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var written strings.Builder
	summary := map[string]any{"schema_version": 1, "kind": "summary", "endings": len(endings)}
	for _, e := range append(endings[:len(endings):len(endings)], summary) {
		if err := json.NewEncoder(&written).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	// sudo, which the script uses unless it is root, runs the command.
	for name, text := range map[string]string{
		"endings": written.String(), "outputs": "", "summary": "",
		"sudo":       "#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do [ \"$1\" != -u ] || shift; shift; done\nexec \"$@\"\n",
		"closetrace": "#!/bin/sh\necho \"$*\" >\"$ARGS\"\ncp \"$WRITTEN\" \"$ENDINGS\"\nexit $CODE\n",
	} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("../deploy/action/run.sh")
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "CLOSETRACE="+at("closetrace"),
		"COMMAND=make check", "FAIL_ON=rst", "ONLY=errors", "ENDINGS="+at("written"), "ARGS="+at("args"),
		"WRITTEN="+at("endings"), "CODE="+strconv.Itoa(code),
		"GITHUB_OUTPUT="+at("outputs"), "GITHUB_STEP_SUMMARY="+at("summary"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if stderr.Len() > 0 {
		t.Errorf("standard error: %s", &stderr)
	}
	args := strings.ReplaceAll(strings.TrimSpace(readFile(t, at("args"))), at("written"), "ENDINGS")
	if i := strings.Index(args, "-- "); i >= 0 { // without root, sudo stands before bash
		args = args[:i+3] + args[strings.Index(args, "bash "):]
	}
	return action{cmd.ProcessState.ExitCode(), args, string(out), readFile(t, at("summary")), readFile(t, at("outputs"))}
}
