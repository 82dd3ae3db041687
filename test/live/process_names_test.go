//go:build linux

package live

import (
	"bytes"
	"encoding/hex"
	"io"
	"regexp"
	"strings"
	"testing"
)

// A process may have any name; only printable characters of it reach the
// terminal.
func TestNamesAreEscaped(t *testing.T) { attempts(t, namesAreEscaped) }

func namesAreEscaped(t testing.TB) {
	names := map[string]string{ // and how the tables show them
		"\x1b[2J\x1b]0;x\x07":  `\x1b[2J\x1b]0;x\x07`,
		"a\nb\rc\t\b":          `a\x0ab\x0dc\x09\x08`,
		"\xff\xfe\xc3":         `\xff\xfe\xc3`,
		"\u202ecod.exe":        `\u202ecod.exe`,
		"\xc2\x9b31m":          `\u009b31m`, // CSI in one character
		`\x1b[`:                `\\x1b[`,
		strings.Repeat("é", 8): strings.Repeat("é", 7) + `\xc3`, // cut by the kernel
	}
	inNetns(t, func(uint32) {
		formats := map[string]*session{}
		for _, format := range []string{"table", "wide", "json"} {
			formats[format] = launch(t, "-o", format, "-v")
		}
		for name := range names {
			startChild(t, "named", hex.EncodeToString([]byte(name))).exit(t)
		}
		for format, r := range formats {
			_, stderr := r.interrupt(t)
			out, err := io.ReadAll(r.stdout) // which fits into a pipe
			must(t, err)
			checkPrintable(t, format, out)
			checkPrintable(t, "messages", []byte(stderr))
			for name, shown := range names {
				if format != "json" && bytes.Count(out, []byte(shown)) < 2 {
					t.Errorf("%q should be shown as %s:\n%s", name, shown, out)
				}
			}
		}
	})
}

// The name of the process is known if a thread with another name closes.
func TestThreadOfAProcess(t *testing.T) { attempts(t, threadOfAProcess) }

func threadOfAProcess(t testing.TB) {
	inNetns(t, func(uint32) {
		r, wide := launch(t, "-o", "json", "-c", "java"), launch(t, "-o", "wide")
		lines := r.collect()
		startChild(t, "thread", hex.EncodeToString([]byte("java")), "C2-Compiler").exit(t)
		wide.interrupt(t)
		table, err := io.ReadAll(wide.stdout)
		must(t, err)
		r.interrupt(t)
		closes := 0
		for _, l := range <-lines {
			if l.Path == "close.rst.linger0" && l.Actor.Comm == "C2-Compiler" && l.Actor.Process == "java" {
				closes++
			}
		}
		if closes != 2 {
			t.Errorf("%d closes by the thread", closes)
		}
		if n := len(regexp.MustCompile(`(?m) java .*close\.rst\.linger0 +- +C2-Compiler `).FindAll(table, -1)); n != 2 {
			t.Errorf("%d closes in the table:\n%s", n, table)
		}
	})
}

// Processes exit before closetrace reads their records: each ending has the right
// name.
func TestShortLivedProcesses(t *testing.T) { attempts(t, shortLivedProcesses) }

func shortLivedProcesses(t testing.TB) {
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json")
		lines := r.collect()
		pids := map[uint32]string{}
		r.whileStopped(t, func() {
			for i := range scaled(10, 3) {
				name := "brief-" + itoa(i)
				a := startChild(t, "named", hex.EncodeToString([]byte(name)))
				a.exit(t)
				pids[uint32(a.Process.Pid)] = name
			}
		})
		r.interrupt(t)
		closes := map[uint32]int{}
		for _, l := range <-lines {
			if name, ok := pids[l.Actor.PID]; ok && l.Path == "close.rst.linger0" {
				closes[l.Actor.PID]++
				if l.Actor.Comm != name {
					t.Errorf("%s[%d] is called %q", name, l.Actor.PID, l.Actor.Comm)
				}
			}
		}
		for pid, name := range pids {
			if closes[pid] != 2 {
				t.Errorf("%s[%d] reset 2 connections, reported %d", name, pid, closes[pid])
			}
		}
	})
}
