package record

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/rawevent"
)

// rotating begins a recording of records in a new directory.
func rotating(t *testing.T, name string, o Options) (dir string, f *Files) {
	t.Helper()
	dir = t.TempDir()
	f, err := rotatingIn(filepath.Join(dir, name), o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, f
}

func rotatingIn(path string, o Options) (*Files, error) {
	h := header
	h.Record = rawevent.Layout()
	return CreateFiles(path, h, o)
}

// closeAt returns a close of a socket. What does not matter is noise, which does not compress.
func closeAt(t *testing.T, monoNS, sock uint64) *events.Event {
	raw := rawRecord(t, map[string]uint64{"kind": uint64(events.KindClose), "time_ns": monoNS, "sock": sock})
	noise := rand.New(rand.NewPCG(monoNS, 1))
	layout := rawevent.Layout()
	for _, f := range layout {
		if strings.HasPrefix(f.Name, "bytes_") {
			for i := range f.Size {
				raw[f.Offset+i] = byte(noise.Uint32())
			}
		}
	}
	return &events.Event{Kind: events.KindClose, MonoNS: monoNS, Sock: sock, Record: raw}
}

// namesIn returns the names of the files in a directory, and checks that none is larger than size.
func namesIn(t *testing.T, dir string, size int64) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if size > 0 && info.Size() > size {
			t.Errorf("%s has %d bytes, more than %d", e.Name(), info.Size(), size)
		}
		names = append(names, e.Name())
	}
	return names
}

// openAll opens files of a directory.
func openAll(t *testing.T, dir string, names ...string) (files []*os.File) {
	t.Helper()
	for _, name := range names {
		file, err := Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		files = append(files, file)
	}
	return files
}

// timesIn returns the times of all events, the aliases of their sockets, and what ended the recording.
func timesIn(t *testing.T, files ...*os.File) (times []uint64, aliases map[uint64]bool, r *Reader, err error) {
	t.Helper()
	r, err = Join(files, rawevent.Recorded)
	if err != nil {
		t.Fatal(err)
	}
	aliases = map[uint64]bool{}
	for {
		var ev events.Event
		switch err := r.Read(&ev); {
		case err == nil:
			times = append(times, ev.MonoNS)
			aliases[ev.Sock] = true
		case errors.Is(err, io.EOF):
			return times, aliases, r, nil
		case !errors.Is(err, events.ErrIdle):
			return times, aliases, r, err
		}
	}
}

// A recording of limited size is a ring of files, which sort, replay alone and as one, and are never too many or large.
func TestRotationBySize(t *testing.T) {
	const size, keep, written = 64 << 10, 3, 1000
	for _, end := range []string{".rec", ".rec.zst", ".jsonl", ".zst", ""} {
		t.Run(end, func(t *testing.T) {
			dir, f := rotating(t, "ring"+end, Options{Rotation: Rotation{Size: size, Keep: keep}})
			total := written
			if strings.HasSuffix(end, ".zst") {
				total *= 10
			}
			for n := range uint64(total) {
				if err := errors.Join(f.Write(closeAt(t, n+1, 7)), f.Idle(n+1)); err != nil {
					t.Fatal(err)
				}
				if n%100 == 99 {
					if err := f.Flush(); err != nil {
						t.Fatal(err)
					}
					if names := namesIn(t, dir, size); len(names) > keep {
						t.Fatalf("%d files: %v", len(names), names)
					}
				}
			}
			if err := f.Close(&End{TookNS: 99, LostRecords: 5}); err != nil {
				t.Fatal(err)
			}
			names := namesIn(t, dir, size)
			if len(names) != keep || !strings.HasPrefix(names[0], "ring-0000") || !strings.HasSuffix(names[0], end) {
				t.Fatalf("files %v", names)
			}
			files := openAll(t, dir, names...)
			slices.Reverse(files) // their order does not matter
			times, aliases, r, err := timesIn(t, files...)
			if err != nil || r.End == nil || r.End.Continues || r.End.LostRecords != 0 || r.End.Audit.Impossible != beganAhead {
				t.Errorf("end %+v, %v", r.End, err)
			}
			first := uint64(total) - uint64(len(times)) + 1
			for i, at := range times {
				if at != first+uint64(i) {
					t.Fatalf("event %d is of %d, of %d events", i, at, len(times))
				}
			}
			if len(times) < 100 || len(aliases) != 1 {
				t.Errorf("%d events, aliases %v", len(times), aliases)
			}
			alone := 0
			for _, name := range names {
				times, _, r, err := timesIn(t, openAll(t, dir, name)...)
				if err != nil || r.End == nil || r.End.Continues != (name != names[keep-1]) || len(times) == 0 {
					t.Errorf("%s: %d events, end %+v, %v", name, len(times), r.End, err)
				}
				alone += len(times)
			}
			if alone != len(times) {
				t.Errorf("%d events alone, %d together", alone, len(times))
			}
		})
	}
}

