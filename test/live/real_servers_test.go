//go:build linux

package live

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/events"
)

// request sends a request for a path and returns what follows.
func request(t testing.TB, c net.Conn, path string) *bufio.Reader {
	t.Helper()
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path)
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	return bufio.NewReader(c)
}

func status(t testing.TB, r *bufio.Reader) int {
	t.Helper()
	response, err := http.ReadResponse(r, nil)
	must(t, err)
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// nginx reports each way in which an upstream fails, and closes idle connections.
func TestRealNginx(t *testing.T) {
	nginx := lookProgram(t, "nginx", "nginx-light")
	onStage(t, func(t testing.TB, s *stage) {
		const port, silent, resets, nobody = 8080, 8081, 8082, 8083
		s.listen(t, silent, func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 4096))
			c.Close()
		})
		s.listen(t, resets, func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1))
			c.Close()
		})
		conf := s.write(t, "nginx.conf", `daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
	access_log off; keepalive_timeout 1s;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		listen 127.0.0.1:%[2]d;
		location / { return 200 "hello"; }
		location /silent { proxy_pass http://127.0.0.1:%[3]d; }
		location /resets { proxy_pass http://127.0.0.1:%[4]d; }
		location /nobody { proxy_pass http://127.0.0.1:%[5]d; }
	}
}`, s.dir, port, silent, resets, nobody)
		s.start(t, nil, nginx, "-c", conf)
		s.await(t, port)
		for _, path := range []string{"/silent", "/resets", "/nobody"} {
			if code := status(t, request(t, s.dial(t, port), path)); code != http.StatusBadGateway {
				t.Errorf("%s: status %d", path, code)
			}
		}
		s.logged(t, "error.log", "upstream prematurely closed connection")
		s.want(events.CloseFINActive, silent, "", "B had come and nothing was sent; ESTABLISHED → FIN_WAIT1")
		s.want(events.CloseFINPassive, silent, "nginx", "peer closed first")
		s.logged(t, "error.log", "104: Connection reset by peer")
		s.want(events.CloseRSTUnread, resets, "", "B unread in the receive queue")
		s.want(events.RecvRST, resets, "nginx", "ECONNRESET; peer ", "B unread")
		s.logged(t, "error.log", "111: Connection refused")
		s.want(events.RecvRST, nobody, "nginx", "ECONNREFUSED; closed port")
		s.want(events.ReplyNoSocket, nobody, "", "SYN to a closed port")

		// A client reuses an idle connection at the moment when nginx closes it.
		c := s.dial(t, port)
		r := request(t, c, "/")
		if code := status(t, r); code != http.StatusOK {
			t.Errorf("status %d", code)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("an idle connection: %v, want EOF", err)
		}
		local := uint16(c.LocalAddr().(*net.TCPAddr).Port)
		s.want(events.CloseFINActive, local, "nginx", "FIN_WAIT1")
		time.Sleep(200 * time.Millisecond) // longer than an ACK is delayed
		_, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		must(t, err)
		s.want(events.ReplyTimeWait, local, "", "18 B arrived", "after nginx[", "closed")
		s.want(events.RecvRST, local, "", "in CLOSE_WAIT", "sent by the kernel (reply.tw-data)")
		c.Close()
	})
}

// HAProxy gives up on a client that does not read (tcp-ut), and on a server that
// does not answer (timeout server).
func TestRealHAProxy(t *testing.T) {
	haproxy := lookProgram(t, "haproxy", "haproxy")
	onStage(t, func(t testing.TB, s *stage) {
		const port, endless, mute, slow = 8080, 8081, 8082, 8083
		s.listen(t, endless, func(c *net.TCPConn) {
			go func() {
				for block := make([]byte, 1<<16); ; {
					if _, err := c.Write(block); err != nil {
						c.Close()
						return
					}
				}
			}()
		})
		s.listen(t, mute, func(c *net.TCPConn) {
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		})
		conf := s.write(t, "haproxy.cfg", `defaults
	timeout connect 5s
	timeout client 60s
listen endless
	mode tcp
	bind 127.0.0.1:%d tcp-ut 1s
	timeout server 60s
	server a 127.0.0.1:%d
listen mute
	mode http
	bind 127.0.0.1:%d
	timeout server 300ms
	server a 127.0.0.1:%d
`, port, endless, slow, mute)
		s.start(t, nil, haproxy, "-db", "-f", conf)
		s.await(t, slow)
		if code := status(t, request(t, s.dial(t, slow), "/")); code != http.StatusGatewayTimeout {
			t.Errorf("status %d", code)
		}
		s.want(events.CloseRSTLinger0, mute, "haproxy", "SO_LINGER {1,0}")
		c := s.dial(t, port) // does not read
		s.want(events.AbortUserTimeout, port, "haproxy",
			"TCP_USER_TIMEOUT (1,000 ms) expired: the peer does not read (window 0)")
		eventually(t, "the user timeout", func() bool { return s.missing() == "" })
		c.Close()
	})
}

