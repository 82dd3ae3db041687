package netns

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Readings are the counters of network namespaces at one moment, by inode number.
type Readings struct {
	Counters map[uint32]map[string]uint64
	// Failed is why the counters of a namespace could not be read.
	Failed map[uint32]string
	// Complete: the limit left no namespace out. Then one that has counters only in a later reading is new, or had only
	// processes that must not be examined.
	Complete bool
}

// overLimit is why the counters of a namespace are not read after those of many others.
const overLimit = "too many network namespaces"

// Others reads the counters of at most limit network namespaces that have a process or a name, without those of except.
//
// It reads them at a process of the namespace, which needs no privilege, and enters a namespace that has only a name,
// which needs CAP_SYS_ADMIN.
func (f *Finder) Others(except uint32, limit int) Readings {
	paths, _ := f.All()
	delete(paths, except)
	r := Readings{Counters: map[uint32]map[string]uint64{}, Failed: map[uint32]string{}, Complete: true}
	for _, inode := range slices.Sorted(maps.Keys(paths)) {
		if len(r.Counters) >= limit {
			r.Failed[inode], r.Complete = overLimit, false
			continue
		}
		counters, err := f.countersAt(paths[inode], inode)
		if err != nil {
			r.Failed[inode] = err.Error()
			continue
		}
		r.Counters[inode] = counters
	}
	return r
}

// countersAt returns the counters of the namespace behind a path of [Finder.All].
func (f *Finder) countersAt(path string, inode uint32) (map[string]uint64, error) {
	process, isProcess := strings.CutSuffix(path, "/ns/net")
	if !isProcess || filepath.Dir(process) != f.Proc {
		return Counters(path, inode)
	}
	counters, err := read(filepath.Join(process, "net"))
	// The process may have ended, and its id may be in use again.
	if now, inodeErr := f.Inode(path); inodeErr != nil || now != inode {
		return nil, ErrGone
	}
	return counters, err
}
