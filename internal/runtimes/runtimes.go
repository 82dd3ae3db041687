// Package runtimes finds containers, and gets their names from the runtimes' APIs on
// unix sockets. It opens no socket before it is asked for a name, or whether any runtime is there.
//
// The user who made a container, and any process that listens on the socket, control
// the answers. This package limits their size, and sinks escape them.
package runtimes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/rights"
)

const (
	// limit is the timeout of a request.
	limit = 2 * time.Second
	// maxAnswer is the maximum size of an answer in bytes. An answer contains the
	// whole configuration of a container, for example its environment.
	maxAnswer = 1 << 20
	// maxName is the maximum size of a name in bytes: twice that of Kubernetes.
	maxName = 512
)

// API is the API of a container runtime.
type API struct {
	Runtime  string   // as in [events.Container]
	Sockets  []string // paths; the first that exists is used
	Unusable error    // if set, why none can be used
	ask      request
	client   *http.Client
	limit    time.Duration
	absent   bool // see [Absent]
}

// request asks for the names of the container with this id. It returns nil if the
// runtime has no such container.
type request func(ctx context.Context, client *http.Client, id string) (*events.ContainerNames, error)

// System returns the APIs of the supported runtimes, at the sockets that the
// environment names, or otherwise at those of the runtimes' packages.
func System(getenv func(string) string) []*API {
	return []*API{
		newAPI("docker", getenv, "DOCKER_HOST", false, askDocker, "/run/docker.sock"),
		newAPI("podman", getenv, "CONTAINER_HOST", false, askDocker, "/run/podman/podman.sock"),
		newAPI("containerd", getenv, "CONTAINER_RUNTIME_ENDPOINT", true, askCRI,
			"/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"),
		newAPI("cri-o", getenv, "CONTAINER_RUNTIME_ENDPOINT", true, askCRI, "/run/crio/crio.sock"),
	}
}

func newAPI(runtime string, getenv func(string) string, variable string, grpc bool, ask request, usual ...string) *API {
	a := &API{Runtime: runtime, Sockets: usual, ask: ask, limit: limit}
	if place := getenv(variable); place != "" {
		path, ok := strings.CutPrefix(place, "unix://")
		if a.Sockets = []string{path}; !ok && !strings.HasPrefix(place, "/") {
			a.Unusable = fmt.Errorf("%s=%s is not a unix socket", variable, place)
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

// dial connects to the first socket that exists, with the rights of the user, who
// may have named it.
func (a *API) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var failed error
	for _, socket := range a.Sockets {
		var conn net.Conn
		err := rights.AsUser(func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socket)
			return err
		})
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
	var place *url.Error
	if errors.As(err, &place) {
		err = place.Err // the URL is a placeholder
	}
	var net *net.OpError
	if errors.As(err, &net) {
		err = net
	} else if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %v from %s", a.limit, strings.Join(a.Sockets, ", "))
	}
	return names, err
}

// Ask returns the names that the container's runtime has for it, or the first of all
// runtimes if its runtime is unknown. It returns nil if they have no such container.
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

// Absent returns why no runtime can be asked, or nil if one accepts a connection.
func Absent(apis []*API) error {
	var reason error
	for _, a := range apis {
		err := a.connect()
		if err == nil {
			return nil
		}
		// A socket that refuses says more than one that is not there.
		if reason == nil || !errors.Is(err, fs.ErrNotExist) {
			reason = err
		}
	}
	for _, a := range apis {
		a.absent = true
	}
	return reason
}

// connect reports whether the runtime accepts a connection.
func (a *API) connect() error {
	if a.Unusable != nil {
		return a.Unusable
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.limit)
	defer cancel()
	conn, err := a.dial(ctx, "", "")
	if err != nil {
		return err
	}
	return conn.Close()
}

// bounded returns a name as a recording can contain it.
func bounded(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}

// The labels that Kubernetes gives a container.
const (
	labelName      = "io.kubernetes.container.name"
	labelPod       = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
)
