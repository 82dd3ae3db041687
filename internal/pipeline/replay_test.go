package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/filter"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/record"
	"github.com/closetrace/closetrace/internal/sink"
	"github.com/closetrace/closetrace/test/fake"
)

// recordingOf returns a recording of n closes, a millisecond apart, and its end.
func recordingOf(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	src := &fake.Source{Left: n}
	h := src.Header()
	h.AuditNetns = fake.Netns
	w, err := record.NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var ev events.Event
		if err := src.Read(&ev); err != nil {
			t.Fatal(err)
		}
		ev.MonoNS = uint64(1e9 + i*1e6)
		if err := w.Write(&ev); err != nil {
			t.Fatal(err)
		}
	}
	err = w.End(&record.End{TookNS: 5e9, LostRecords: 7, Audit: record.Audit{Moved: map[string]uint64{"TcpOutRsts": 2}}})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// replay returns what a replay prints and its error.
func replay(t *testing.T, text string, o ReplayOptions) (out, stderr string, err error) {
	t.Helper()
	in, err := record.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderrs bytes.Buffer
	o.Path, o.Stderr = "run.rec", &stderrs
	err = Replay(t.Context(), in, sink.NewJSONL(&stdout), o)
	return stdout.String(), stderrs.String(), err
}

func TestReplay(t *testing.T) {
	whole := recordingOf(t, 4)
	lines := strings.SplitAfter(whole, "\n")
	const lost, audit = "\n7 records lost, 0 probes missed\n", "\naudit: RSTs sent 2, explained 0;"
	for name, tt := range map[string]struct {
		text    string
		options ReplayOptions
		endings int
		want    []string // of standard error
		err     string
		hint    string
	}{
		"whole": {whole, ReplayOptions{}, 4, []string{"\n4 endings in 5s\n", lost, audit}, "", ""},
		"limit": {
			whole, ReplayOptions{Options: Options{Limit: 2}}, 2,
			[]string{"\n2 endings in 5s\n", lost, "--count stopped the run before all events were read"}, "", "",
		},
		"not shown": {
			whole, ReplayOptions{Options: Options{Filter: filter.Endings{Comms: []string{"other"}}}}, 0,
			[]string{"\n4 endings left out by filters\n", lost, audit}, "", "",
		},
		"narrow": {
			whole, ReplayOptions{
				Options: Options{Summary: sink.SummaryOptions{Verbose: true}},
				Events:  filter.Events{Ports: []uint16{1}}, Narrow: true,
			}, 0,
			[]string{"0 endings in 5s\n", lost, "kernel counters cannot be filtered by process"}, "", "",
		},
		"another namespace": {
			whole, ReplayOptions{Events: filter.Events{Netns: []uint32{5}}}, 0,
			[]string{"the recording has the counters of another network namespace"}, "", "",
		},
		"truncated": {
			strings.Join(lines[:4], ""), ReplayOptions{}, 3,
			[]string{"\n3 endings in 2ms\n", "the end of the recording was not read"},
			"run.rec is truncated: cut off, or closetrace was killed while recording", "everything before that was shown",
		},
		"damaged": {
			strings.Join(lines[:3], "") + `{"kind"`, ReplayOptions{}, 2,
			[]string{"\n2 endings in 1ms\n", "the end of the recording was not read"},
			"run.rec is damaged: line 4: unexpected end of JSON input", "everything before that was shown",
		},
		"two recordings": {
			whole + whole, ReplayOptions{}, 4, []string{"\n4 endings in "},
			fmt.Sprintf("run.rec is damaged: line %d: another recording begins here (files joined together)", len(lines)),
			"name the files that were joined as separate arguments",
		},
		"damaged after the limit": {
			strings.Join(lines[:3], "") + `{"kind"`, ReplayOptions{Options: Options{Limit: 1}}, 1,
			[]string{"\n1 ending in "}, "run.rec is damaged: line 4: unexpected end of JSON input",
			"everything before that was shown",
		},
	} {
		out, stderr, err := replay(t, tt.text, tt.options)
		if n := strings.Count(out, "\n"); n != tt.endings {
			t.Errorf("%s: %d endings, want %d", name, n, tt.endings)
		}
		for _, want := range append(tt.want, "closetrace: replay of run.rec, recorded on 6.1.0-fake by fentry\n") {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: %q is not in:\n%s", name, want, stderr)
			}
		}
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.err == "":
		case err == nil, err.Error() != tt.err, hint.Of(err) != tt.hint, !hint.Is(err, hint.Incomplete):
			t.Errorf("%s: got %v (%s), want %s (%s)", name, err, hint.Of(err), tt.err, tt.hint)
		}
	}
}

// filling is a file on a disk that is full after one write.
type filling struct{ bytes.Buffer }

func (f *filling) Write(p []byte) (int, error) {
	if f.Len() > 0 {
		return 0, syscall.ENOSPC
	}
	return f.Buffer.Write(p)
}

// The summary of a replay, of one recording or several, has the endings that the output did not take.
func TestReplayNotWritten(t *testing.T) {
	const n = 1000
	var files []*os.File
	for _, host := range []string{"a", "b"} {
		path := filepath.Join(t.TempDir(), "run.jsonl")
		text := strings.Replace(recordingOf(t, n), `{`, `{"host":"`+host+`","boot_id":"`+host+`",`, 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := record.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		files = append(files, file)
	}
	for name, replay := range map[string]func(Sink, ReplayOptions) error{
		"one": func(to Sink, o ReplayOptions) error {
			return Replay(t.Context(), openRecorded(t, files[0].Name()), to, o)
		},
		"several": func(to Sink, o ReplayOptions) error {
			recordings, err := Recordings(files, io.Discard)
			if err != nil || len(recordings) != 2 {
				t.Fatal(len(recordings), err)
			}
			return ReplayHosts(t.Context(), recordings, to, o)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var to filling
			var printed bytes.Buffer
			o := ReplayOptions{Options: Options{Stderr: io.Discard, SummaryTo: &printed}}
			err := replay(sink.NewJSONL(NewDeadlineWriter(&to, nil)), o)
			if !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("got %v", err)
			}
			var sum struct {
				Endings    int `json:"endings"`
				NotWritten int `json:"not_written"`
			}
			if err := json.Unmarshal(printed.Bytes(), &sum); err != nil {
				t.Fatal(err)
			}
			written := strings.Count(to.String(), "\n")
			if written == 0 || sum.NotWritten == 0 || written+sum.NotWritten != sum.Endings {
				t.Errorf("%d written, summary %+v", written, sum)
			}
		})
	}
}

// An interrupted conversion is no success. The failure of its output is the first reason.
func TestConvertInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	convert := func(to io.Writer) error {
		in, err := record.NewReader(strings.NewReader(recordingOf(t, 2)))
		if err != nil {
			t.Fatal(err)
		}
		return Convert(ctx, in, to)
	}
	if err := convert(io.Discard); err != nil {
		t.Error(err)
	}
	cancel()
	if err := convert(io.Discard); err == nil || err.Error() != "interrupted; the rest is not converted" {
		t.Errorf("interrupted: %v", err)
	}
	if err := convert(&fullAfter{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("interrupted, with a full disk: %v", err)
	}
}
