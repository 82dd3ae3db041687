//go:build linux

package live

import (
	"bytes"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

// A process is called what it likes; of its name nothing reaches the terminal
// but what can be read there.
func TestNamesAreShownNotObeyed(t *testing.T) { attempts(t, namesAreShownNotObeyed) }

func namesAreShownNotObeyed(t testing.TB) {
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
			act(t, "named", hex.EncodeToString([]byte(name))).leave(t)
		}
		for format, r := range formats {
			_, said := r.interrupt(t)
			out, err := io.ReadAll(r.stdout) // which fits into a pipe
			must(t, err)
			tame(t, format, out)
			tame(t, "messages", []byte(said))
			for name, shown := range names {
				if format != "json" && bytes.Count(out, []byte(shown)) < 2 {
					t.Errorf("%q should be shown as %s:\n%s", name, shown, out)
				}
			}
		}
	})
}

// Processes that are gone before anybody could look: each ending names its own.
func TestShortLivedProcesses(t *testing.T) { attempts(t, shortLivedProcesses) }

func shortLivedProcesses(t testing.TB) {
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json")
		lines := r.collect()
		pids := map[uint32]string{}
		r.stopped(t, func() {
			for i := range load(10, 3) {
				name := "brief-" + itoa(i)
				a := act(t, "named", hex.EncodeToString([]byte(name)))
				a.leave(t)
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
