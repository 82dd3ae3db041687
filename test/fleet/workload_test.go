package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A kind of connection is its first byte.
const (
	serverLeavesUnread = 'u' // the server closes with data unread: it sends a RST
	clientAborts       = 'l' // the client closes with SO_LINGER {1,0}: it sends a RST
	serverClosesFirst  = 's'
	clientClosesFirst  = 'c'
	serverNeverCloses  = 'w' // the server stays in CLOSE_WAIT
)

// workload is how many connections of each kind a client makes.
var workload = map[byte]int{
	serverLeavesUnread: 7, clientAborts: 5, serverClosesFirst: 4, clientClosesFirst: 3, serverNeverCloses: 2,
}

// The programs of the workload are this test under other names, so that they are workloads of their own.
const (
	clientName = "shop-web"
	serverName = "shop-db"
	pauseName  = "pause" // of the container that keeps a pod's namespaces
)

// unreadBytes is what the server does not read.
const unreadBytes = 200

func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case serverName:
		err = serveWorkload(os.Args[1])
	case clientName:
		err = runWorkload(os.Args[1], os.Args[2])
	case pauseName:
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, unix.SIGTERM)
		<-ended
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(1)
	}
}

// serveWorkload answers connections until its standard input ends.
func serveWorkload(at string) error {
	// Without keepalive: 15 s after the peer has forgotten a connection that is never closed, it would be reset.
	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", at)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(c.(*net.TCPConn))
		}
	}()
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// answer ends a connection as its kind asks.
func answer(c *net.TCPConn) {
	kind := make([]byte, 1)
	if _, err := c.Read(kind); err != nil {
		return
	}
	switch kind[0] {
	case serverLeavesUnread:
		awaitUnread(c)
	case clientAborts, clientClosesFirst:
		io.Copy(io.Discard, c)
	case serverNeverCloses:
		io.Copy(io.Discard, c)
		select {}
	}
	c.Close()
}

// awaitUnread waits until the rest of what the client sent has arrived.
func awaitUnread(c *net.TCPConn) {
	awaitQueue(c, unix.TIOCINQ, func(unread int) bool { return unread >= unreadBytes })
}

// awaitQueue waits until a queue of a connection has a length.
func awaitQueue(c *net.TCPConn, request uint, enough func(length int) bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for length := -1; !enough(length); time.Sleep(time.Millisecond) {
		if err := raw.Control(func(fd uintptr) { length, _ = unix.IoctlGetInt(int(fd), request) }); err != nil {
			return
		}
	}
}

// madeConnection is one connection of a client.
type madeConnection struct {
	Kind byte
	Port int // its own
}

// runWorkload makes the connections, from one source port after the other, and prints them.
func runWorkload(to, from string) error {
	port := 42000
	var made []madeConnection
	for kind, n := range workload {
		for range n {
			port++
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from), Port: port}, Timeout: 20 * time.Second}
			c, err := dialer.Dial("tcp", to)
			if err != nil {
				return err
			}
			if err := use(c.(*net.TCPConn), kind); err != nil {
				return fmt.Errorf("%c: %w", kind, err)
			}
			made = append(made, madeConnection{kind, port})
		}
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

// use ends a connection as its kind asks.
func use(c *net.TCPConn, kind byte) error {
	text := []byte{kind}
	if kind == serverLeavesUnread {
		text = append(text, make([]byte, unreadBytes)...)
	}
	if _, err := c.Write(text); err != nil {
		return err
	}
	switch kind {
	case serverLeavesUnread:
		if _, err := c.Read(text); err == nil || err == io.EOF {
			return fmt.Errorf("no ECONNRESET: %v", err)
		}
	case serverClosesFirst:
		if _, err := c.Read(text); err != io.EOF {
			return fmt.Errorf("no EOF: %v", err)
		}
	case clientAborts:
		// An ACK that crosses the RST would be answered by another one.
		awaitQueue(c, unix.TIOCOUTQ, func(unacknowledged int) bool { return unacknowledged == 0 })
		if err := c.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}
