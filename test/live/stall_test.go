//go:build linux

package live

import (
	"io"
	"os"
	"testing"
)

// Nobody reads for a while, and then somebody does: tracing went on, and what
// there was no room for is counted.
func TestReaderComesBack(t *testing.T) { attempts(t, readerComesBack) }

func readerComesBack(t testing.TB) {
	const closes = 2000 // pipe and batch hold some 300 lines, 64K hold 240 records
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		bare(t, closes)
		lines := r.collect()
		code, said := r.interrupt(t)
		got := len(<-lines)
		if code != 0 || lost(said) == 0 || got+lost(said) != closes {
			t.Errorf("%d closes, %d reported, exit code %d, said:\n%s", closes, got, code, said)
		}
	})
}

// Nobody ever reads: SIGINT ends it all the same, nothing stays attached, and
// what did not come out is told.
func TestNobodyReads(t *testing.T) { attempts(t, nobodyReads) }

func nobodyReads(t testing.TB) {
	const closes = 2000
	inNetns(t, func(uint32) {
		r := launch(t, "-o", "json", "--buffer-size", "64K", "-p", itoa(os.Getpid()))
		bare(t, closes)
		code, said := r.interrupt(t)
		lines := r.collect()
		got := len(<-lines)
		unwritten := told(said, " endings not written")
		if code != 1 || got+lost(said) > closes || closes > got+lost(said)+unwritten {
			t.Errorf("%d closes, %d reported, at most %d not written, exit code %d, said:\n%s", closes, got, unwritten, code, said)
		}
		rest, err := io.ReadAll(r.stdout)
		if err != nil || len(rest) > 0 {
			t.Errorf("%d bytes more, %v", len(rest), err)
		}
	})
	eventually(t, "programs gone", func() bool { return len(remains(t)) == 0 })
}
