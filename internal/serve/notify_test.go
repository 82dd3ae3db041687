package serve

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/kernel"
)

// systemd gets the states of the service, and the watchdog only while events are read.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	next := func(prefix string) string {
		t.Helper()
		buf := make([]byte, 512)
		for {
			if err := manager.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("no %s: %v", prefix, err)
			}
			if text := string(buf[:n]); strings.HasPrefix(text, prefix) {
				return text
			}
		}
	}
	s := newService(t, 1)
	s.options.Reload = func() (Settings, []string, error) { return s.options.Settings, nil, nil }
	s.start()
	next("READY=1")
	next("WATCHDOG=1")
	s.hangups <- syscall.SIGHUP
	if text := next("RELOADING=1"); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`).MatchString(text) {
		t.Errorf("%q", text)
	}
	next("READY=1")
	s.end()
	next("STOPPING=1")
	if err := s.finish(); err != nil {
		t.Error(err)
	}
}

// A trace that hangs is not healthy.
func TestPulse(t *testing.T) {
	var p pulse
	if p.beats(time.Hour) {
		t.Error("it beats before the first sign")
	}
	p.Observe(nil, false)
	if !p.beats(time.Minute) {
		t.Error("it does not beat")
	}
	p.last.Store(kernel.MonoNow() - uint64(maxSilence))
	if p.beats(maxSilence) {
		t.Error("it beats without a sign")
	}
}
