package record

import (
	"crypto/rand"
	"hash/maphash"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// Rotation says when a recording goes on in another file. The zero value: never.
type Rotation struct {
	Size  int64         // before a file has more bytes; 0: whatever its size
	Every time.Duration // once events of this time are in a file; 0: whatever the time
	Keep  int           // delete the oldest file if there are more than this many; 0: keep all
}

// Active reports whether there may be several files.
func (r Rotation) Active() bool { return r.Size > 0 || r.Every > 0 }

// endReserve is the part of [Rotation.Size] that is kept for one more event and the end.
const endReserve = 4 << 10

// Files is a recording that is being written to one file or, with rotation, to several. Each of them is a recording by
// itself. An alias stands for the same socket in all.
type Files struct {
	options Options
	names   fileNames
	header  events.Header
	seed    maphash.Seed
	now     func() time.Time

	file   *File // nil after an error
	path   string
	number int        // of the next name
	kept   []keptFile // oldest first; the last one is being written
	begun  time.Time
	end    FileEnd // of the file
	filled bool    // has events or owners
}

// CreateFiles creates the first file. With rotation, files of this name that are there are an error of kind
// [hint.Usage] without Force. With it, numbers go on after theirs, and they count as files of this recording.
func CreateFiles(path string, h events.Header, o Options) (*Files, error) {
	f := &Files{options: o, header: h, seed: maphash.MakeSeed(), now: time.Now, path: path}
	if o.As == nil {
		f.options.As = func(do func() error) error { return do() }
	}
	if !o.Rotation.Active() {
		return f, f.options.As(func() (err error) {
			f.file, err = create(path, h, f.seed, o)
			return err
		})
	}
	var err error
	if f.names, err = newFileNames(path, o.Rotation); err != nil {
		return nil, err
	}
	f.header.Run = rand.Text()
	return f, f.options.As(func() error {
		if f.kept, f.number, err = f.names.existing(); err != nil {
			return err
		}
		if len(f.kept) > 0 && !o.Force {
			return takenBefore(f.kept[0].path)
		}
		return f.begin()
	})
}

// takenBefore is the error for a file that another recording with rotation may have written.
func takenBefore(path string) error {
	return hint.New(hint.Usage, path+" exists", "use another name, or --force to go on after the files of this name")
}

// Path returns the name of the file that is being written.
func (f *Files) Path() string { return f.path }

// begin creates the next file, and deletes the oldest before, so that there is never one too many.
func (f *Files) begin() (err error) {
	for keep := f.options.Rotation.Keep; keep > 0 && len(f.kept) >= keep; f.kept = f.kept[1:] {
		if err := f.kept[0].remove(); err != nil {
			return err
		}
	}
	f.begun = f.now()
	f.end, f.filled = FileEnd{}, false
	f.file, err = f.createFree()
	if err != nil {
		return err
	}
	info, err := f.file.file.Stat()
	f.kept = append(f.kept, keptFile{f.path, f.number, info})
	f.number++
	f.header.Part++
	return err
}

// createFree creates a file under a name that is free. Only the first file without Force has to get its first name. A
// name with the time is also taken if the clock or the time zone was set back, or if it has too little of the time.
func (f *Files) createFree() (*File, error) {
	for numbered := f.names.numbered; ; numbered = true {
		f.path = f.names.name(f.begun, f.number, numbered)
		file, err := create(f.path, f.header, f.seed, f.options)
		if !hint.Is(err, hint.Usage) || !exists(f.path) || f.header.Part == 0 && !f.options.Force {
			return file, err
		}
		if numbered {
			f.number++
		}
	}
}

// Write appends an event, in another file if this one is full or old.
func (f *Files) Write(ev *events.Event) error {
	if err := f.rotate(); err != nil {
		return err
	}
	f.filled = true
	if ev.Kind == events.KindLoss {
		f.end.add(ev)
	}
	return f.file.Write(ev)
}

// Owner appends the owner of an event that was written before, perhaps to an earlier file. One event may conclude
// thousands of others, so that their owners fill several files.
func (f *Files) Owner(ev *events.Event) error {
	if err := f.rotate(); err != nil {
		return err
	}
	f.filled = true
	return f.file.Owner(ev)
}

// Idle appends a moment without events: see [File.Idle]. It begins no file: [Files.Flush] follows.
func (f *Files) Idle(monoNS uint64) error { return f.file.Idle(monoNS) }

// Flush writes what is buffered to the file: see [File.Flush].
func (f *Files) Flush() error {
	if err := f.rotate(); err != nil {
		return err
	}
	return f.file.Flush()
}

// rotate ends a file that has something in it and is full or old, and begins the next one.
func (f *Files) rotate() error {
	r := f.options.Rotation
	old := r.Every > 0 && f.now().Sub(f.begun) >= r.Every
	if !f.filled || !old && !(r.Size > 0 && f.file.full(r.Size-endReserve)) {
		return nil
	}
	f.end.TookNS = int64(f.now().Sub(f.begun))
	end := &End{
		TookNS: f.end.TookNS, LostRecords: f.end.LostRecords, MissedProbes: f.end.MissedProbes,
		Suppressed: f.end.Suppressed, Continues: true, File: &f.end,
	}
	end.Audit.Impossible = goesOn
	file := f.file
	f.file = nil
	if err := file.Close(end); err != nil {
		return err
	}
	return f.options.As(f.begin)
}

// Close ends the recording and the file.
func (f *Files) Close(e *End) error {
	if f.file == nil {
		return nil
	}
	if f.options.Rotation.Active() {
		f.end.TookNS = int64(f.now().Sub(f.begun))
		e.File = &f.end
	}
	return f.file.Close(e)
}

// add counts a loss, without what was left out on purpose.
func (e *FileEnd) add(ev *events.Event) {
	e.LostRecords += uint64(ev.LostRecords - min(ev.LeftOut, ev.LostRecords))
	e.MissedProbes += uint64(ev.MissedProbes)
	e.Suppressed += uint64(ev.RepliesLeftOut)
}
