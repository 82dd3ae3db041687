package lab

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// steps makes a scenario of steps alone.
func steps(t *testing.T, header, lines string) *Scenario {
	t.Helper()
	return parse(t, "# T.\n"+header+"-- steps --\n"+lines+"-- endings --\n")
}

// TestVerbs: every verb is exercised by a scenario.
func TestVerbs(t *testing.T) {
	all, err := Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	inSandbox, ofSocket, ofHelper := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, sc := range all {
		if err := (&sandbox{sc: sc}).checkVerbs(); err != nil {
			t.Error(err)
		}
		helpers := map[string]bool{}
		for _, st := range sc.Steps {
			if st.Inner != nil {
				st = *st.Inner
			}
			switch {
			case st.Name == "":
				inSandbox[st.Verb] = true
			case helpers[st.Name]:
				ofHelper[st.Verb] = true
			default:
				ofSocket[st.Verb] = true
			}
			if st.Verb == "spawn" {
				helpers[st.Args[0]] = true
			}
		}
	}
	unused(t, sandboxVerbs, inSandbox)
	unused(t, socketVerbs, ofSocket)
	unused(t, helperVerbs, ofHelper)
}

func unused[T any](t *testing.T, table map[string]verb[T], used map[string]bool) {
	t.Helper()
	for name := range table {
		if !used[name] {
			t.Errorf("no scenario uses %q", name)
		}
	}
}

// TestStepErrors: a step that does not behave as written is an error that says
// where and how.
func TestStepErrors(t *testing.T) {
	for _, c := range []struct{ name, steps, want string }{
		{"wrong outcome", "pair A B\nB close\nA recv -> ECONNRESET\n", "sample.txtar:5: A recv -> ECONNRESET: got EOF, not ECONNRESET"},
		{"end of file", "pair A B\nB close\nA recv\n", "sample.txtar:5: A recv: unexpected EOF"},
		{"errno", "socket A\nA shutdown wr\n", "sample.txtar:4: A shutdown wr: transport endpoint is not connected"},
		{"no error", "socket A\nA close -> EBADF\n", "got , not EBADF"},
		{"closed twice", "socket A\nA close\nA close\n", "A is already closed"},
		{"closed", "socket A\nA close\nA send 1\n", "this process has closed A"},
		{"unknown verb", "socket A\nA dance\n", "sample.txtar:4: unknown verb"},
		{"unknown verb in thread", "socket A\nstart T: A dance\n", "unknown verb"},
		{"unknown socket", "A close\n", "no socket or helper A"},
		{"helper's verb", "socket A\nA kill\n", "unknown verb"},
		{"arguments", "socket A\nA send\n", "usage: send N"},
		{"number", "socket A\nA send -1\n", "not a number of bytes"},
		{"second socket", "socket A\nsocket A\n", "a second socket A"},
		{"option", "listen L sideways\n", "unknown option"},
		{"connect option", "listen L\nconnect A L sideways\n", "unknown option"},
		{"how", "socket A\nA shutdown sideways\n", "want shutdown rd, wr or rdwr"},
		{"filter", "socket A\nA filter sideways\n", "want filter drop"},
		{"linger", "socket A\nA linger sideways\n", "want linger on"},
		{"setting", "sysctl ../../x=1\n", "want KEY=VALUE"},
		{"restore", "restore net.ipv4.tcp_max_orphans\n", "was not changed"},
		{"thread", "wait T\n", "no thread T"},
		{"helper's socket", "socket A\nspawn P A\nP close B\n", "has no socket B"},
		{"ended helper", "socket A\nspawn P A\nP kill\nP close A\n", "the helper has ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := steps(t, "", c.steps).Run(t.Context(), nil)
			if errors.Is(err, unix.EPERM) && res.Netns == 0 {
				t.Skip("not possible here: ", err)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, not one with %q", err, c.want)
			}
		})
	}
}

// TestSettle: the caller sees the result while the sockets are open and the
// window has no end, and the window ends before they are closed.
func TestSettle(t *testing.T) {
	sc := steps(t, "", "pair A B\nlisten L\nconnect C L\n")
	called := false
	before := monotonic()
	res, err := sc.Run(t.Context(), func(res *Result) {
		called = true
		a, b := res.Sockets["A"], res.Sockets["B"]
		if a != b.swap() || a != res.Sockets["A.peer"].swap() || a.Local.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("A is %v, B is %v", a, b)
		}
		if c := res.Sockets["C.peer"]; c.Local != res.Sockets["L"].Local || c.Remote.Port() == 0 {
			t.Errorf("C's other side is %v", c)
		}
		all, err := entries()
		if err == nil || len(all) > 0 {
			established := 0
			for _, e := range all {
				if e.state == "ESTABLISHED" {
					established++
				}
			}
			if established != 4 {
				t.Errorf("%d sides of connections are open, not 4", established)
			}
		}
		if res.EndNS != math.MaxUint64 {
			t.Errorf("the window ends at %d already", res.EndNS)
		}
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("not possible here: ", err)
	}
	if err != nil || !called {
		t.Fatalf("settle called: %v, error %v", called, err)
	}
	if res.StartNS < before || res.EndNS < res.StartNS || res.EndNS > monotonic() {
		t.Errorf("window from %d to %d", res.StartNS, res.EndNS)
	}
}