// Redis disconnects clients: by command, and one that does not read what it
// subscribed to.
func TestRealRedis(t *testing.T) {
	redis := lookProgram(t, "redis-server", "redis-server")
	onStage(t, func(t testing.TB, s *stage) {
		const port = 6379
		s.start(t, nil, redis, "--bind", "127.0.0.1", "--port", itoa(port), "--save", "", "--dir", s.dir,
			"--client-output-buffer-limit", "pubsub 1mb 0 0")
		s.await(t, port)
		ask := func(c net.Conn, format string, args ...any) string {
			_, err := fmt.Fprintf(c, format+"\r\n", args...)
			must(t, err)
			must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			answer, err := bufio.NewReader(c).ReadString('\n')
			must(t, err)
			return answer
		}
		admin, killed, subscriber := s.dial(t, port), s.dial(t, port), s.dial(t, port)
		id := strings.TrimPrefix(strings.TrimSpace(ask(killed, "CLIENT ID")), ":")
		if answer := ask(admin, "CLIENT KILL ID %s", id); answer != ":1\r\n" {
			t.Errorf("CLIENT KILL: %q", answer)
		}
		if _, err := killed.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the killed client reads %v, want EOF", err)
		}
		s.want(events.CloseFINActive, uint16(killed.LocalAddr().(*net.TCPAddr).Port), "redis-server", "FIN_WAIT1")
		ask(subscriber, "SUBSCRIBE news")
		for range 64 { // 16 MB: more than its limit and the socket's buffers
			ask(admin, "PUBLISH news %s", strings.Repeat("x", 60_000))
			ask(admin, "PUBLISH news %s", strings.Repeat("x", 60_000))
			ask(admin, "PUBLISH news %s", strings.Repeat("x", 60_000))
			ask(admin, "PUBLISH news %s", strings.Repeat("x", 60_000))
		}
		s.logged(t, "log", "overcoming of output buffer limits")
		s.want(events.CloseFINActive, uint16(subscriber.LocalAddr().(*net.TCPAddr).Port), "redis-server",
			"B of unsent output")
		eventually(t, "the limit", func() bool { return s.missing() == "" })
	})
}

// PostgreSQL ends sessions: by pg_terminate_backend, and as a backend is killed.
func TestRealPostgres(t *testing.T) {
	psql := lookProgram(t, "psql", "postgresql-client")
	const bin = "/usr/lib/postgresql/15/bin/"
	lookProgram(t, bin+"postgres", "postgresql-15")
	onStage(t, func(t testing.TB, s *stage) {
		const port, nobody = 5432, 65534 // postgres refuses to run as root
		as := &syscall.Credential{Uid: nobody, Gid: nobody}
		data := s.file("data")
		initdb := exec.Command(bin+"initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--no-instructions")
		initdb.SysProcAttr = &syscall.SysProcAttr{Credential: as}
		initdb.Dir = s.dir
		if out, err := initdb.CombinedOutput(); err != nil {
			t.Fatalf("initdb: %v\n%s", err, out)
		}
		s.start(t, as, bin+"postgres", "-D", data, "-p", itoa(port), "-h", "127.0.0.1", "-k", s.dir, "-F")
		session := func(sql string) *exec.Cmd {
			return s.start(t, nil, psql, "-X", "-At", "-h", "127.0.0.1", "-p", itoa(port), "-U", "postgres", "-c", sql)
		}
		eventually(t, "postgres answers", func() bool { return session("select 'ready'").Wait() == nil })

		words := map[string]string{
			"terminated": "] exited without closing, with status 1; ",
			"killed":     "] was killed by SIGKILL; ",
		}
		for name, end := range map[string]func(pid int){
			"terminated": func(pid int) { must(t, session("select pg_terminate_backend("+itoa(pid)+")").Wait()) },
			"killed":     func(pid int) { must(t, unix.Kill(pid, unix.SIGKILL)) },
		} {
			must(t, os.WriteFile(s.file("log"), nil, 0o666))
			client := session("copy (select 'backend ' || pg_backend_pid()) to '" + s.file(name) + "'; select pg_sleep(60)")
			var pid int
			eventually(t, "a session that sleeps", func() bool {
				text, _ := os.ReadFile(s.file(name))
				_, number, _ := strings.Cut(strings.TrimSpace(string(text)), "backend ")
				var err error
				pid, err = strconv.Atoi(number)
				return err == nil
			})
			end(pid)
			if err := client.Wait(); err == nil {
				t.Errorf("%s: psql is not disconnected", name)
			}
			s.logged(t, "log", "server closed the connection unexpectedly")
			s.want(events.CloseFINActive, port, "postgres", fmt.Sprintf("postgres[%d", pid)+words[name], "FIN_WAIT1")
		}
	})
}

