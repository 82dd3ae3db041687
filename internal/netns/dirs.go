package netns

import (
	"path/filepath"
	"strings"
	"time"
)

// scanEvery is the least time between two scans for processes.
const scanEvery = 10 * time.Second

// Dirs finds directories /proc/PID/net, which show a network namespace without entering it. It is not safe for
// concurrent use.
type Dirs struct {
	finder  Finder
	now     func() time.Time
	paths   map[uint32]string // of the last scan
	scanned time.Time
}

// NewDirs returns a Dirs that uses f.
func NewDirs(f Finder) *Dirs { return &Dirs{finder: f, now: time.Now} }

// Of returns the directory of the network namespace with an inode number, or "" if no process in it was found by the
// last scan of processes, at most 10 s ago.
func (d *Dirs) Of(inode uint32) string {
	if own, err := d.finder.Own(); err == nil && own == inode {
		return filepath.Join(d.finder.Proc, "thread-self/net")
	}
	if dir := d.known(inode); dir != "" {
		return dir
	}
	d.scan()
	return d.known(inode)
}

// All returns the directories of the network namespaces in which the last scan found a process, by inode number. It
// scans if the last one is more than 10 s ago.
func (d *Dirs) All() map[uint32]string {
	d.scan()
	all := map[uint32]string{}
	for inode := range d.paths {
		if dir := d.known(inode); dir != "" {
			all[inode] = dir
		}
	}
	return all
}

// scan scans for processes, unless the last scan was less than 10 s ago.
func (d *Dirs) scan() {
	if now := d.now(); d.paths == nil || now.Sub(d.scanned) >= scanEvery {
		d.paths, _ = d.finder.All()
		d.scanned = now
	}
}

// known returns the directory of a namespace that the last scan found, if its process still is in it.
func (d *Dirs) known(inode uint32) string {
	path := d.paths[inode]
	process, ok := strings.CutSuffix(path, "/ns/net")
	if !ok || filepath.Dir(process) != d.finder.Proc {
		return ""
	}
	if now, err := d.finder.Inode(path); err != nil || now != inode {
		return ""
	}
	return filepath.Join(process, "net")
}
