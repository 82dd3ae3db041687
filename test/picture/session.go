//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	namespace = "web"
	address   = "127.0.0.1:8080"
	closed    = "127.0.0.1:5432" // nothing listens here
	// pause keeps the endings of one connection apart from those of the next.
	pause = 100 * time.Millisecond
)

// record traces a server and a client in a network namespace of their own.
func record(program string) error {
	if err := command("ip", "netns", "add", namespace).Run(); err != nil {
		return fmt.Errorf("ip netns add %s: %w", namespace, err)
	}
	defer command("ip", "netns", "del", namespace).Run()
	if err := inside("ip", "link", "set", "lo", "up").Run(); err != nil {
		return err
	}
	tracer := exec.Command(program, "--netns", namespace, "--force", "-w", filepath.Join(dir, session))
	output, err := tracer.StderrPipe()
	if err != nil {
		return err
	}
	if err := start(tracer, output); err != nil {
		return err
	}
	defer tracer.Process.Kill()
	server, client, err := processes(filepath.Dir(program))
	if err != nil {
		return err
	}
	if output, err = server.StdoutPipe(); err != nil {
		return err
	}
	if err := start(server, output); err != nil {
		return err
	}
	defer server.Process.Kill()
	if err := client.Run(); err != nil {
		return err
	}
	return errors.Join(tracer.Process.Signal(os.Interrupt), tracer.Wait())
}

// start starts a process and waits for its first line of output.
func start(cmd *exec.Cmd, output io.Reader) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil {
		return fmt.Errorf("%s: %q: %w", cmd, line, err)
	}
	go io.Copy(io.Discard, output)
	return nil
}

// processes returns the two ends of the session. The name of its file is the name of a process.
func processes(in string) (server, client *exec.Cmd, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"server", "client"} {
		if err := os.Symlink(self, filepath.Join(in, name)); err != nil {
			return nil, nil, err
		}
	}
	server, client = inside(filepath.Join(in, "server")), inside(filepath.Join(in, "client"))
	server.Stdout = nil
	return server, client, nil
}

func inside(argv ...string) *exec.Cmd {
	return command(append([]string{"ip", "netns", "exec", namespace}, argv...)...)
}

func command(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}

// The client's first byte names how the server closes.
const (
	inGoodOrder = "f"
	abortive    = "a" // SO_LINGER {1,0}
)

func serve() error {
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		tcp := conn.(*net.TCPConn)
		first := make([]byte, 1)
		if _, err := io.ReadFull(tcp, first); err != nil {
			return err
		}
		time.Sleep(pause / 2) // for the rest of the request to arrive
		if string(first) == abortive {
			err = tcp.SetLinger(0)
		}
		if err := errors.Join(err, tcp.Close()); err != nil {
			return err
		}
	}
}

// request makes one connection for each ending of the picture.
func request() error {
	for _, step := range []struct {
		send string
		then func(net.Conn) error
	}{
		{inGoodOrder + strings.Repeat("x", 1503), expectReset}, // the server does not read these
		{abortive, expectReset},
		{inGoodOrder, writeLate},
	} {
		conn, err := net.Dial("tcp4", address)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, step.send); err != nil {
			return err
		}
		if err := step.then(conn); err != nil {
			return err
		}
		conn.Close()
		time.Sleep(pause)
	}
	if _, err := net.Dial("tcp4", closed); !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("connect to %s: %v", closed, err)
	}
	time.Sleep(pause)
	return nil
}

func expectReset(conn net.Conn) error {
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		return fmt.Errorf("read: %v, want ECONNRESET", err)
	}
	return nil
}

// writeLate writes to a connection that the server has closed.
func writeLate(conn net.Conn) error {
	time.Sleep(3 * pause)
	if _, err := io.WriteString(conn, "GET / ..."); err != nil {
		return err
	}
	time.Sleep(pause)
	return nil
}