// Node's client reports a server that hangs up, and one that resets.
func TestRealNode(t *testing.T) {
	node := lookProgram(t, "node", "nodejs")
	onStage(t, func(t testing.TB, s *stage) {
		const port = 8080
		script := s.write(t, "hangup.js", `const http = require('http')
const server = http.createServer((request, response) => {
	if (request.url === '/reset') request.socket.resetAndDestroy()
	else request.socket.destroy()
})
server.listen(%d, '127.0.0.1', async () => {
	for (const path of ['/hangup', '/reset']) {
		await new Promise(next => http.get({ host: '127.0.0.1', port: %d, path, agent: false })
			.on('error', err => { console.log(path, err.code, err.message); next() }))
	}
	process.exit()
})`, port, port)
		s.start(t, nil, node, script)
		s.logged(t, "log", "/hangup ECONNRESET socket hang up")
		s.want(events.CloseFINActive, port, "node", "B had come and nothing was sent; ESTABLISHED → FIN_WAIT1")
		s.want(events.CloseFINPassive, port, "node", "peer closed first")
		s.logged(t, "log", "/reset ECONNRESET")
		s.want(events.CloseRSTLinger0, port, "node", "SO_LINGER {1,0}")
		s.want(events.RecvRST, port, "node", "ECONNRESET; peer node[", "SO_LINGER {1,0}")
	})
}

// Go's HTTP server answers before it has read the body of a request.
func TestRealGo(t *testing.T) {
	privileged(t)
	onStage(t, func(t testing.TB, s *stage) {
		const port = 8080
		self, err := os.Executable()
		must(t, err)
		server := s.start(t, nil, "env", childVariable+"=refuse 127.0.0.1:8080", self)
		s.await(t, port)
		c := s.dial(t, port)
		_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n", 100<<20)
		must(t, err)
		for block := make([]byte, 1<<16); err == nil; {
			_, err = c.Write(block)
		}
		t.Logf("the client's write: %v", err)
		c.Close()
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", server.Process.Pid))
		must(t, err)
		name := strings.TrimSpace(string(comm))
		s.want(events.ShutdownWrite, port, name, "read side stays open")
		s.want(events.CloseRSTUnread, port, name, "B unread in the receive queue")
		s.want(events.RecvRST, port, "", "peer "+name+"[", "B unread")
	})
}

// refuseBody serves HTTP at an address and reads no body.
func refuseBody(args []string) error {
	server := http.Server{Addr: args[0], Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp4", args[0])
	if err != nil {
		return err
	}
	return server.Serve(l)
}

// Java's Socket.close() shuts down before it closes.
func TestRealJava(t *testing.T) {
	java := lookProgram(t, "java", "openjdk-17-jdk-headless")
	onStage(t, func(t testing.TB, s *stage) {
		const port = 8080
		source := s.write(t, "Server.java", `import java.net.*;
public class Server {
	public static void main(String[] args) throws Exception {
		try (ServerSocket l = new ServerSocket(%d, 50, InetAddress.getByName("127.0.0.1"))) {
			for (;;) {
				Socket s = l.accept();
				s.getInputStream().read();
				s.close();
			}
		}
	}
}`, port)
		s.start(t, nil, java, source)
		s.await(t, port)
		c := s.dial(t, port)
		_, err := c.Write(make([]byte, 1001))
		must(t, err)
		_, _ = io.Copy(io.Discard, c) // EOF, or the reset
		s.want(events.ShutdownWrite, port, "", "read side stays open")
		s.want(events.CloseRSTUnread, port, "", "1,000 B unread in the receive queue")
		s.want(events.RecvRST, port, "", "peer java[", "B unread")
		eventually(t, "the reset", func() bool { return s.missing() == "" })
		c.Close()
	})
}
