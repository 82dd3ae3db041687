package enrich

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// tree is a made-up /proc.
type tree struct {
	*testing.T
	root string
}

func newTree(t *testing.T) tree { return tree{t, t.TempDir()} }

// write makes files; a text that begins with "-> " is the target of a link.
func (t tree) write(files map[string]string) {
	t.Helper()
	for path, text := range files {
		path = filepath.Join(t.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// scanBegins is when scans do, after boot.
const scanBegins = time.Hour

// stat is the file of a process that began at a time after boot.
func stat(comm string, at time.Duration) string {
	return fmt.Sprintf("7 (%s) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 %d 1000 10", comm, at/(10*time.Millisecond))
}

// process makes a process that holds sockets.
func (t tree) process(pid int, comm string, inodes ...int) {
	t.Helper()
	dir := fmt.Sprint(pid) + "/"
	t.write(map[string]string{
		dir + "comm":   comm + "\n",
		dir + "status": "Name:\t" + comm + "\nUid:\t33\t0\t0\t0\n",
		dir + "stat":   stat(comm, scanBegins),
		dir + "fd/0":   "-> /dev/null",
	})
	for fd, inode := range inodes {
		t.write(map[string]string{fmt.Sprintf("%sfd/%d", dir, fd+3): fmt.Sprintf("-> socket:[%d]", inode)})
	}
}

// owners returns an Owners of the tree that waits for every scan, at a time that stands
// still until it is moved.
func (t tree) owners() (o *Owners, pass func(time.Duration)) {
	now := time.Unix(1000, 0)
	o = NewOwners(t.root)
	o.now, o.timeout = func() time.Time { return now }, time.Minute
	o.sinceUp = func() time.Duration { return scanBegins }
	return o, func(d time.Duration) { now = now.Add(d) }
}

func TestOf(t *testing.T) {
	tr := newTree(t)
	tr.process(4211, "nginx", 55, 55, 56)
	tr.process(31, "a) b\n(c", 57, 56)
	tr.process(4300, "nginx", 56)
	tr.write(map[string]string{
		"4211/fd/10":        "-> pipe:[99]",
		"4211/fd/11":        "-> socket:[",
		"4211/fd/12":        "-> socket:[x]",
		"4211/fd/13":        "-> socket:[-5]",
		"4211/fd/14":        "-> socket:[99999999999999999999]",
		"4211/fd/15":        "-> socket:[60] ",
		"4211/fd/16":        "no link",
		"500/fd":            "cannot be read as a directory",
		"501/comm":          "vanished, and its descriptors first\n",
		"502/fd/3":          "-> socket:[61]", // vanished after
		"503/fd/3":          "-> socket:[62]",
		"503/comm":          "no status\n",
		"503/stat":          stat("no status", 0),
		"504/comm":          "leader ended\n",
		"504/stat":          stat("leader ended", 0),
		"504/task/504/fd":   "",
		"504/task/506/fd":   "gone",
		"504/task/507/fd/3": "-> socket:[63]",
		"self/fd/3":         "-> socket:[64]",
		"0/fd/3":            "-> socket:[64]",
		"net/tcp":           "",
	})
	for inode, want := range map[uint64]struct {
		task   *events.Task
		others int
	}{
		55: {&events.Task{PID: 4211, TID: 4211, UID: 33, Comm: "nginx"}, 0},
		56: {&events.Task{PID: 31, TID: 31, UID: 33, Comm: "a) b\n(c"}, 2},
		57: {&events.Task{PID: 31, TID: 31, UID: 33, Comm: "a) b\n(c"}, 0},
		62: {&events.Task{PID: 503, TID: 503, UID: 1000, Comm: "no status"}, 0},
		63: {&events.Task{PID: 504, TID: 504, UID: 1000, Comm: "leader ended"}, 0},
		58: {}, 60: {}, 61: {}, 64: {}, 99: {},
	} {
		o, _ := tr.owners()
		task, others := o.Of(inode, 1000)
		if (task == nil) != (want.task == nil) || task != nil && *task != *want.task || others != want.others {
			t.Errorf("%d: got %+v and %d others, want %+v and %d", inode, task, others, want.task, want.others)
		}
	}
}

func TestNoProc(t *testing.T) {
	o := NewOwners(filepath.Join(t.TempDir(), "none"))
	if task, _ := o.Of(55, 0); task != nil {
		t.Errorf("got %+v", task)
	}
}

// A burst needs one scan; the next one begins after 100 ms at the earliest. The result of a scan is used for 10 s.
func TestScansAreRare(t *testing.T) {
	tr := newTree(t)
	tr.process(1, "init", 55, 56)
	o, pass := tr.owners()
	found := func(inode uint64) bool { task, _ := o.Of(inode, 0); return task != nil }

	if !found(55) {
		t.Fatal("not found at first")
	}
	tr.process(2, "new", 57)
	if !found(56) || found(57) {
		t.Error("a second scan at once")
	}
	if pass(99 * time.Millisecond); found(57) {
		t.Error("a second scan within 100 ms")
	}
	if pass(time.Millisecond); !found(57) {
		t.Error("no second scan after 100 ms")
	}
	if err := os.RemoveAll(filepath.Join(tr.root, "2")); err != nil {
		t.Fatal(err)
	}
	if pass(10 * time.Second); !found(57) {
		t.Error("dropped within 10 s")
	}
	if pass(time.Nanosecond); found(57) {
		t.Error("used for longer than 10 s")
	}
}

// A process that reuses the id of the holder is not reported.
func TestReusedID(t *testing.T) {
	tr := newTree(t)
	for pid, stat := range map[int]string{
		7:  stat("x", scanBegins),                           // just in time
		8:  stat("x", scanBegins+10*time.Millisecond),       // too late
		9:  stat(") 1 2 (", scanBegins+time.Hour),           // too late
		10: stat(") S 1 2 3 4 5 6 7 8 9", time.Millisecond), // before
		11: "11 (x) S 1",                                    // of which nothing is known
	} {
		tr.process(pid, "x", 100+pid)
		tr.write(map[string]string{fmt.Sprint(pid) + "/stat": stat})
	}
	for inode, want := range map[uint64]bool{107: true, 108: false, 109: false, 110: true, 111: true} {
		o, _ := tr.owners()
		if task, _ := o.Of(inode, 0); (task != nil) != want {
			t.Errorf("%d: %+v", inode, task)
		}
	}
}

// A holder that was looked up before its end is still reported, and not the process that reuses its id.
func TestHolderEnds(t *testing.T) {
	tr := newTree(t)
	tr.process(7, "nginx", 55, 56)
	tr.process(8, "curl", 57)
	o, _ := tr.owners()
	if task, _ := o.Of(55, 0); task == nil || task.Comm != "nginx" {
		t.Fatalf("found %+v", task)
	}
	for _, pid := range []string{"7", "8"} {
		if err := os.RemoveAll(filepath.Join(tr.root, pid)); err != nil {
			t.Fatal(err)
		}
	}
	tr.process(7, "other")
	tr.write(map[string]string{"7/stat": stat("other", scanBegins+time.Minute)})
	if task, _ := o.Of(56, 0); task == nil || task.Comm != "nginx" {
		t.Errorf("of the one asked for before: %+v", task)
	}
	if task, _ := o.Of(57, 0); task != nil {
		t.Errorf("of the one that is gone: %+v", task)
	}
}

// Long scans are rarer, and no event waits for them. On a busy machine a scan takes longer than its processor time.
func TestLongScans(t *testing.T) {
	for _, tt := range []struct{ took, cpu, next time.Duration }{
		{time.Minute, time.Minute, 50 * time.Minute},
		{time.Minute, time.Second, 4 * time.Minute},
	} {
		o, pass := newTree(t).owners()
		o.timeout = time.Nanosecond
		arrives := make(chan scan, 1)
		o.scanning = arrives
		if task, _ := o.Of(55, 0); task != nil {
			t.Fatalf("got %+v before the scan was over", task)
		}
		arrives <- scan{holders{}, scanBegins, tt.took, tt.cpu}
		pass(time.Hour)
		o.Of(55, 0)
		if o.scanning != nil {
			t.Error("the scan was not taken, or another one begun at once")
		}
		pass(tt.next - 1)
		if o.Of(55, 0); o.scanning != nil {
			t.Errorf("%+v: scanning takes more than 2 %% of the processor, or events wait more than a fifth of the time", tt)
		}
		pass(1)
		o.timeout = time.Minute
		if o.Of(55, 0); o.scanned != o.now() {
			t.Errorf("%+v: no scan when it is time", tt)
		}
	}
}

// A scan says how much processor time it took.
func TestScanCountsProcessorTime(t *testing.T) {
	o, _ := newTree(t).owners()
	o.scan(55)
	if s := <-o.scanning; s.cpu <= 0 || s.cpu > s.took+time.Millisecond {
		t.Errorf("%v of processor time in %v", s.cpu, s.took)
	}
}

func TestResolve(t *testing.T) {
	const task, softirq = events.TaskContext, events.Flags(0)
	tests := []struct {
		ev   events.Event
		want uint32 // pid of the owner; 0: none
	}{
		{events.Event{Kind: events.KindDone, Inode: 55, Flags: softirq}, 7},
		{events.Event{Kind: events.KindPeerFIN, Inode: 55, Flags: softirq}, 7},
		{events.Event{Kind: events.KindReply, Inode: 55, Flags: softirq}, 7},
		{events.Event{Kind: events.KindReset, Inode: 55, Flags: softirq}, 7},
		// from the backlog, in the hands of the owner, whose call it is not
		{events.Event{Kind: events.KindDone, Inode: 55, Flags: task, Task: events.Task{PID: 7}}, 7},
		{events.Event{Kind: events.KindPeerFIN, Inode: 55, Flags: task, Task: events.Task{PID: 7}}, 7},
		// ss -K of another process, and of the own
		{events.Event{Kind: events.KindAbort, Inode: 55, Flags: task, Task: events.Task{PID: 8}}, 7},
		{events.Event{Kind: events.KindReset, Inode: 55, Flags: task, Task: events.Task{PID: 8}}, 7},
		{events.Event{Kind: events.KindAbort, Inode: 55, Flags: task, Task: events.Task{PID: 7}}, 0},
		{events.Event{Kind: events.KindReset, Inode: 55, Flags: task, Task: events.Task{PID: 7}}, 0},
		// no file, unknown, or a part of a call
		{events.Event{Kind: events.KindDone}, 0},
		{events.Event{Kind: events.KindDone, Inode: 56}, 0},
		{events.Event{Kind: events.KindReset, Inode: 55, Listener: 1, Flags: task}, 0},
		{events.Event{Kind: events.KindReset, Inode: 55, Flags: task | events.InReportedCall}, 0},
		{events.Event{Kind: events.KindClose, Inode: 55, Flags: task}, 0},
		{events.Event{Kind: events.KindShutdown, Inode: 55, Flags: task}, 0},
		{events.Event{Kind: events.KindFIN, Inode: 55}, 0},
		{events.Event{Kind: events.KindDisconnect, Inode: 55, Flags: task}, 0},
		{events.Event{Kind: events.KindWaitOver, Inode: 55}, 0},
	}
	tr := newTree(t)
	tr.process(7, "nginx", 55)
	for _, tt := range tests {
		o, _ := tr.owners()
		ev := tt.ev
		o.Resolve(&ev)
		if tt.want == 0 && ev.Owner != nil || tt.want != 0 && (ev.Owner == nil || ev.Owner.PID != tt.want) {
			t.Errorf("%+v: owner %+v", tt.ev, ev.Owner)
		}
	}
}

func BenchmarkNotLookedUp(b *testing.B) {
	o := NewOwners("/proc")
	ev := events.Event{Kind: events.KindClose, Inode: 55, Flags: events.TaskContext}
	for b.Loop() {
		o.Resolve(&ev)
	}
}

func BenchmarkFound(b *testing.B) {
	o := NewOwners(b.TempDir())
	o.holders, o.scanned = holders{55: {pid: 7}}, time.Now().Add(time.Hour)
	o.tasks = map[uint32]*events.Task{7: {PID: 7}}
	ev := events.Event{Kind: events.KindDone, Inode: 55}
	for b.Loop() {
		o.Resolve(&ev)
	}
}

// A descriptor that was just closed stands in what an earlier scan found.
func TestHoldersAreLookedUpAnew(t *testing.T) {
	tr := newTree(t)
	tr.process(7, "server", 700)
	tr.process(9, "worker", 700)
	o, pass := tr.owners()
	if owner, others := o.Of(700, 0); owner == nil || owner.PID != 7 || others != 1 {
		t.Fatalf("before the close: %+v and %d others", owner, others)
	}
	if err := os.RemoveAll(filepath.Join(tr.root, "7/fd")); err != nil {
		t.Fatal(err)
	}
	soon := events.Event{Kind: events.KindShared, Inode: 700}
	o.Resolve(&soon)
	if soon.Searched || soon.Owner != nil {
		t.Errorf("answered from an old scan: %+v", soon.Owner)
	}
	pass(time.Second)
	later := events.Event{Kind: events.KindShared, Inode: 700}
	o.Resolve(&later)
	if !later.Searched || later.Owner == nil || later.Owner.PID != 9 || later.OtherHolders != 0 {
		t.Errorf("after the close: %+v and %d others", later.Owner, later.OtherHolders)
	}
	pass(time.Second)
	unheld := events.Event{Kind: events.KindShared, Inode: 701}
	o.Resolve(&unheld)
	if !unheld.Searched || unheld.Owner != nil {
		t.Errorf("no process holds it: %+v", unheld)
	}
}