// The owners of many events that are concluded at once go to several files. All are read.
func TestRotationOfOwners(t *testing.T) {
	const size, owned = 64 << 10, 4000
	for _, name := range []string{"a.rec", "a.jsonl"} {
		dir, f := rotating(t, name, Options{Rotation: Rotation{Size: size}})
		if err := f.Write(closeAt(t, 1, 1)); err != nil {
			t.Fatal(err)
		}
		for sock := range uint64(owned) {
			ev := &events.Event{
				Kind: events.KindPeerFIN, MonoNS: 1, Sock: sock + 1, Owner: &events.Task{PID: 4211, Comm: "nginx"},
			}
			if err := f.Owner(ev); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Idle(2), f.Close(&End{})); err != nil {
			t.Fatal(err)
		}
		names := namesIn(t, dir, size)
		_, _, r, err := timesIn(t, openAll(t, dir, names...)...)
		if n := len(r.owners.newer); err != nil || len(names) < 5 || n != owned || r.End == nil || r.End.Continues {
			t.Errorf("%s: %d owners in %d files, end %+v, %v", name, n, len(names), r.End, err)
		}
	}
}

// A recording in all of its files has the end of the run, and each file the losses that were noticed in it.
func TestRotationByTime(t *testing.T) {
	dir, f := rotating(t, "%F_%H.rec", Options{Rotation: Rotation{Every: time.Hour}})
	now := f.begun
	f.now = func() time.Time { return now }
	f.begun = now
	const layout = "2006-01-02_15"
	first := now.Format(layout) + ".rec"
	day := now.Add(time.Minute) // maybe in the next hour
	for hour := range 4 {
		now = day.Add(time.Duration(hour) * time.Hour)
		if hour == 3 {
			now = day.Add(2*time.Hour + time.Nanosecond) // set back, as at the end of summer time
			f.begun = f.begun.Add(-time.Hour)
		}
		loss := &events.Event{Kind: events.KindLoss, MonoNS: uint64(hour), LostRecords: 2, MissedProbes: 1, RepliesLeftOut: 3}
		if err := errors.Join(f.Flush(), f.Write(loss)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(&End{LostRecords: 9, Audit: Audit{Impossible: "no"}}); err != nil {
		t.Fatal(err)
	}
	names := namesIn(t, dir, 0)
	at := func(hours int) string { return day.Add(time.Duration(hours) * time.Hour).Format(layout) }
	want := []string{first, at(1) + ".rec", at(2) + "-000003.rec", at(2) + ".rec"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Fatalf("files %v, want %v", names, want)
	}
	_, _, r, err := timesIn(t, openAll(t, dir, names...)...)
	if err != nil || r.End.LostRecords != 9 || r.End.Audit.Impossible != "no" || r.Header.Part != 0 {
		t.Errorf("end of all %+v, %v", r.End, err)
	}
	_, _, r, err = timesIn(t, openAll(t, dir, first, at(1)+".rec")...)
	if err != nil || r.End.LostRecords != 4 || r.End.MissedProbes != 2 || r.End.Suppressed != 6 ||
		r.End.TookNS < int64(time.Hour) || r.End.Audit.Impossible != goesOn {
		t.Errorf("end of two %+v, %v", r.End, err)
	}
}

// Files that were there are not replaced. With force, numbers go on, and old files are deleted first.
func TestRotationOverExisting(t *testing.T) {
	rotation := Rotation{Size: 64 << 10, Keep: 2}
	dir, f := rotating(t, "a.rec", Options{Rotation: rotation})
	foreign := []string{"a.rec", "a-1.rec", "a-000000.rec.zst", "b-000000.rec", "a-notanr.rec"}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("foreign"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.rec")
	if _, err := rotatingIn(path, Options{Rotation: rotation}); !hint.Is(err, hint.Usage) ||
		!strings.HasSuffix(err.Error(), "a-000000.rec exists") {
		t.Errorf("not refused: %v", err)
	}
	for range 3 {
		f, err := rotatingIn(path, Options{Rotation: rotation, Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(&End{}); err != nil {
			t.Fatal(err)
		}
	}
	want := append([]string{"a-000002.rec", "a-000003.rec"}, foreign...)
	slices.Sort(want)
	if names := namesIn(t, dir, 0); !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	_, err := rotatingIn(filepath.Join(dir, "none", "a.rec"), Options{Rotation: rotation})
	if !errors.Is(err, os.ErrNotExist) || hint.Of(err) != "create the directory: mkdir -p "+filepath.Join(dir, "none") {
		t.Errorf("without a directory: %v (%s)", err, hint.Of(err))
	}
	for _, name := range []string{"%Q.rec", "a%"} {
		_, err := rotatingIn(filepath.Join(dir, name), Options{Rotation: Rotation{Every: time.Second}})
		if !hint.Is(err, hint.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// With force, names with the time are never those of files that are there, and the files of a run are still one
// recording.
func TestRotationOverExistingTimes(t *testing.T) {
	const runs, rotations = 3, 2
	now := time.Now()
	for _, rotation := range []Rotation{{Every: time.Hour}, {Every: time.Hour, Size: 64 << 10}} {
		path := filepath.Join(t.TempDir(), "%Y.rec")
		for run := range uint64(runs) {
			f, err := rotatingIn(path, Options{Rotation: rotation, Force: true})
			if err != nil {
				t.Fatal(err)
			}
			f.now = func() time.Time { return now }
			for n := run << 20; f.header.Part <= rotations; n++ {
				if rotation.Size == 0 {
					f.begun = now.Add(-rotation.Every)
				}
				if err := f.Write(closeAt(t, n+1, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(&End{}); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Dir(path)
		byRun := map[string][]*os.File{}
		for _, file := range openAll(t, dir, namesIn(t, dir, rotation.Size)...) {
			r, err := Read(file, rawevent.Recorded)
			if err != nil {
				t.Fatal(err)
			}
			byRun[r.Header.Run] = append(byRun[r.Header.Run], file)
		}
		if len(byRun) != runs {
			t.Fatalf("%d runs in %v", len(byRun), namesIn(t, dir, 0))
		}
		for _, files := range byRun {
			for _, file := range files {
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
			times, _, r, err := timesIn(t, files...)
			if len(files) != rotations+1 || err != nil || r.End == nil || r.End.Continues || r.Header.Part != 0 ||
				times[len(times)-1]-times[0] != uint64(len(times))-1 {
				t.Errorf("a run of %d files, %d events, end %+v, %v", len(files), len(times), r.End, err)
			}
		}
		_, err := rotatingIn(path, Options{Rotation: rotation})
		if !hint.Is(err, hint.Usage) || !strings.Contains(hint.Of(err), "--force to go on after the files") {
			t.Errorf("not refused: %v (%s)", err, hint.Of(err))
		}
	}
}

// A file that someone put in the place of an old one is not deleted.
func TestRotationSparesOthers(t *testing.T) {
	dir, f := rotating(t, "a.rec", Options{Rotation: Rotation{Size: 64 << 10, Keep: 1}})
	first := filepath.Join(dir, "a-000000.rec")
	// Renamed first, so that the other file cannot get its inode.
	moved := os.Rename(first, filepath.Join(dir, "moved"))
	if err := errors.Join(moved, os.WriteFile(first, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(200) {
		if err := f.Write(closeAt(t, n+1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	if names := namesIn(t, dir, 0); len(names) != 3 || names[0] != "a-000000.rec" || names[2] != "moved" {
		t.Errorf("files %v", names)
	}
}

// Files that are not one recording are refused.
func TestJoinRefuses(t *testing.T) {
	o := Options{Rotation: Rotation{Size: 64 << 10}}
	dir, f := rotating(t, "a.rec", o)
	for n := range uint64(500) {
		if err := f.Write(closeAt(t, n+1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	other, err := rotatingIn(filepath.Join(dir, "b.rec"), o)
	if err != nil {
		t.Fatal(err)
	}
	single, err := rotatingIn(filepath.Join(dir, "c.rec"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(&End{}), other.Close(&End{}), single.Close(&End{})); err != nil {
		t.Fatal(err)
	}
	h := header
	h.BootID = "other"
	elsewhere, err := CreateFiles(filepath.Join(dir, "d.rec"), h, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ a, b, want string }{
		{"a-000000.rec", "a-000002.rec", "1 other file of the recording is between "},
		{"a-000001.rec", "a-000001.rec", "are the same part of a recording"},
		{"a-000000.rec", "b-000000.rec", "are not of one run"},
		{"c.rec", "c.rec", "are not of one run"},
		{"a-000000.rec", "d-000000.rec", "are of different hosts, or the host was booted between them"},
	} {
		_, err := Join(openAll(t, dir, tt.a, tt.b), rawevent.Recorded)
		if !hint.Is(err, hint.Usage) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s, %s: %v", tt.a, tt.b, err)
		}
	}
}

// A file that is cut off anywhere, as by SIGKILL, is read to its last whole frame, after those before it.
func TestRotationCutAnywhere(t *testing.T) {
	dir, f := rotating(t, "a.rec", Options{Rotation: Rotation{Size: 64 << 10}})
	for n := range uint64(200) {
		if err := f.Write(closeAt(t, n+1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(&End{}); err != nil {
		t.Fatal(err)
	}
	names := namesIn(t, dir, 0)
	last := filepath.Join(dir, names[len(names)-1])
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	all, _, _, err := timesIn(t, openAll(t, dir, names...)...)
	if err != nil || len(all) != 200 || len(names) != 2 {
		t.Fatalf("%d events in %d files, %v", len(all), len(names), err)
	}
	before, inFirst := 0, 0
	if times, _, _, err := timesIn(t, openAll(t, dir, names[0])...); err == nil {
		inFirst = len(times)
	}
	for at := len(whole) - 1; at > len(whole)-3000; at -= 7 {
		if err := os.Truncate(last, int64(at)); err != nil {
			t.Fatal(err)
		}
		times, _, r, err := timesIn(t, openAll(t, dir, names...)...)
		if r.End != nil && !r.End.Continues || err != nil && !errors.As(err, new(*Damage)) {
			t.Fatalf("cut at %d: end %+v, %v", at, r.End, err)
		}
		if len(times) < 190 || len(times) > 200 || before > 0 && len(times) > before {
			t.Fatalf("cut at %d: %d events", at, len(times))
		}
		before = len(times)
	}
	// SIGKILL when it began.
	for _, size := range []int{0, 3, 8, 100} {
		if err := os.WriteFile(last, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		times, _, r, err := timesIn(t, openAll(t, dir, names...)...)
		if err != nil || r.End != nil || r.Name != last || len(times) != inFirst {
			t.Errorf("cut at %d: %d events, end %+v, %v", size, len(times), r.End, err)
		}
	}
	// A file in the middle must not end before the next one.
	first := filepath.Join(dir, names[0])
	info, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(first, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := timesIn(t, openAll(t, dir, names...)...); !errors.As(err, new(*Damage)) {
		t.Errorf("a cut in the middle: %v", err)
	}
}

// A file that takes no header, as on a full disk, is not left behind: each start of a service would leave one.
func TestRotationLeavesNoEmptyFile(t *testing.T) {
	full := false
	through := func(w io.Writer) io.Writer {
		if full {
			return fullDisk{}
		}
		return w
	}
	dir, f := rotating(t, "a.rec", Options{Rotation: Rotation{Size: 64 << 10}, Through: through})
	var err error
	for n := uint64(1); err == nil && n < 1000; n++ {
		full = n > 10
		err = f.Write(closeAt(t, n, 1))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing: %v", err)
	}
	if _, err := rotatingIn(filepath.Join(dir, "b.rec.zst"), f.options); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("beginning: %v", err)
	}
	if names := namesIn(t, dir, 0); !slices.Equal(names, []string{"a-000000.rec"}) {
		t.Errorf("files %v", names)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
