package otlp

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"golang.org/x/net/http/httpguts"

	"github.com/closetrace/closetrace/internal/events"
	"github.com/closetrace/closetrace/internal/hint"
	"github.com/closetrace/closetrace/internal/version"
)

// The variables of OpenTelemetry that hold lists of key=value.
const (
	HeadersVariable  = "OTEL_EXPORTER_OTLP_HEADERS"
	ResourceVariable = "OTEL_RESOURCE_ATTRIBUTES"
)

// ParseList parses what OpenTelemetry's variables hold: key=value, separated by commas, with percent-encoded values.
// variable is the name of the variable.
func ParseList(variable, text string) (map[string]string, error) {
	list := map[string]string{}
	for item := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		key, encoded, ok := strings.Cut(item, "=")
		key = strings.TrimSpace(key)
		value, err := url.PathUnescape(strings.TrimSpace(encoded))
		if !ok || key == "" || err != nil {
			return nil, hint.New(hint.Usage, fmt.Sprintf("%s: item %d is not key=value", variable, len(list)+1),
				"separate items with commas, and percent-encode values")
		}
		list[key] = value
	}
	return list, nil
}

// ParseHeaders parses the headers of requests, as [ParseList] does. One that HTTP does not allow is an error. It
// does not show the value, which may be secret.
func ParseHeaders(text string) (map[string]string, error) {
	headers, err := ParseList(HeadersVariable, text)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(headers[name]) {
			return nil, hint.New(hint.Usage,
				fmt.Sprintf("%s: HTTP does not allow the header %q", HeadersVariable, name),
				"a name has letters, digits and -, and a value has no line breaks")
		}
	}
	return headers, nil
}

// hostNames are the attributes of a resource that name or address the host, or the pod or container that closetrace
// runs in. With a key they are replaced, also if the user set them: the Helm chart sets two.
var hostNames = []string{
	"host.name", "host.id", "host.ip", "host.mac", "service.instance.id", "container.id", "container.name",
	"k8s.node.name", "k8s.node.uid", "k8s.pod.name", "k8s.pod.uid", "k8s.pod.ip",
}

// resourceOf returns what all records of a host have in common.
func resourceOf(h events.Header, o *Options) *resource.Resource {
	all := map[string]string{
		"service.name": "closetrace", "service.version": version.Build().Version,
		"os.type": "linux", "os.version": h.Kernel,
		"host.name": h.Host, prefix + "boot_id": o.Key.Name(h.BootID), prefix + "attach": h.Attach,
	}
	maps.Copy(all, o.Resource)
	for _, key := range hostNames {
		all[key] = o.Key.Name(all[key]) // "" stays "", and is left out below
	}
	r := &resource.Resource{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if all[key] != "" {
			r.Attributes = append(r.Attributes, attribute(key, textValue(all[key])))
		}
	}
	return r
}
