package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/hint"
)

// conversions are those of strftime(3) that a name may have, as layouts of [time.Time.Format].
var conversions = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'j': "002", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM",
	'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'z': "-0700", 'Z': "MST", 'b': "Jan", 'a': "Mon",
	'B': "January", 'A': "Monday",
}

// fileNames are the names of the files of one recording.
type fileNames struct {
	before, after string // of the number
	dated         bool   // before and after have conversions of strftime(3)
	numbered      bool   // every name has a number
}

// newFileNames returns the names that a path stands for. The number comes before the extensions by which a file is
// recognized, with six digits, so that the names sort. Names with the time have one only if they need it.
func newFileNames(path string, r Rotation) (fileNames, error) {
	after := extensions.FindString(path)
	n := fileNames{before: strings.TrimSuffix(path, after), after: after}
	if r.Every > 0 {
		dated, err := expand(path, time.Time{})
		if err != nil {
			return n, err
		}
		n.dated = dated != path
	}
	n.numbered = !n.dated || r.Size > 0
	return n, nil
}

var extensions = regexp.MustCompile(`(\.rec|\.jsonl)?(\.zst)?$`)

// name returns the name of a file that begins at a time, without or with a number.
func (n *fileNames) name(at time.Time, number int, numbered bool) string {
	before, after := n.before, n.after
	if n.dated {
		before, _ = expand(before, at) // checked before
	}
	if numbered {
		before += fmt.Sprintf("-%06d", number)
	}
	return before + after
}

// expand replaces the conversions of a text.
func expand(text string, at time.Time) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", badConversion("%")
		}
		switch layout, ok := conversions[text[i]]; {
		case ok:
			b.WriteString(at.Format(layout))
		case text[i] == 's':
			b.WriteString(strconv.FormatInt(at.Unix(), 10))
		case text[i] == '%':
			b.WriteByte('%')
		default:
			return "", badConversion(text[i-1 : i+1])
		}
	}
	return b.String(), nil
}

func badConversion(conversion string) error {
	return hint.New(hint.Usage, fmt.Sprintf("unknown conversion %q in the name of the recording", conversion),
		"use those of strftime(3), such as %F or %H; %% is a %")
}

// existing returns the numbered files that are there, in order, and the number after the highest.
func (n *fileNames) existing() (all []keptFile, next int, err error) {
	if n.dated {
		return nil, 0, nil
	}
	dir, prefix := filepath.Split(n.before)
	entries, err := os.ReadDir(filepath.Clean(dir + "."))
	var failed *fs.PathError
	switch {
	case errors.As(err, &failed) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)):
		failed.Path = n.before + n.after // the file, as without rotation
		return nil, 0, hint.Creating(failed)
	case err != nil:
		return nil, 0, err
	}
	for _, e := range entries {
		number, found := strings.CutPrefix(e.Name(), prefix+"-")
		number, matches := strings.CutSuffix(number, n.after)
		if !found || !matches || !sixDigits.MatchString(number) {
			continue
		}
		i, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		info, err := os.Lstat(dir + e.Name())
		if err != nil {
			continue // deleted meanwhile
		}
		all, next = append(all, keptFile{dir + e.Name(), i, info}), max(next, i+1)
	}
	slices.SortFunc(all, func(a, b keptFile) int { return a.number - b.number })
	return all, next, nil
}

var sixDigits = regexp.MustCompile(`^\d{6,9}$`)

// exists reports whether a name is taken, by whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// keptFile is a file of a recording that -W may delete.
type keptFile struct {
	path   string
	number int
	info   fs.FileInfo
}

// remove deletes the file, unless it is another one by now.
func (k *keptFile) remove() error {
	now, err := os.Lstat(k.path)
	if err != nil || !os.SameFile(now, k.info) || !now.Mode().IsRegular() {
		return nil
	}
	return os.Remove(k.path)
}
