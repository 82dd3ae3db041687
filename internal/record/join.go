package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
)

// Name returns what the recording in some files is called in messages.
func Name(files []*os.File) string {
	if len(files) == 1 {
		return files[0].Name()
	}
	return fmt.Sprintf("%d files", len(files))
}

// Join returns the recording in several files of one run, in any order, as one. It reads them in the order in which
// they were written, and keeps all of them open. Files of several hosts or runs, or that leave one out, are an error of
// kind [hint.Usage].
func Join(files []*os.File, newDecode NewDecode) (*Reader, error) {
	if len(files) == 1 {
		return Read(files[0], newDecode)
	}
	var parts []part
	var cut []*os.File // in their headers: closetrace was killed when it began them, or the power failed
	for _, file := range files {
		r, err := Read(file, newDecode)
		if EndsInHeader(err) {
			cut = append(cut, file)
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return nil, hint.New(hint.Usage, err.Error(), "name files")
		}
		parts = append(parts, part{file, r.Header})
	}
	slices.SortFunc(parts, func(a, b part) int { return int(a.header.Part) - int(b.header.Part) })
	for i := range max(0, len(parts)-1) {
		if err := follows(&parts[i], &parts[i+1]); err != nil {
			return nil, err
		}
	}
	if len(parts) == 0 {
		return Read(cut[0], newDecode)
	}
	r, err := Read(parts[0].file, newDecode)
	if err != nil {
		return nil, err
	}
	for _, p := range parts[1:] {
		r.rest = append(r.rest, p.file)
	}
	r.rest = append(r.rest, cut...)
	r.newDecode = newDecode
	return r, nil
}

// part is one of several files.
type part struct {
	file   *os.File
	header events.Header
}

// follows returns an error unless b goes on where a ends.
func follows(a, b *part) error {
	both := a.file.Name() + " and " + b.file.Name()
	switch {
	case a.header.Host != b.header.Host || a.header.BootID != b.header.BootID:
		return hint.New(hint.Usage, both+" are of different hosts, or the host was booted between them",
			"replay the files of each by themselves")
	case a.header.Run == "" || a.header.Run != b.header.Run:
		return hint.New(hint.Usage, both+" are not of one run", "replay the files of each run by themselves")
	case a.header.Part == b.header.Part:
		return hint.New(hint.Usage, both+" are the same part of a recording", "name each file once")
	case a.header.Part+1 != b.header.Part:
		return hint.New(hint.Usage,
			events.Quantity(uint64(b.header.Part-a.header.Part-1), "other file of the recording is between ",
				"other files of the recording are between ")+both,
			"name them as well, or replay the files one by one")
	}
	return nil
}

// more goes on with the next file at the end of one. It returns [io.EOF] after the last one.
func (r *Reader) more() error {
	r.note()
	if len(r.rest) == 0 {
		r.conclude()
		return io.EOF
	}
	next, err := Read(r.rest[0], r.newDecode)
	switch {
	case r.End != nil && !r.End.Continues && EndsInHeader(err): // the file is not of this run
		r.Name = r.rest[0].Name()
		r.damage = &Damage{0, errors.New("it ends within its header")}
		return r.damage
	case r.End == nil || !r.End.Continues:
		r.damage = &Damage{r.line, errors.New("it ends before the next file begins")}
		return r.damage
	}
	if EndsInHeader(err) {
		r.Name, r.rest, r.End = r.rest[0].Name(), nil, nil
		return io.EOF
	}
	if err != nil {
		r.damage = &Damage{r.line, err}
		return r.damage
	}
	next.Header, next.rest, next.newDecode, next.sum = r.Header, r.rest[1:], r.newDecode, r.sum
	next.owners, next.onOwner = r.owners, r.onOwner
	*r = *next
	return nil
}

// note adds what the end of a file is about.
func (r *Reader) note() {
	if r.End == nil || r.End.File == nil {
		return
	}
	r.sum.TookNS += r.End.File.TookNS
	r.sum.LostRecords += r.End.File.LostRecords
	r.sum.MissedProbes += r.End.File.MissedProbes
	r.sum.Suppressed += r.End.File.Suppressed
}

// conclude limits the end of the recording to the files that were read, unless they are all of a run.
func (r *Reader) conclude() {
	if r.End == nil || r.End.File == nil || r.Header.Part == 0 && !r.End.Continues {
		return
	}
	e := &End{
		TookNS: r.sum.TookNS, LostRecords: r.sum.LostRecords, MissedProbes: r.sum.MissedProbes,
		Suppressed: r.sum.Suppressed, Continues: r.End.Continues, File: &r.sum,
	}
	e.Audit.Impossible = goesOn
	if r.Header.Part > 0 {
		e.Audit.Impossible = beganAhead
	}
	r.End = e
}
