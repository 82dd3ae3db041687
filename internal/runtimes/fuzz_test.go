package runtimes

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
	"unicode/utf8"
)

// Any bytes from a runtime's socket, in either protocol, give names that are short and text, or an error within the
// limit.
func FuzzAnswer(f *testing.F) {
	message, err := os.ReadFile("testdata/container-status.pb")
	if err != nil {
		f.Fatal(err)
	}
	body := `{"Id":"` + anID + `","Name":"/web"}`
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n" + body))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n"))
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n"))
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // frames of HTTP/2
	f.Add([]byte(settings + "\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\xff" + string(message)))
	apis := System(func(string) string { return "" })
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, a := range apis {
			transport := a.client.Transport.(*http.Transport)
			transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, server) }()
				go func() {
					_, _ = server.Write(answer)
					server.Close()
				}()
				return client, nil
			}
			begin := time.Now()
			names, _ := a.names(anID) // any error will do
			transport.CloseIdleConnections()
			if took := time.Since(begin); took > 2*limit {
				t.Errorf("%s: no end after %v", a.Runtime, took)
			}
			if names == nil {
				continue
			}
			for _, name := range []string{names.Name, names.Image, names.Pod, names.Namespace} {
				if len(name) > maxName+len("…") || !utf8.ValidString(name) {
					t.Errorf("%s: name %q", a.Runtime, name)
				}
			}
		}
	})
}
