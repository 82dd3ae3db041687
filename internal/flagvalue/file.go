package flagvalue

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/closetrace/closetrace/internal/hint"
)

// File is the name of a file or a directory.
type File struct{ Path *string }

// String returns "": there is no default.
func (f File) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (f File) Type() string { return "FILE" }

// Set accepts any name but the empty one, for example of a variable that is not set.
func (f File) Set(text string) error {
	if text == "" {
		return hint.New(hint.Usage, "empty name of a file", "leave out the flag, or name a file")
	}
	*f.Path = text
	return nil
}

// Files is the names of files. The flag can be repeated.
type Files struct{ List *[]string }

// String returns "": there is no default.
func (f Files) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (f Files) Type() string { return "FILE" }

// Set adds a name.
func (f Files) Set(text string) error {
	var path string
	if err := (File{&path}).Set(text); err != nil {
		return err
	}
	*f.List = append(*f.List, path)
	return nil
}

// Recording is the name of a file to record to.
type Recording struct{ File }

// Set refuses a name that promises another compression than Zstandard, or packets, as -w of tcpdump writes them.
func (r Recording) Set(text string) error {
	switch suffix := filepath.Ext(text); suffix {
	case ".gz", ".bz2", ".xz", ".lz4", ".zip", ".br":
		return hint.New(hint.Usage, fmt.Sprintf("%s cannot be written", suffix), "FILE.zst is compressed")
	case ".pcap", ".pcapng", ".cap":
		return hint.New(hint.Usage, "a recording has no packets, so it is no "+suffix,
			"use FILE.rec; 'closetrace annotate' adds it to a capture")
	}
	return r.File.Set(text)
}

// FileSize is a limit on the size of a file.
type FileSize struct{ Bytes *int64 }

// minFile is more than the header of a recording, and leaves room for events.
const minFile = 64 << 10

// String returns "": there is no limit by default.
func (s FileSize) String() string { return "" }

// Type returns the placeholder of the value in the help.
func (s FileSize) Type() string { return "SIZE" }

// Set accepts a number of KiB, MiB or GiB with a suffix. A number without one would be read as bytes by some, and as
// millions of bytes by those who know tcpdump.
func (s FileSize) Set(text string) error {
	const next = "use a number with a unit, at least 64K, such as 10M or 1G"
	digits := strings.TrimRight(text, "KMGkmg")
	shift, known := map[string]uint{"K": 10, "M": 20, "G": 30}[strings.ToUpper(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 32)
	switch {
	case err == nil && digits == text:
		return hint.New(hint.Usage, fmt.Sprintf("%q has no unit", text), text+"M?")
	case err != nil || !known || n<<shift < minFile:
		return hint.New(hint.Usage, fmt.Sprintf("invalid size %q", text), next)
	}
	*s.Bytes = int64(n) << shift
	return nil
}
