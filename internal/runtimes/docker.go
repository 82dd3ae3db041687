package runtimes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/closetrace/closetrace/internal/events"
)

// askDocker uses the API of Docker, which Podman implements.
func askDocker(ctx context.Context, client *http.Client, id string) (*events.ContainerNames, error) {
	// The host is a placeholder: dial connects to the socket.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/containers/"+id+"/json", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusNotFound:
		return nil, nil
	case http.StatusOK:
	default:
		return nil, fmt.Errorf("it answers with HTTP status %d", response.StatusCode)
	}
	text, err := readAll(response.Body)
	if err != nil {
		return nil, err
	}
	return dockerNames(text, id)
}

// dockerNames decodes the answer.
func dockerNames(text []byte, id string) (*events.ContainerNames, error) {
	var container struct {
		ID     string `json:"Id"`
		Name   string
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if err := json.Unmarshal(text, &container); err != nil {
		return nil, fmt.Errorf("its answer cannot be read: %w", err)
	}
	if container.ID != id {
		return nil, nil // a container whose name is this id
	}
	labels := container.Config.Labels
	return &events.ContainerNames{
		Name:      bounded(cmp.Or(labels[labelName], strings.TrimPrefix(container.Name, "/"))),
		Image:     bounded(container.Config.Image),
		Pod:       bounded(labels[labelPod]),
		Namespace: bounded(labels[labelNamespace]),
	}, nil
}

// readAll reads an answer of at most maxAnswer bytes.
func readAll(body io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("its answer has more than %d bytes", maxAnswer)
	}
	return text, err
}
