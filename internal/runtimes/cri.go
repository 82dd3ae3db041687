package runtimes

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/closetrace/closetrace/internal/events"
)

// askCRI uses the Container Runtime Interface of Kubernetes, version 1. That is gRPC;
// a call with one answer is an HTTP/2 POST, which needs no gRPC library: see
// docs/containers.md.
func askCRI(ctx context.Context, client *http.Client, id string) (*events.ContainerNames, error) {
	message := protowire.AppendString(protowire.AppendTag(nil, statusRequestID, protowire.BytesType), id)
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...) // 0: not compressed
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://localhost/runtime.v1.RuntimeService/ContainerStatus", bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers with HTTP status %d", response.StatusCode)
	}
	body, err := readAll(response.Body)
	if err != nil {
		return nil, err
	}
	// Without a message the header has what the trailer would.
	const ok, notFound = "0", "5"
	switch status := cmp.Or(response.Trailer.Get("Grpc-Status"), response.Header.Get("Grpc-Status")); status {
	case notFound:
		return nil, nil
	case ok:
	default:
		return nil, fmt.Errorf("it answers with gRPC status %q", bounded(status))
	}
	if len(body) < 5 || body[0] != 0 || binary.BigEndian.Uint32(body[1:]) != uint32(len(body)-5) {
		return nil, errUnreadable
	}
	return criNames(body[5:], id)
}

var errUnreadable = errors.New("its answer cannot be read")

// Field numbers of k8s.io/cri-api/pkg/apis/runtime/v1/api.proto.
const (
	statusRequestID = 1 // ContainerStatusRequest.container_id
	responseStatus  = 1 // ContainerStatusResponse.status

	statusID, statusMetadata, statusImage, statusLabels = 1, 2, 8, 12 // ContainerStatus

	metadataName                     = 1     // ContainerMetadata
	imageImage, imageAsUserSpecified = 1, 18 // ImageSpec
)

// criNames decodes a ContainerStatusResponse.
func criNames(message []byte, id string) (*events.ContainerNames, error) {
	response, err := fieldsOf(message, nil)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	status, err := fieldsOf(response[responseStatus], func(number protowire.Number, value []byte) error {
		if number != statusLabels {
			return nil
		}
		entry, err := fieldsOf(value, nil)
		labels[string(entry[1])] = string(entry[2]) // like every map
		return err
	})
	if err != nil {
		return nil, err
	}
	metadata, err := fieldsOf(status[statusMetadata], nil)
	if err != nil {
		return nil, err
	}
	image, err := fieldsOf(status[statusImage], nil)
	if err != nil {
		return nil, err
	}
	if string(status[statusID]) != id {
		return nil, nil
	}
	return &events.ContainerNames{
		Name:      bounded(string(metadata[metadataName])),
		Image:     bounded(cmp.Or(string(image[imageAsUserSpecified]), string(image[imageImage]))),
		Pod:       bounded(labels[labelPod]),
		Namespace: bounded(labels[labelNamespace]),
	}, nil
}

// fieldsOf returns the fields of a message that are strings or messages by number, the
// last one if there are several. It calls each, unless it is nil, for all of them.
func fieldsOf(message []byte, each func(protowire.Number, []byte) error) (map[protowire.Number][]byte, error) {
	fields := map[protowire.Number][]byte{}
	for len(message) > 0 {
		number, kind, length := protowire.ConsumeField(message)
		if length < 0 {
			return nil, errUnreadable
		}
		if kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(message)
			value, _ := protowire.ConsumeBytes(message[tag:])
			fields[number] = value
			if each != nil {
				if err := each(number, value); err != nil {
					return nil, err
				}
			}
		}
		message = message[length:]
	}
	return fields, nil
}