// TestOwnNamespace: a run leaves nothing behind: neither this process's
// namespace nor its descriptors change.
func TestOwnNamespace(t *testing.T) {
	namespace := func() string {
		link, err := os.Readlink("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	descriptors := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	sc := steps(t, "", "pair A B\ndup A C\nspawn P C\nstart T: B recv-block 1\nA send 1\nwait T -> 1\n")
	runAsMeant(t, sc) // the first use of os.ReadDir and such may open something
	ns, fds := namespace(), descriptors()
	if res := runAsMeant(t, sc); "net:["+strconv.Itoa(int(res.Netns))+"]" == ns {
		t.Error("the scenario ran in our namespace")
	}
	if namespace() != ns || descriptors() != fds {
		t.Errorf("%s and %d descriptors became %s and %d", ns, fds, namespace(), descriptors())
	}
}

// TestNeeds: what is not possible is said with its reason; an unknown need is
// an error and no excuse.
func TestNeeds(t *testing.T) {
	for _, c := range []struct{ need, want string }{
		{"kernel>=2.6", ""},
		{"kernel>=1000.0", "needs kernel>=1000.0: this is "},
		{"sysctl net.ipv4.tcp_fin_timeout", ""},
		{"sysctl net.ipv4.no_such_setting", "no such file or directory"},
		{"cap_net_admin", ""},
	} {
		res := runAsMeant(t, steps(t, "needs: "+c.need+"\n", "socket A\n"))
		if !strings.Contains(res.NotPossible, c.want) || (c.want == "") != (res.NotPossible == "") {
			t.Errorf("%s: %q, not %q", c.need, res.NotPossible, c.want)
		}
	}
	if _, err := steps(t, "needs: luck\n", "").Run(t.Context(), nil); err == nil {
		t.Error("an unknown need was taken for one that holds")
	}
}

// TestCancel: a run ends when its context does, even in the middle of a wait.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	sc := steps(t, "", "pair A B\nA recv\n")
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	res, err := sc.Run(ctx, nil)
	if errors.Is(err, unix.EPERM) && res.Netns == 0 {
		t.Skip("not possible here: ", err)
	}
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 15*time.Second {
		t.Errorf("error %v after %v", err, time.Since(begin))
	}
}

func TestParseEntry(t *testing.T) {
	line := " 0: 0100007F:1F90 00000000:0000 0A 00000000:0000000C 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n"
	e, ok := parseEntry(line)
	if !ok || e.Local != netip.MustParseAddrPort("127.0.0.1:8080") || !blank(e.Remote) || e.state != "LISTEN" ||
		e.rxQueue != 12 {
		t.Errorf("%+v, %v", e, ok)
	}
	six := "0: 00000000000000000000000001000000:0050 0000000000000000FFFF00000100007F:0051 01 00000000:00000000\n"
	e, ok = parseEntry(six)
	if !ok || e.Local != netip.MustParseAddrPort("[::1]:80") || e.Remote != netip.MustParseAddrPort("127.0.0.1:81") {
		t.Errorf("%+v, %v", e, ok)
	}
	for _, bad := range []string{
		"", "sl local_address rem_address st tx_queue", "0: 01:1 02:2 0A 0:0", "0: 0100007F:1 0100007F:2 ZZ 0:0",
	} {
		if _, ok := parseEntry(bad); ok {
			t.Errorf("took %q for a socket", bad)
		}
	}
}

// A setting of the whole machine gets its old value back, and is left alone if that is not known: another lab may have
// set it, or one that was killed.
func TestSetGlobal(t *testing.T) {
	const key = "net.ipv4.tcp_max_orphans"
	file := filepath.Join(t.TempDir(), "tcp_max_orphans")
	expect := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%v, %q, not %s", err, got, want)
		}
	}
	if err := os.WriteFile(file, []byte("8192\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newLab := func() *sandbox { return &sandbox{res: &Result{}, globals: map[string]global{}} }
	one, other := newLab(), newLab()
	for range 2 { // its own value is not that of another
		if err := one.setGlobal(key, file, "0"); err != nil {
			t.Fatal(err)
		}
	}
	err := other.setGlobal(key, file, "0")
	if err == nil ||
		!strings.Contains(err.Error(), key+" is already 0: set by another lab, or by one that was killed; ") ||
		!strings.Contains(err.Error(), "sysctl -w "+key+"=N, by default half of ") {
		t.Errorf("a second lab: %v", err)
	}
	if err := other.cleanup(); err != nil {
		t.Error(err)
	}
	expect("0")
	if err := one.cleanup(); err != nil {
		t.Error(err)
	}
	expect("8192")

	if err := one.setGlobal(key, file, "0"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	var changed *NotRestored
	if err := one.cleanup(); !errors.As(err, &changed) || !strings.Contains(err.Error(), "sysctl -w "+key+"=8192") {
		t.Errorf("not restored: %v", err)
	}
}
