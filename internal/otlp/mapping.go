package otlp

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/events"
)

// eventName is the name of each record.
const eventName = "closetrace.tcp.ending"

// prefix is that of the attributes for which OpenTelemetry has no name.
const prefix = "closetrace."

// maxText is the length of a value in bytes; a longer one is cut. Users choose names.
const maxText = 4096

// attributes maps fields of an ending's JSON to attributes that OpenTelemetry names: docs/opentelemetry.md. Every other
// field has its own name, after the prefix.
var attributes = map[string]string{
	"local_ip": "network.local.address", "local_port": "network.local.port",
	"remote_ip": "network.peer.address", "remote_port": "network.peer.port",
	"family":    "network.type",
	"actor.pid": "process.pid", "actor.tid": "thread.id", "actor.comm": "thread.name",
	"container.id": "container.id", "container.name": "container.name", "container.image": "container.image.name",
	"container.pod_uid": "k8s.pod.uid", "container.pod": "k8s.pod.name", "container.namespace": "k8s.namespace.name",
}

// elsewhere are the fields that are no attributes: they are other parts of the record, or of the resource, or the same
// as local_ip and its like.
var elsewhere = []string{"host", "boot_id", "time", "cause", "severity", "local", "remote"}

// severities maps an ending's severity to that of a record.
var severities = map[string]logs.SeverityNumber{
	"ok":     logs.SeverityNumber_SEVERITY_NUMBER_INFO,
	"notice": logs.SeverityNumber_SEVERITY_NUMBER_WARN,
	"error":  logs.SeverityNumber_SEVERITY_NUMBER_ERROR,
}

// words are the fields whose text is one of a few words, so that it names nobody. All other text is replaced when names
// are.
var words = []string{
	"path", "confidence", "trigger", "syscall", "owner_by", "connection_id", "family", "kernel_reason", "runtime",
	"before", "after", "tcp_options", "netfilter_hook",
}

// mapping turns endings into log records.
type mapping struct{ key *anonymize.Key }

// record returns the record of a queued ending.
func (m mapping) record(q *queued) (*logs.LogRecord, error) {
	decoder := json.NewDecoder(bytes.NewReader(q.ending))
	decoder.UseNumber()
	var fields map[string]any
	if err := decoder.Decode(&fields); err != nil {
		return nil, err
	}
	text := func(key string) string { s, _ := fields[key].(string); return s }
	at, err := time.Parse(time.RFC3339Nano, text("time"))
	if err != nil {
		return nil, err
	}
	r := &logs.LogRecord{
		TimeUnixNano: uint64(at.UnixNano()), ObservedTimeUnixNano: uint64(q.observed.UnixNano()),
		SeverityNumber: severities[text("severity")], SeverityText: text("severity"),
		Body: textValue(text("cause")), EventName: eventName,
	}
	if m.key != nil {
		r.Body = textValue(events.Path(text("path")).Info().Title) // the cause may have names in it
		delete(fields, "doubt")
	}
	if text("severity") == "error" {
		r.Attributes = append(r.Attributes, attribute("error.type", textValue(text("path"))))
	}
	for _, key := range elsewhere {
		delete(fields, key)
	}
	r.Attributes = m.object(append(r.Attributes, attribute("network.transport", textValue("tcp"))), "", fields)
	if q.workload != "" {
		r.Attributes = append(r.Attributes, attribute(prefix+"workload", textValue(m.key.Name(q.workload))))
	}
	if q.more > 0 {
		r.Attributes = append(r.Attributes, attribute(prefix+"collapsed", intValue(int64(q.more))))
	}
	return r, nil
}

// object appends the attributes of a JSON object whose fields begin with within, sorted.
func (m mapping) object(to []*common.KeyValue, within string, fields map[string]any) []*common.KeyValue {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if inner, ok := fields[key].(map[string]any); ok {
			to = m.object(to, within+key+".", inner)
			continue
		}
		name, ok := attributes[within+key]
		if !ok {
			name = prefix + within + key
		}
		if value := m.value(key, fields[key]); value != nil {
			to = append(to, attribute(name, value))
		}
	}
	return to
}

// value returns the value of a field that is no object, or nil if it has none.
func (m mapping) value(key string, value any) *common.AnyValue {
	switch v := value.(type) {
	case string:
		return textValue(m.text(key, v))
	case bool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v}}
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			return textValue(v.String()) // beyond 2⁶³
		}
		return intValue(n)
	case []any:
		array := &common.ArrayValue{}
		for _, element := range v {
			array.Values = append(array.Values, m.value(key, element))
		}
		return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: array}}
	}
	return nil
}

// text returns the text of a field, or what stands for it. Of an IPv4 address in an IPv6 socket that is the one on the
// wire, as the other end may have it.
func (m mapping) text(key, text string) string {
	switch {
	case strings.HasSuffix(key, "_ip"):
		if a, err := netip.ParseAddr(text); err == nil {
			return m.key.Address(a.Unmap())
		}
	case key == "peer_local":
		if a, err := netip.ParseAddrPort(text); err == nil && m.key != nil {
			return m.key.Address(a.Addr())
		}
	case slices.Contains(words, key):
		return text
	}
	return m.key.Name(text)
}

func attribute(name string, value *common.AnyValue) *common.KeyValue {
	return &common.KeyValue{Key: strings.ToValidUTF8(name, "\uFFFD"), Value: value}
}

func intValue(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

// textValue returns a text, cut to maxText bytes. Protocol buffers allow only UTF-8; a cgroup or what the environment
// says may be anything.
func textValue(text string) *common.AnyValue {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") // without the part of the last character
	}
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: text}}
}
