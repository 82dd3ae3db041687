package runtimes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	anID      = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	anotherID = "1f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
)

// serve answers on a unix socket, over HTTP/1 and over HTTP/2 like gRPC.
func serve(t *testing.T, handler http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	at, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { server.Close() })
	go func() { _ = server.Serve(at) }()
	return socket
}

// at returns an environment in which all runtimes use one socket.
func at(socket string) func(string) string {
	return func(name string) string { return "unix://" + socket }
}

// aDocker answers like Docker and Podman, in short.
func aDocker(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.URL.Path != "/containers/"+anID+"/json" {
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, `{"Id":%q,"Created":"2026-11-21T16:01:06Z","State":{"Pid":7},"Name":"/web","Image":"sha256:1",
		"Config":{"Image":"nginx:1.25","Env":["A=B"],"Labels":{"io.kubernetes.pod.name":"web-0"}}}`, anID)
}

// aCRI answers like a gRPC server: a message, or only a status.
func aCRI(t *testing.T) http.HandlerFunc {
	// As k8s.io/cri-api 0.37 writes it.
	message, err := os.ReadFile("testdata/container-status.pb")
	if err != nil {
		t.Fatal(err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		switch {
		case r.URL.Path != "/runtime.v1.RuntimeService/ContainerStatus" || r.Header.Get("TE") != "trailers" ||
			r.Header.Get("Content-Type") != "application/grpc" || len(body) < 7 ||
			int(binary.BigEndian.Uint32(body[1:])) != len(body)-5:
			w.Header().Set("Grpc-Status", "12")
		case string(body[7:]) != anID:
			w.Header().Set("Grpc-Status", "5")
		default:
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write(framed(message))
			w.Header().Set("Grpc-Status", "0")
		}
	}
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

func TestAsk(t *testing.T) {
	docker := events.ContainerNames{Name: "web", Image: "nginx:1.25", Pod: "web-0"}
	cri := events.ContainerNames{Name: "app", Image: "nginx:1.25", Pod: "web-0", Namespace: "shop"}
	apis := System(at(serve(t, aDocker)))[:2]
	apis = append(apis, System(at(serve(t, aCRI(t))))[2:]...)
	for runtime, want := range map[string]events.ContainerNames{
		"docker": docker, "podman": docker, "containerd": cri, "cri-o": cri, "": docker,
	} {
		names, err := Ask(apis, events.Container{ID: anID, Runtime: runtime})
		if err != nil || names == nil || *names != want {
			t.Errorf("%q: %+v, %v, want %+v", runtime, names, err, want)
		}
		if names, err := Ask(apis, events.Container{ID: anotherID, Runtime: runtime}); names != nil || err != nil {
			t.Errorf("%q, another container: %+v, %v", runtime, names, err)
		}
	}
	if s := cri.String(); s != "shop/web-0/app" {
		t.Errorf("called %q", s)
	}
}

// An unexpected answer is an error. closetrace does not wait for it or read it without
// limit.
func TestBadAnswers(t *testing.T) {
	apis := System(at(filepath.Join(t.TempDir(), "none")))
	for _, a := range apis {
		if _, err := Ask(apis, events.Container{ID: anID, Runtime: a.Runtime}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is absent: %v", a.Runtime, err)
		}
	}
	remote := System(func(string) string { return "tcp://10.0.0.5:2375" })
	if _, err := Ask(remote, events.Container{ID: anID}); err == nil || !strings.Contains(err.Error(), "tcp://") {
		t.Errorf("no unix socket: %v", err)
	}
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for name, handler := range map[string]http.HandlerFunc{
		"refusing":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"elsewhere":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
		"garbage":     write("\x1b[31m\x80{"),
		"cut":         write(`{"Id":"0f`),
		"frame":       write("\x00\x00\x00\x00\x09\x0a"),
		"message":     write(string(framed([]byte("\x0a\xff\x01x")))),
		"no end":      func(w http.ResponseWriter, _ *http.Request) { endless(w) },
		"another one": write(`{"Id":"` + anotherID + `","Name":"/web"}`),
		"unimplemented": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "12")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apis := System(at(serve(t, handler)))
			for _, a := range apis {
				names, err := Ask(apis, events.Container{ID: anID, Runtime: a.Runtime})
				fine := name == "another one" && (a.Runtime == "docker" || a.Runtime == "podman")
				if names != nil || (err == nil) != fine {
					t.Errorf("%s: %+v, %v", a.Runtime, names, err)
				}
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	hold := make(chan bool)
	socket := serve(t, func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	for _, a := range System(at(socket)) {
		a.limit = 10 * time.Millisecond
		_, err := a.names(anID)
		if want := "no answer within 10ms from " + socket; err == nil || err.Error() != want {
			t.Errorf("%s: %v", a.Runtime, err)
		}
	}
}

// endless writes until the client closes the connection.
func endless(w io.Writer) {
	text := []byte(strings.Repeat(" ", 1<<16))
	for {
		if _, err := w.Write(text); err != nil {
			return
		}
	}
}

// Names have a maximum size and are valid UTF-8.
func TestNamesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 10*512)
	names, err := dockerNames([]byte(`{"Id":"`+anID+`","Name":"/`+long+`","Config":{"Image":"\u0080`+"\x80"+`"}}`), anID)
	if err != nil || len(names.Name) > 512+3 || names.Image != "\u0080\uFFFD" {
		t.Errorf("%+v, %v", names, err)
	}
	status := protowire.AppendString(protowire.AppendTag(nil, statusID, protowire.BytesType), anID)
	metadata := protowire.AppendString(protowire.AppendTag(nil, metadataName, protowire.BytesType), "\x80")
	status = protowire.AppendBytes(protowire.AppendTag(status, statusMetadata, protowire.BytesType), metadata)
	field := protowire.AppendTag(nil, responseStatus, protowire.BytesType)
	names, err = criNames(protowire.AppendBytes(field, status), anID)
	if err != nil || names.Name != "\uFFFD" {
		t.Errorf("%+v, %v", names, err)
	}
}

func event(runtime, id string) *events.Event {
	return &events.Event{CgroupID: 7, SocketCgroupID: 7, Cgroup: "/" + runtime + "-" + id + ".scope"}
}

// A runtime is asked once per container, and not for processes outside of containers.
func TestNamesAskOnce(t *testing.T) {
	n := New(nil, time.Hour, slog.New(slog.DiscardHandler))
	asked := 0
	n.ask = func(c events.Container) (*events.ContainerNames, error) {
		asked++
		if c.ID == anotherID {
			return nil, nil
		}
		return &events.ContainerNames{Name: "web"}, nil
	}
	for range 3 {
		ev := event("docker", anID)
		if n.Resolve(ev); ev.ContainerNames == nil || ev.ContainerNames.Name != "web" {
			t.Fatalf("names %+v", ev.ContainerNames)
		}
		for _, ev := range []*events.Event{
			event("docker", anotherID), event("docker", "shorter"), {Cgroup: "/lxc.payload.web"},
			{SocketCgroupID: 7, CgroupID: 8, Cgroup: "/docker-" + strings.Repeat("a", 64) + ".scope"}, // the actor's
		} {
			if n.Resolve(ev); ev.ContainerNames != nil {
				t.Errorf("%s is called %+v", ev.Cgroup, ev.ContainerNames)
			}
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// A runtime that does not answer delays one event only, and is logged once.
func TestNamesDoNotWait(t *testing.T) {
	var said strings.Builder
	n := New(nil, time.Millisecond, slog.New(slog.NewTextHandler(&said, nil)))
	release := make(chan bool)
	n.ask = func(events.Container) (*events.ContainerNames, error) {
		<-release
		return nil, errors.New("it hangs")
	}
	for i := range 100 {
		ev := event("docker", fmt.Sprintf("%064x", i))
		if n.Resolve(ev); ev.ContainerNames != nil {
			t.Fatalf("named %+v", ev.ContainerNames)
		}
		n.timeout = time.Hour // only the first event would wait
	}
	if n.inFlight != 4 {
		t.Errorf("%d requests at a time, want 4", n.inFlight)
	}
	close(release)
	for n.inFlight > 0 {
		n.collect(time.Hour)
	}
	for range 3 {
		n.Resolve(event("docker", anID)) // which is not asked again yet
	}
	if n.inFlight != 0 || strings.Count(said.String(), "it hangs") != 1 {
		t.Errorf("%d asked, said:\n%s", n.inFlight, said.String())
	}
	n.retryAt["docker"] = time.Now()
	n.ask = func(events.Container) (*events.ContainerNames, error) {
		return &events.ContainerNames{Name: "web"}, nil
	}
	ev := event("docker", anID)
	if n.Resolve(ev); ev.ContainerNames == nil {
		t.Error("not asked again")
	}
}

func TestNamesAreForgotten(t *testing.T) {
	n := New(nil, time.Hour, slog.New(slog.DiscardHandler))
	n.ask = func(events.Container) (*events.ContainerNames, error) { return nil, nil }
	for i := range 5_000 {
		n.Resolve(event("docker", fmt.Sprintf("%064x", i)))
	}
	if len(n.names) > 4_096 {
		t.Errorf("%d names are kept in memory, want at most 4,096", len(n.names))
	}
}

func FuzzNames(f *testing.F) {
	message, err := os.ReadFile("testdata/container-status.pb")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add([]byte(`{"Id":"` + anID + `","Name":"/web"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = criNames(text, anID)
		_, _ = dockerNames(text, anID)
	})
}

// Absent says why no runtime can be asked.
func TestAbsent(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "absent")
	refuses := filepath.Join(t.TempDir(), "refuses")
	at, err := net.ListenUnix("unix", &net.UnixAddr{Name: refuses})
	if err != nil {
		t.Fatal(err)
	}
	at.SetUnlinkOnClose(false)
	at.Close()
	apis := func(docker, others string) []*API {
		return System(func(name string) string {
			if name == "DOCKER_HOST" {
				return docker
			}
			return others
		})
	}
	for name, tt := range map[string]struct{ docker, others, want string }{
		"one answers":     {nowhere, serve(t, aDocker), ""},
		"none":            {nowhere, nowhere, nowhere + ": connect: no such file or directory"},
		"one refuses":     {refuses, nowhere, refuses + ": connect: connection refused"},
		"a host":          {"tcp://10.0.0.9:2375", nowhere, "DOCKER_HOST=tcp://10.0.0.9:2375 is not a unix socket"},
		"a host, and one": {"tcp://10.0.0.9:2375", serve(t, aDocker), ""},
	} {
		err := Absent(apis(tt.docker, tt.others))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
