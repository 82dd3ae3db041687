package logline

import (
	"strings"
	"testing"
	"time"
)

// lines are what programs print, with the endpoints and the error that they name.
var lines = []struct{ text, want string }{
	// Go
	{`read tcp 10.0.0.5:33042->10.0.0.9:443: read: connection reset by peer`, "10.0.0.5:33042 10.0.0.9:443 ECONNRESET"},
	{`write tcp 10.0.0.5:33042->10.0.0.9:443: write: broken pipe`, "10.0.0.5:33042 10.0.0.9:443 EPIPE"},
	{`Get "https://api.example.com/v1": read tcp [2001:db8::5]:33042->[2001:db8::9]:443: read: connection reset by peer`, "[2001:db8::5]:33042 [2001:db8::9]:443 ECONNRESET"},
	{`2026/11/28 12:01:02 main.go:42: dial tcp 10.0.0.9:5432: connect: connection refused`, "10.0.0.9:5432 ECONNREFUSED"},
	{`dial tcp [::1]:8080: connect: connection refused`, "[::1]:8080 ECONNREFUSED"},
	{`dial tcp 10.0.0.9:443: i/o timeout`, "10.0.0.9:443"},
	{`http: TLS handshake error from 10.0.0.5:33042: EOF`, "10.0.0.5:33042 EOF"},
	{`read tcp [fe80::1%eth0]:33042->[fe80::2%eth0]:443: read: connection reset by peer`, "[fe80::1]:33042 [fe80::2]:443 ECONNRESET"},
	{`level=error msg="read failed" local=127.0.0.1:33042 remote=127.0.0.1:6379 err="connection reset by peer"`, "127.0.0.1:33042 127.0.0.1:6379 ECONNRESET"},
	// nginx: the connection to the upstream failed, or that to the client
	{`2026/11/28 12:01:02 [error] 4211#4211: *17 recv() failed (104: Connection reset by peer) while reading response header from upstream, client: 10.0.0.5, server: example.com, request: "GET / HTTP/1.1", upstream: "http://10.0.0.9:8080/", host: "10.0.0.7:80"`, "10.0.0.9:8080 ECONNRESET"},
	{`2026/11/28 12:01:02 [error] 4211#0: *17 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.5, server: _, request: "GET / HTTP/1.1", upstream: "fastcgi://127.0.0.1:9000", host: "example.com"`, "127.0.0.1:9000 ECONNREFUSED"},
	{`[error] 4211#0: *1 upstream prematurely closed connection while reading response header from upstream, client: 2001:db8::5, server: _, request: "GET / HTTP/1.1", upstream: "https://[2001:db8::9]:8443/", host: "x"`, "[2001:db8::9]:8443 EOF"},
	{`[info] 4211#0: *3 client prematurely closed connection, so upstream connection is closed too while sending request to upstream, client: 10.0.0.5, server: _, upstream: "http://10.0.0.9:8080/"`, "10.0.0.5 EOF"},
	{`[info] 4211#0: *3 recv() failed (104: Connection reset by peer) while waiting for request, client: 10.0.0.5, server: 0.0.0.0:80`, "10.0.0.5 ECONNRESET"},
	{`recv() failed (104: Connection reset by peer) while proxying and reading from client, client: 10.0.0.5, server: 0.0.0.0:5432, upstream: "10.0.0.9:5432", bytes from/to client:7/0, bytes from/to upstream:0/7`, "10.0.0.5 ECONNRESET"},
	{`send() failed (32: Broken pipe) while proxying and sending to client, client: 10.0.0.5, server: 0.0.0.0:5432, upstream: "10.0.0.9:5432"`, "10.0.0.5 EPIPE"},
	{`recv() failed (104: Connection reset by peer) while proxying and reading from upstream, client: 10.0.0.5, server: 0.0.0.0:5432, upstream: "10.0.0.9:5432"`, "10.0.0.9:5432 ECONNRESET"},
	{`recv() failed, upstream: "http://10.0.0.9/api"`, "10.0.0.9:80"},
	// Apache
	{`[proxy_http:error] [pid 4211] (104)Connection reset by peer: [client 10.0.0.5:33042] AH01102: error reading status line from remote server 10.0.0.9:8080`, "10.0.0.5:33042 10.0.0.9:8080 ECONNRESET"},
	// HAProxy
	{`Nov 28 12:01:02 lb haproxy[14389]: 10.0.0.5:33317 [28/Nov/2026:12:01:02.655] http-in static/srv1 10/0/30/-1/109 502 2750 - - SH-- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`, "10.0.0.5:33317"},
	{`haproxy[9]: ::ffff:10.0.0.5:33317 [28/Nov/2026:12:01:02.655] fe be/s1 1/1/5 0 SC 1/1/0/0/3 0/0`, "10.0.0.5:33317"},
	// Envoy
	{`[2026-11-28T12:01:02.000Z] "GET / HTTP/1.1" 503 UC upstream_reset_before_response_started{connection_termination} - "-" 0 95 5 - "10.0.0.9:8080" outbound|80||x.svc 10.0.0.7:33042 10.0.0.8:80 10.0.0.5:41000 - default`, "10.0.0.9:8080 10.0.0.7:33042 10.0.0.8:80 10.0.0.5:41000"},
	{`upstream connect error or disconnect/reset before headers. reset reason: connection failure, transport failure reason: delayed connect error: 111, remote address:10.0.0.9:443`, "10.0.0.9:443"},
	// Python
	{`ConnectionRefusedError: [Errno 111] Connect call failed ('10.0.0.9', 5432)`, "10.0.0.9:5432 ECONNREFUSED"},
	{`<socket.socket fd=3, family=2, type=1, proto=0, laddr=('127.0.0.1', 33042), raddr=('127.0.0.1', 8080)>`, "127.0.0.1:33042 127.0.0.1:8080"},
	{`<socket.socket fd=3, family=10, type=1, proto=0, laddr=('::1', 33042, 0, 0), raddr=('::1', 8080, 0, 0)>`, "[::1]:33042 [::1]:8080"},
	{`urllib3.exceptions.MaxRetryError: HTTPConnectionPool(host='10.0.0.9', port=8080): Max retries exceeded with url: / (Caused by NewConnectionError('<...>: [Errno 111] Connection refused'))`, "10.0.0.9:8080 ECONNREFUSED"},
	{`requests.exceptions.ConnectionError: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))`, "ECONNRESET"},
	{`redis.exceptions.ConnectionError: Error 104 while writing to socket 10.0.0.9:6379. Connection reset by peer.`, "10.0.0.9:6379 ECONNRESET"},
	{`MySQL server has gone away: (2003, "Can't connect to MySQL server on '10.0.0.9:3306' (111)")`, "10.0.0.9:3306"},
	// Node
	{`Error: connect ECONNREFUSED 10.0.0.9:443`, "10.0.0.9:443 ECONNREFUSED"},
	{`Error: connect ECONNREFUSED ::1:8080`, "[::1]:8080 ECONNREFUSED"},
	{`Error: connect ETIMEDOUT 10.0.0.9:443 - Local (10.0.0.5:33042)`, "10.0.0.9:443 10.0.0.5:33042 ETIMEDOUT"},
	{"{ errno: -111, code: 'ECONNREFUSED', syscall: 'connect', address: '10.0.0.9', port: 443 }", "10.0.0.9:443 ECONNREFUSED"},
	{"  code: 'ECONNRESET',\n  address: '::1',\n  port: 3000\n", "[::1]:3000 ECONNRESET"},
	{"Error: read ECONNRESET\n    at TCP.onStreamRead (node:internal/stream_base_commons:217:20)", "ECONNRESET"},
	// Java
	{`java.net.ConnectException: Connection refused: /10.0.0.9:5432`, "10.0.0.9:5432 ECONNREFUSED"},
	{`org.apache.http.conn.HttpHostConnectException: Connect to db.example.com:5432 [db.example.com/10.0.0.9] failed: Connection refused`, "10.0.0.9 port 5432 ECONNREFUSED"},
	{`io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: localhost/127.0.0.1:8080`, "127.0.0.1:8080 ECONNREFUSED"},
	{`[id: 0x1f3b, L:/10.0.0.5:33042 - R:/10.0.0.9:443] Connection reset by peer`, "10.0.0.5:33042 10.0.0.9:443 ECONNRESET"},
	{`[id: 0x1f, L:/[2001:db8:0:0:0:0:0:5]:33042 ! R:/[2001:db8:0:0:0:0:0:9]:443] EXCEPTION: java.net.SocketException: Broken pipe`, "[2001:db8::5]:33042 [2001:db8::9]:443 EPIPE"},
	// curl
	{`curl: (7) Failed to connect to 10.0.0.9 port 443 after 5 ms: Couldn't connect to server`, "10.0.0.9:443"},
	{`* connect to 10.0.0.9 port 443 from 10.0.0.5 port 33042 failed: Connection refused`, "10.0.0.9:443 10.0.0.5:33042 ECONNREFUSED"},
	{`* Connected to example.com (10.0.0.9) port 443 (#0)`, "10.0.0.9:443"},
	{`* Connected to example.com (2001:db8::9) port 443`, "[2001:db8::9]:443"},
	{`curl: (7) Failed to connect to example.com port 443 after 5 ms: Connection refused`, "port 443 ECONNREFUSED"},
	// databases
	{`could not receive data from client: Connection reset by peer`, "ECONNRESET"},
	{`2026-11-28 12:01:02.000 UTC [4211] app@db 10.0.0.5(33042) LOG:  could not send data to client: Broken pipe`, "10.0.0.5:33042 EPIPE"},
	{`LOG:  connection received: host=10.0.0.5 port=33042`, "10.0.0.5:33042"},
	{`psql: error: connection to server at "10.0.0.9", port 5432 failed: Connection refused`, "10.0.0.9:5432 ECONNREFUSED"},
	{`psql: error: connection to server at "localhost" (::1), port 5432 failed: Connection refused`, "[::1]:5432 ECONNREFUSED"},
	{`id=7 addr=10.0.0.5:33042 laddr=10.0.0.9:6379 fd=9 name= age=12 idle=0 flags=N cmd=get`, "10.0.0.5:33042 10.0.0.9:6379"},
	{`4211:M 28 Nov 2026 12:01:02.000 # Error reading from client 10.0.0.5:33042: Connection reset by peer`, "10.0.0.5:33042 ECONNRESET"},
	{`Could not connect to Redis at 127.0.0.1:6379: Connection refused`, "127.0.0.1:6379 ECONNREFUSED"},
	{`{"t":{"$date":"2026-11-28T12:01:02.000Z"},"s":"I","c":"NETWORK","msg":"Connection ended","attr":{"remote":"10.0.0.5:33042","connectionCount":1}}`, "10.0.0.5:33042"},
	// ssh
	{`sshd[4211]: Connection reset by 10.0.0.5 port 33042 [preauth]`, "10.0.0.5:33042 ECONNRESET"},
	{`Connection from 10.0.0.5 port 33042 on 10.0.0.9 port 22 rdomain ""`, "10.0.0.5:33042 10.0.0.9:22"},
	// structured logs
	{`{"remote_addr":"10.0.0.5","remote_port":"33042","status":502}`, "10.0.0.5:33042"},
	{`client=10.0.0.5#33042 query failed`, "10.0.0.5:33042"},
	// ss, netstat, lsof
	{`ESTAB      0      0           10.0.0.5:33042        10.0.0.9:443   users:(("app",pid=977,fd=7))`, "10.0.0.5:33042 10.0.0.9:443"},
	{`CLOSE-WAIT 1 0 [::ffff:10.0.0.5]:8080 [::ffff:10.0.0.9]:33042`, "10.0.0.5:8080 10.0.0.9:33042"},
	{`ESTAB 0 0 10.0.0.5%eth0:33042 10.0.0.9:443`, "10.0.0.5:33042 10.0.0.9:443"},
	{`LISTEN 0 4096 *:8080 *:*`, "port 8080"},
	{`tcp        0      0 10.0.0.5:33042          10.0.0.9:443            ESTABLISHED 977/app`, "10.0.0.5:33042 10.0.0.9:443"},
	{`tcp6       0      0 2001:db8::5:33042       2001:db8::9:443         TIME_WAIT   -`, "[2001:db8::5]:33042 [2001:db8::9]:443"},
	{`tcp6       0      0 :::8080                 :::*                    LISTEN      977/app`, "port 8080"},
	{`app 977 root 7u IPv4 1034434 0t0 TCP 10.0.0.5:33042->10.0.0.9:443 (ESTABLISHED)`, "10.0.0.5:33042 10.0.0.9:443"},
	// tcpdump, tshark, conntrack
	{`12:01:02.117345 IP 10.0.0.5.33042 > 10.0.0.9.443: Flags [R.], seq 1, ack 149, win 512, length 0`, "10.0.0.5:33042 10.0.0.9:443"},
	{`12:01:02.117345 IP6 2001:db8::5.33042 > 2001:db8::9.443: Flags [F.], seq 1, ack 149, win 512, length 0`, "[2001:db8::5]:33042 [2001:db8::9]:443"},
	{`ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.5 dst=10.0.0.9 sport=33042 dport=443 src=10.0.0.9 dst=10.1.1.1 sport=443 dport=33042 [ASSURED]`, "10.0.0.5:33042 10.0.0.9:443"},
	{`kernel: REJECT IN=eth0 OUT= SRC=10.0.0.5 DST=10.0.0.9 LEN=60 TOS=0x00 TTL=63 ID=1 DF PROTO=TCP SPT=33042 DPT=443 WINDOW=64240 SYN URGP=0`, "10.0.0.5:33042 10.0.0.9:443"},
	{`IN=eth0 SRC=2001:0db8:0000:0000:0000:0000:0000:0005 DST=2001:0db8:0000:0000:0000:0000:0000:0009 LEN=80 PROTO=TCP SPT=33042 DPT=443`, "[2001:db8::5]:33042 [2001:db8::9]:443"},
	{`22597 recordProg 10.0.0.5        46644 10.0.0.9        28527     0     0 0.23`, "10.0.0.5:46644 10.0.0.9:28527"},
	{"1795893703.1\tCHhAvVGS1DHFjwGM9\t10.0.0.5\t33042\t2001:db8::9\t443\ttcp\tssl\t-", "10.0.0.5:33042 [2001:db8::9]:443"},
	{`2 123456789010 eni-1235b8ca 10.0.0.5 10.0.0.9 33042 443 6 20 4249 1418530010 1418530070 ACCEPT OK`, "10.0.0.5:33042 10.0.0.9:443"},
	// Ruby, PHP, .NET, gRPC, brokers
	{`Errno::ECONNREFUSED: Failed to open TCP connection to 10.0.0.9:8080 (Connection refused - connect(2) for "10.0.0.9" port 8080)`, "10.0.0.9:8080 ECONNREFUSED"},
	{`stream_socket_client(): Unable to connect to tcp://10.0.0.9:9000 (Connection refused)`, "10.0.0.9:9000 ECONNREFUSED"},
	{`System.Net.Sockets.SocketException (111): Connection refused [::ffff:10.0.0.9]:5432`, "10.0.0.9:5432 ECONNREFUSED"},
	{`rpc error: code = Unavailable desc = error reading from server: read tcp 10.0.0.5:33042->10.0.0.9:443: read: connection reset by peer`, "10.0.0.5:33042 10.0.0.9:443 ECONNRESET"},
	{`ipv6:%5B2001:db8::9%5D:443: Failed to connect to remote host: Connection refused`, "[2001:db8::9]:443 ECONNREFUSED"},
	{`closing AMQP connection <0.1234.0> (10.0.0.5:33042 -> 10.0.0.9:5672, vhost: '/', user: 'app')`, "10.0.0.5:33042 10.0.0.9:5672"},
	{`Connection to node 1 (broker.example.com/10.0.0.9:9092) could not be established.`, "10.0.0.9:9092"},
	{`{"src_ip":"10.0.0.5","src_port":33042,"dest_ip":"10.0.0.9","dest_port":443,"proto":"TCP"}`, "10.0.0.5:33042 10.0.0.9:443"},
	{`net.peer.ip=10.0.0.9 net.peer.port=443 error.type=ECONNRESET`, "10.0.0.9:443 ECONNRESET"},
	// closetrace
	{`12:01:02.117  4211  nginx   10.0.0.5:443     10.0.0.9:51234   close → RST      148 B unread in the receive queue`, "10.0.0.5:443 10.0.0.9:51234"},
	{`{"schema_version":1,"time":"2026-11-28T12:01:02.5Z","mono_ns":15232,"path":"recv.rst","local":"10.0.0.5:33042","remote":"10.0.0.9:443","family":"ipv4"}`, "10.0.0.5:33042 10.0.0.9:443"},
	{`closetrace: 12:01:02.117  -  kernel  [2001:db8::5]:443  [2001:db8::9]:51234  RST in reply  9 B arrived`, "[2001:db8::5]:443 [2001:db8::9]:51234"},
	// what is left of it
	{`10.0.0.5:33042 10.0.0.9:443`, "exact 10.0.0.5:33042 10.0.0.9:443"},
	{`[2001:db8::5]:33042 [2001:db8::9]:443`, "exact [2001:db8::5]:33042 [2001:db8::9]:443"},
	{`10.0.0.9:443`, "exact 10.0.0.9:443"},
	{`:443`, "exact port 443"},
	{`443`, "exact port 443"},
	{`10.0.0.9`, "exact 10.0.0.9"},
	{`::1`, "exact ::1"},
	{`localhost:8080`, "exact port 8080"},
	{`2001:db8:1:2:3:4:5:6`, "exact 2001:db8:1:2:3:4:5:6"},
	// nothing
	{``, ""},
	{`12:01:02 nothing of the kind, version 1.2.3, v1.2.3.4, 1.2.3.4.5.6, 999.1.1.1:80`, ""},
	{`app.go:17: unexpected EOF`, "EOF"},
	{`read: Connection timed out`, "ETIMEDOUT"},
	{`10.0.0.9:99999 and 10.0.0.9:0`, "10.0.0.9"},
}

