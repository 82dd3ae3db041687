//go:build linux

package live

import (
	"io"
	"os"
	"testing"
)

// The reader pauses and continues: closetrace kept tracing, and counted what the
// buffer could not hold.
func TestSlowReader(t *testing.T) { attempts(t, slowReader) }

func slowReader(t testing.TB) {
	const closes = 2000 // pipe and batch hold some 300 lines, 64K hold 240 records
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		closeUnconnected(t, closes)
		lines := r.collect()
		code, stderr := r.interrupt(t)
		got := len(<-lines)
		if code != 0 || lost(stderr) == 0 || got+lost(stderr) != closes {
			t.Errorf("%d closes, %d reported, exit code %d, standard error:\n%s", closes, got, code, stderr)
		}
	})
}

// The output is never read: SIGINT still ends closetrace, nothing stays attached,
// and the summary counts what was not written.
func TestNoReader(t *testing.T) { attempts(t, noReader) }

func noReader(t testing.TB) {
	const closes = 2000
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		closeUnconnected(t, closes)
		code, stderr := r.interrupt(t)
		lines := r.collect()
		got := len(<-lines)
		unwritten := countBefore(stderr, " endings not written")
		if code != 1 || got+lost(stderr) > closes || closes > got+lost(stderr)+unwritten {
			t.Errorf(
				"%d closes, %d reported, at most %d not written, exit code %d, standard error:\n%s",
				closes,
				got,
				unwritten,
				code,
				stderr,
			)
		}
		rest, err := io.ReadAll(r.stdout)
		if err != nil || len(rest) > 0 {
			t.Errorf("%d bytes more, %v", len(rest), err)
		}
	})
	checkDetached(t, nil)
}
