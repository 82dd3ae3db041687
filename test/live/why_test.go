//go:build linux

package live

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The error that Go gives the victim of a reset, pasted, leads to the process that caused it, from a recording.
func TestWhyFromARecording(t *testing.T) {
	privileged(t)
	file := filepath.Join(t.TempDir(), "a.rec.zst")
	var line string
	inNetns(t, func(uint32) {
		r := launchTo(t, outputFile(t), "--netns", threadNetns(), "-w", file)
		reset := newResets(t)
		reset.once(t) // another connection of the same port
		line = reset.once(t)
		if code, stderr := r.interrupt(t); code != 0 {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	})
	path, err := program()
	must(t, err)
	out, err := exec.Command(path, "why", "--from", file, line).CombinedOutput()
	if err != nil {
		t.Errorf("why %q: %v", line, err)
	}
	checkWhy(t, line, string(out))
	if strings.Contains(string(out), "Other connections") {
		t.Errorf("the other connection has another port:\n%s", out)
	}
	// A line that names no connection of the recording.
	out, err = exec.Command(path, "why", "--from", file, "10.255.255.1:1", "10.255.255.2:2").CombinedOutput()
	if code := err.(*exec.ExitError).ExitCode(); code != 6 {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// With --wait, why traces until the connection ends, and then says why, with both ends.
func TestWhyWaits(t *testing.T) {
	privileged(t)
	inNetns(t, func(uint32) {
		reset := newResets(t)
		_, port, err := net.SplitHostPort(reset.listener.Addr().String())
		must(t, err)
		answer := outputFile(t)
		r := launchTo(t, answer, "why", "--wait", "--duration", "30s", ":"+port)
		line := reset.once(t)
		if code := waitExit(t, r.Cmd); code != 0 {
			t.Errorf("exit code %d", code)
		}
		out, err := os.ReadFile(answer.Name())
		must(t, err)
		checkWhy(t, line, string(out))
	})
}

// checkWhy checks the answer on a connection that this process reset, and whose victim it is as well.
func checkWhy(t *testing.T, line, answer string) {
	t.Helper()
	_, ends, _ := strings.Cut(line, "read tcp ")
	client, rest, _ := strings.Cut(ends, "->")
	server, _, _ := strings.Cut(rest, ": read")
	for _, want := range []string{
		server + " and " + client + ", ", "148 B unread", "- RST -", client + ": ECONNRESET",
		"[" + fmt.Sprint(os.Getpid()) + "]", "How to avoid it", "closetrace explain close.rst.unread",
	} {
		if !strings.Contains(answer, want) {
			t.Errorf("%q is missing for %s:\n%s", want, line, answer)
		}
	}
}

// unreadResets makes connections to a listener and resets them.
type unreadResets struct{ listener net.Listener }

func newResets(t *testing.T) unreadResets {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return unreadResets{l}
}

// once makes the server close a connection with 148 bytes unread, and returns the error that the client gets.
func (r unreadResets) once(t *testing.T) string {
	t.Helper()
	client, err := net.Dial("tcp", r.listener.Addr().String())
	must(t, err)
	defer client.Close()
	server, err := r.listener.Accept()
	must(t, err)
	_, err = client.Write(make([]byte, 148))
	must(t, err)
	raw, err := server.(*net.TCPConn).SyscallConn()
	must(t, err)
	eventually(t, "148 bytes unread", func() bool {
		unread := 0
		must(t, raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }))
		return err == nil && unread == 148
	})
	must(t, server.Close())
	_, err = client.Read(make([]byte, 1))
	if err == nil {
		t.Fatal("no error")
	}
	return err.Error()
}
