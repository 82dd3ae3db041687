package otlp

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/events"
)

// added is how many attributes a record has at most that are no fields.
const added = 4

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
	"before", "after", "tcp_options", "netfilter_hook", "icmp",
}

// mapping turns endings into log records. Not for concurrent use.
type mapping struct {
	key     *anonymize.Key
	decoder jsontext.Decoder
	names   map[string]*fieldName // by path
	path    []byte                // of the last field
	fields  []field               // of the last ending
}

func newMapping(key *anonymize.Key) *mapping {
	return &mapping{key: key, names: map[string]*fieldName{}}
}

// record returns the record of a queued ending.
func (m *mapping) record(q *queued) (*logs.LogRecord, error) {
	if err := m.read(q.ending); err != nil {
		return nil, err
	}
	at, err := time.Parse(time.RFC3339Nano, m.textOf("time"))
	if err != nil {
		return nil, err
	}
	severity, path := m.textOf("severity"), m.textOf("path")
	r := &logs.LogRecord{
		TimeUnixNano: uint64(at.UnixNano()), ObservedTimeUnixNano: uint64(q.observed.UnixNano()),
		SeverityNumber: severities[severity], SeverityText: severity,
		Body: textValue(m.textOf("cause")), EventName: eventName,
		Attributes: make([]*common.KeyValue, 0, len(m.fields)+added),
	}
	if m.key != nil {
		r.Body = textValue(events.Path(path).Info().Title) // the cause may have names in it
	}
	add := func(name string, value *common.AnyValue) { r.Attributes = append(r.Attributes, attribute(name, value)) }
	if severity == "error" {
		add("error.type", textValue(path))
	}
	add("network.transport", textValue("tcp"))
	for _, f := range m.fields {
		if f.attribute != "" {
			add(f.attribute, f.value)
		}
	}
	if q.workload != "" {
		add(prefix+"workload", textValue(m.key.Name(q.workload)))
	}
	if q.more > 0 {
		add(prefix+"collapsed", intValue(int64(q.more)))
	}
	return r, nil
}

// textOf returns the text of a field of the ending, "" if it has none.
func (m *mapping) textOf(path string) string {
	for _, f := range m.fields {
		if f.path == path {
			return f.value.GetStringValue()
		}
	}
	return ""
}

// attributeOf returns the name of the attribute of a field, "" if it is none.
func (m *mapping) attributeOf(path string) string {
	if slices.Contains(elsewhere, path) || m.key != nil && path == "doubt" {
		return ""
	}
	if name, ok := attributes[path]; ok {
		return name
	}
	return prefix + path
}

// text returns the text of a field, or what stands for it. Of an IPv4 address in an IPv6 socket that is the one on the
// wire, as the other end may have it.
func (m *mapping) text(name *fieldName, text string) string {
	switch key := name.key; {
	case name.attribute == "": // record decides what of it is sent
		return text
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
