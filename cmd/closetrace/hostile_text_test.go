//go:build linux

package main

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/message"
	"github.com/closetrace/closetrace/internal/netns"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		0: nil,
		1: errors.New("broken"),
		2: hint.New(hint.Usage, "no", "yes"),
		3: &hint.Error{Kind: hint.Privilege},
		4: &hint.Error{Kind: hint.Unsupported},
	} {
		if got := finish(&bytes.Buffer{}, err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
}

// Control characters in arguments and messages do not reach the terminal.
func TestNothingReachesTheTerminalRaw(t *testing.T) {
	const evil = "\x1b]0;x\x07\r\xff\u202e\x9b"
	for _, args := range [][]string{
		{"--" + evil}, {"-" + evil}, {evil}, {"--netns", evil}, {"--netns", "/" + evil}, {"-P", evil},
		{"-p", evil}, {"--duration", evil}, {"-o", evil}, {"lab", evil}, {"--verbose=" + evil},
	} {
		var stderr strings.Builder
		s := fakeSystem(0)
		s.args = args
		s.redirect(io.Discard, &stderr)
		s.tracer.targets.spaces.Inode = netns.Inode
		if code := run(t.Context(), s); code != 2 {
			t.Errorf("%q: exit code %d", args, code)
		}
		checkStderr(t, stderr.String(), true)
	}
	var stderr strings.Builder
	message.NewLogger(&stderr, true).With("from", evil).Warn(evil, "words", []string{evil}, "err", errors.New(evil))
	checkStderr(t, stderr.String(), false)
}

// Control characters in a recording do not reach the terminal.
func TestEvilRecording(t *testing.T) {
	const evil = `\u001b]0;x\u0007\r\n\u202e`
	path := filepath.Join(t.TempDir(), "\x1b[31m.rec")
	text := strings.ReplaceAll(`{"schema_version":1,"kernel":"EVIL","attach":"EVIL","hooks":["EVIL"],"missing":["EVIL"],`+
		`"hz":250,"wall_offset_ns":0}
{"kind":"close","mono_ns":1,"flags":"rst task-context file-closing under-lock","sock":1,"unread":5,`+
		`"task":{"pid":1,"comm":"EVIL"},"owner":{"pid":2,"comm":"EVIL"},"syscall":"EVIL","kernel_reason":"EVIL",`+
		`"stack":["EVIL"],"before":"ESTABLISHED","after":"CLOSE"}
{"kind":"end","took_ns":1,"audit":{"moved":{"TcpOutRsts":5,"EVIL":1}}}
`, "EVIL", evil)
	for name, change := range map[string]string{
		"whole": "", "no audit": `"audit":{"impossible":"` + evil + `",`, "damaged": `"kind":"` + evil + `",`,
	} {
		old := map[string]string{"no audit": `"audit":{`, "damaged": `"kind":"end",`}[name]
		if err := os.WriteFile(path, []byte(strings.Replace(text, old, cmp.Or(change, old), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{"table", "wide", "json"} {
			var out, stderr strings.Builder
			s := fakeSystem(0)
			s.args = []string{"replay", "-o", format, path}
			s.redirect(&out, &stderr)
			run(t.Context(), s)
			if !strings.Contains(out.String(), "5 ") || !strings.Contains(stderr.String(), "replay of") ||
				!strings.Contains(stderr.String(), "\naudit") {
				t.Errorf("%s, stderr:\n%s", name, &stderr)
			}
			for _, r := range out.String() + stderr.String() {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Fatalf("%s, -o %s: %U reaches the terminal:\n%q\n%q", name, format, r, &out, &stderr)
				}
			}
		}
	}
}
