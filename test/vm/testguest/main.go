//go:build linux

// Command testguest behaves in a guest in one of the ways that the runner must handle.
package main

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testguest THING [ARGUMENT...]")
		os.Exit(2)
	}
	thing, ok := things[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "testguest: unknown:", os.Args[1])
		os.Exit(2)
	}
	if err := thing(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "testguest:", err)
		os.Exit(1)
	}
}

var things = map[string]func(args []string) error{
	"exit":    exit,
	"hang":    hang,
	"orphan":  orphan,
	"alone":   alone,
	"panic":   panicKernel,
	"write":   write,
	"modules": modules,
	"machine": machine,
}

// exit writes to both outputs, without a newline at the end, and exits with a code.
func exit(args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fmt.Println("to stdout")
	fmt.Fprint(os.Stderr, "to stderr, unfinished")
	os.Exit(code)
	return nil
}

// hang ignores every signal that can be caught, as does a child.
func hang([]string) error {
	signal.Ignore(syscall.SIGQUIT, syscall.SIGTERM)
	if err := exec.Command("/proc/self/exe", "orphan", "stay").Start(); err != nil {
		return err
	}
	fmt.Println("hanging")
	time.Sleep(time.Hour)
	return nil
}

// orphan leaves a process behind that holds the output open.
func orphan(args []string) error {
	if len(args) > 0 {
		time.Sleep(time.Hour)
	}
	child := exec.Command("/proc/self/exe", "orphan", "stay")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return child.Start()
}

// alone fails if there is another process of this program.
func alone([]string) error {
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			continue
		}
		if line, err := os.ReadFile(name); err == nil && strings.Contains(string(line), "orphan") {
			return fmt.Errorf("%s is still there: %q", name, line)
		}
	}
	return nil
}

func panicKernel([]string) error {
	fmt.Println("about to crash")
	time.Sleep(100 * time.Millisecond)
	return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
}

// write makes a file of random bytes below /out, which do not compress.
func write(args []string) error {
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	name := filepath.Join("/out", args[0])
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// modules fails if one of the named modules is not loaded.
func modules(args []string) error {
	list, err := os.Open("/proc/modules")
	if err != nil {
		return err
	}
	defer list.Close()
	loaded := map[string]bool{}
	for lines := bufio.NewScanner(list); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		loaded[name] = true
	}
	for _, name := range args {
		if !loaded[name] {
			return fmt.Errorf("%s is not loaded", name)
		}
	}
	return nil
}

// machine fails if the guest lacks something that a tracer needs.
func machine([]string) error {
	for _, path := range []string{
		"/proc/self/stat", "/sys/kernel/btf/vmlinux", "/dev/null", "/dev/ptmx", "/dev/pts/ptmx", "/sys/kernel/tracing/events",
		"/sys/fs/cgroup/cgroup.procs", "/sys/kernel/security/lsm", "/etc/hosts",
	} {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/sys/fs/bpf/probe", 0o700); err != nil {
		return err
	}
	if name, err := os.Hostname(); err != nil || name != "closetrace-vm" {
		return fmt.Errorf("host name %q: %w", name, err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return fmt.Errorf("lo is not up: %w", err)
	}
	return conn.Close()
}
