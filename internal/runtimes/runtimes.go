// Package runtimes asks container runtimes what a container is called, by their
// APIs on unix sockets. It asks nobody before it is told to.
//
// What they answer is under the control of whoever made the container, and of
// whoever listens at the socket: it is bounded here, and escaped where it is shown.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

const (
	// limit is how long a question may take.
	limit = 2 * time.Second
	// maxAnswer is how large an answer may be, in bytes. What a container was made
	// of is in it, as its environment.
	maxAnswer = 1 << 20
	// maxName is how much of a name is taken, in bytes: twice that of Kubernetes.
	maxName = 512
)

// API is that of a container runtime.
type API struct {
	Runtime string   // as events.Container has it
	Sockets []string // the first one that is there is asked
	// Unusable, if set, is why none can be asked.
	Unusable error
	ask      question
	client   *http.Client
	limit    time.Duration
}

// question asks what the container with this id is called. It returns nil if the
// runtime has no such container.
type question func(ctx context.Context, client *http.Client, id string) (*events.ContainerNames, error)

// System returns the APIs of the runtimes whose containers closetrace knows, at the
// sockets that the environment tells, or else where packages have them.
func System(getenv func(string) string) []*API {
	return []*API{
		newAPI("docker", getenv, "DOCKER_HOST", false, askDocker, "/run/docker.sock"),
		newAPI("podman", getenv, "CONTAINER_HOST", false, askDocker, "/run/podman/podman.sock"),
		newAPI("containerd", getenv, "CONTAINER_RUNTIME_ENDPOINT", true, askCRI,
			"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"),
		newAPI("cri-o", getenv, "CONTAINER_RUNTIME_ENDPOINT", true, askCRI, "/run/crio/crio.sock"),
	}
}

func newAPI(runtime string, getenv func(string) string, variable string, grpc bool, ask question, usual ...string) *API {
	a := &API{Runtime: runtime, Sockets: usual, ask: ask, limit: limit}
	if place := getenv(variable); place != "" {
		path, ok := strings.CutPrefix(place, "unix://")
		if a.Sockets = []string{path}; !ok && !strings.HasPrefix(place, "/") {
			a.Unusable = fmt.Errorf("%s=%s is no unix socket", variable, place)
		}
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!grpc)
	protocols.SetUnencryptedHTTP2(grpc)
	a.client = &http.Client{
		Transport: &http.Transport{
			Protocols: protocols, DialContext: a.dial, DisableCompression: true,
			MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a
}

// dial reaches the first socket that is there.
func (a *API) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var failed error
	for _, socket := range a.Sockets {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if !errors.Is(err, fs.ErrNotExist) {
			return conn, err
		}
		failed = err
	}
	return nil, failed
}

func (a *API) names(id string) (*events.ContainerNames, error) {
	if a.Unusable != nil {
		return nil, a.Unusable
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.limit)
	defer cancel()
	names, err := a.ask(ctx, a.client, id)
	var net *net.OpError
	if errors.As(err, &net) {
		err = net // without the made-up URL
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v from %s", a.limit, strings.Join(a.Sockets, ", "))
	}
	return names, err
}

// Ask asks the container's runtime what it is called, or all of them where that is
// not known. It returns nil if they have no such container.
func Ask(apis []*API, c events.Container) (*events.ContainerNames, error) {
	var absent, failed error
	answered := false
	for _, a := range apis {
		if c.Runtime != "" && c.Runtime != a.Runtime {
			continue
		}
		names, err := a.names(c.ID)
		switch {
		case names != nil:
			return names, nil
		case errors.Is(err, fs.ErrNotExist):
			absent = err
		case err != nil:
			failed = err
		default:
			answered = true
		}
	}
	if failed == nil && !answered {
		failed = absent
	}
	return nil, failed
}

// bounded is a name as a record can hold it.
func bounded(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}

// The labels by which Kubernetes tells a runtime whose container it is.
const (
	labelName      = "io.kubernetes.container.name"
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
)