func TestParse(t *testing.T) {
	for _, tt := range lines {
		if got := describe(Parse(tt.text)); got != tt.want {
			t.Errorf("%s\ngot  %q\nwant %q", tt.text, got, tt.want)
		}
	}
}

func describe(l Line) string {
	var words []string
	if l.Exact {
		words = append(words, "exact")
	}
	for _, e := range l.Endpoints {
		words = append(words, e.String())
	}
	if l.Errno != "" {
		words = append(words, l.Errno)
	}
	return strings.Join(words, " ")
}

func TestTime(t *testing.T) {
	local := time.Local
	time.Local = time.FixedZone("", 3600)
	t.Cleanup(func() { time.Local = local })
	for text, want := range map[string]string{
		"2026/11/28 12:01:02 [error] 4211#0: recv() failed":          "2026-11-28T11:01:02Z",
		"2026-11-28 12:01:02,117 ERROR connection reset":             "2026-11-28T11:01:02.117Z",
		`{"time":"2026-11-28T12:01:02.117345Z","msg":"reset"}`:       "2026-11-28T12:01:02.117345Z",
		"2026-11-28T12:01:02+02:00 reset":                            "2026-11-28T10:01:02Z",
		"2026-11-28 12:01:02.000 UTC [4211] LOG:  could not send":    "2026-11-28T12:01:02Z",
		"2026-11-28 12:01:02.000 GMT [4211] LOG:  could not send":    "2026-11-28T12:01:02Z",
		"2026-11-28 12:01:02.5+00 could not send":                    "2026-11-28T12:01:02.5Z",
		"2026-11-28 12:01:02-05 could not send":                      "2026-11-28T17:01:02Z",
		"2026-11-28 12:01:02 +02 could not send":                     "2026-11-28T11:01:02Z",
		"10.0.0.5:1 [28/Nov/2026:12:01:02.655] fe be/s1":             "2026-11-28T11:01:02.655Z",
		`10.0.0.5 - - [28/Nov/2026:12:01:02 -0700] "GET / HTTP/1.1"`: "2026-11-28T19:01:02Z",
		"2026-13-41 12:01:02 no date":                                "0001-01-01T00:00:00Z",
		"12:01:02.117 no date":                                       "0001-01-01T00:00:00Z",
	} {
		if got := Parse(text).Time.UTC().Format(time.RFC3339Nano); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// A text of any size takes little time, and gives few endpoints.
func TestLimits(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("10.0.0.9:443 ", 1<<20), strings.Repeat("1", 1<<20), strings.Repeat("a:1 ", 1<<18),
		strings.Repeat("[", 1<<20), strings.Repeat("::", 1<<20), strings.Repeat("1.2.3.4 ", 1<<18),
	} {
		if n := len(Parse(text).Endpoints); n > maxEndpoints {
			t.Errorf("%.20s: %d endpoints", text, n)
		}
	}
}

// Whatever the text is, what is found in it can be printed and parsed again.
func FuzzParse(f *testing.F) {
	for _, tt := range lines {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line := Parse(text)
		if len(line.Endpoints) > maxEndpoints {
			t.Fatalf("%d endpoints", len(line.Endpoints))
		}
		for _, e := range line.Endpoints {
			shown := e.String()
			if e.Port == 0 && e.Addr.Is6() {
				shown = "[" + shown + "]" // without brackets, its end may be a port
			}
			again := Parse(shown)
			if len(again.Endpoints) != 1 || again.Endpoints[0] != e {
				t.Errorf("%q: %s is parsed as %v", text, e, again.Endpoints)
			}
		}
	})
}
