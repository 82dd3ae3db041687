package otlp

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"

	"github.com/closetrace/closetrace/internal/anonymize"
	"github.com/closetrace/closetrace/internal/events"
)

// The record of an ending has the mapped attributes, and every other field after the prefix.
func TestRecord(t *testing.T) {
	e := inPod()
	r := recordOf(t, nil, e)
	if r.TimeUnixNano != 1e18+5 || r.SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_ERROR ||
		r.SeverityText != "error" || r.EventName != eventName || r.Body.GetStringValue() != "9 B unread" {
		t.Errorf("%v", r)
	}
	got := attributesOf(r)
	for name, want := range map[string]string{
		"error.type": "close.rst.unread", "network.transport": "tcp", "network.type": "ipv4",
		"network.local.address": "10.0.0.5", "network.local.port": "443",
		"network.peer.address": "10.0.0.9", "network.peer.port": "33042",
		"process.pid": "7", "thread.id": "7", "thread.name": "nginx",
		"container.id": strings.Repeat("0f", 32), "container.name": "web", "container.image.name": "shop:1",
		"k8s.pod.uid": "01234567-89ab-cdef-0123-456789abcdef", "k8s.pod.name": "cart-0", "k8s.namespace.name": "shop",
		"closetrace.path": "close.rst.unread", "closetrace.connection_id": "0000000000000abc", "closetrace.rst": "true",
		"closetrace.evidence.unread_bytes": "9", "closetrace.state.before": "ESTABLISHED", "closetrace.workload": "shop/cart",
		"closetrace.collapsed": "3", "closetrace.schema_version": "1",
	} {
		if got[name] != want {
			t.Errorf("%s=%q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{
		"closetrace.local", "closetrace.time", "closetrace.cause", "closetrace.host", "closetrace.severity",
	} {
		if value, ok := got[name]; ok {
			t.Errorf("%s=%q stands elsewhere", name, value)
		}
	}
	if severity := recordOf(t, nil, ordinary(1)).SeverityNumber; severity != logs.SeverityNumber_SEVERITY_NUMBER_INFO {
		t.Errorf("an ordinary ending has severity %s", severity)
	}
}

// inPod is an abnormal ending of a connection of a pod.
func inPod() *events.Ending {
	e := reset(0xabc)
	e.Cgroup = "/kubepods.slice/kubepods-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-containerd-" +
		strings.Repeat("0f", 32) + ".scope"
	e.ContainerNames = &events.ContainerNames{Name: "web", Image: "shop:1", Pod: "cart-0", Namespace: "shop"}
	e.Local = netip.MustParseAddrPort("[::ffff:10.0.0.5]:443")
	e.Evidence.RST = &events.RSTHeaders{TTL: 64}
	e.Service = events.EndLocal
	return e
}

// docs/opentelemetry.md and the mapping have the same names.
func TestMappingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/opentelemetry.md")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile("`((?:network|process|thread|container|k8s)\\.[a-z.]+)`")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\| (.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, m := range name.FindAllStringSubmatch(row[2], -1) {
			documented = append(documented, m[1])
		}
	}
	var mapped []string
	for _, name := range attributes {
		mapped = append(mapped, name)
	}
	mapped = append(mapped, "network.transport")
	slices.Sort(documented)
	slices.Sort(mapped)
	if !slices.Equal(documented, mapped) {
		t.Errorf("docs/opentelemetry.md has\n%q\nthe mapping\n%q", documented, mapped)
	}
}

// With a key, a record has none of the names and addresses of an ending, wherever in it they are. Both ends still have
// the same hashes.
func TestAnonymized(t *testing.T) {
	key, err := anonymize.ParseKey("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	e := reset(1)
	fill(reflect.ValueOf(e).Elem(), 3)
	e.Path, e.Trigger, e.OwnerBy, e.Syscall = events.CloseRSTUnread, events.TriggerClose, events.OwnerByProc, "close"
	e.KernelReason, e.Evidence.NetfilterHook, e.Evidence.ICMP = "NOT_SPECIFIED", "INPUT", "ICMP port unreachable"
	e.Earlier.Path, e.Peer.Path = events.CloseFINActive, events.CloseFINActive
	e.Cgroup = "/secret.slice/secret.service"
	e.PeerLocal = netip.MustParseAddrPort("10.9.9.9:1")
	r := recordOf(t, key, e)
	for _, secret := range []string{"secret", "10.0.0.5", "10.0.0.9", "10.9.9.9"} {
		if text := r.String(); strings.Contains(text, secret) {
			t.Errorf("%s is in the record: %s", secret, text)
		}
	}
	if body := r.Body.GetStringValue(); body != events.CloseRSTUnread.Info().Title {
		t.Errorf("body %q", body)
	}
	other := reset(1)
	other.Local, other.Remote = e.Remote, netip.MustParseAddrPort("[::ffff:10.0.0.5]:443")
	here, there := attributesOf(r), attributesOf(recordOf(t, key, other))
	one, same := here["network.local.address"], there["network.peer.address"]
	if one != same || !strings.HasPrefix(one, "addr-") {
		t.Errorf("the ends do not join: %q, %q", one, same)
	}
	for name, want := range map[string]string{
		"closetrace.path": "close.rst.unread", "closetrace.trigger": "close", "closetrace.kernel_reason": "NOT_SPECIFIED",
		"closetrace.connection_id": "0000000000000007", "network.local.port": "443",
		"closetrace.evidence.netfilter_hook": "INPUT", "closetrace.evidence.icmp": "ICMP port unreachable",
	} {
		if here[name] != want {
			t.Errorf("%s=%q, want %q", name, here[name], want)
		}
	}
	if doubt, ok := here["closetrace.doubt"]; ok {
		t.Errorf("closetrace.doubt=%q: it may have names in it", doubt)
	}
}

// With a key, the resource does not name the host either, also where the environment does. What names no host is sent
// as given.
func TestAnonymizedResource(t *testing.T) {
	key, err := anonymize.ParseKey("0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"k8s.node.name": "secret", "k8s.cluster.name": "east", "service.name": "mine"}
	for _, named := range []string{"", "host.name", "host.id", "k8s.pod.name", "service.instance.id"} {
		o := Options{Key: key, Resource: maps.Clone(given)}
		if named != "" {
			o.Resource[named] = "secret"
		}
		resource := resourceOf(events.Header{Host: "secret", BootID: "secret"}, &o)
		if strings.Contains(resource.String(), "secret") {
			t.Errorf("%s: the resource has the name of the host: %s", named, resource)
		}
		got := map[string]string{}
		for _, a := range resource.Attributes {
			got[a.Key] = a.Value.GetStringValue()
		}
		if got["k8s.node.name"] != key.Name("secret") || got["host.name"] != got["k8s.node.name"] {
			t.Errorf("%s: the host is %q, its node %q", named, got["host.name"], got["k8s.node.name"])
		}
		if got["k8s.cluster.name"] != "east" || got["service.name"] != "mine" {
			t.Errorf("%s: what names no host differs: %v", named, got)
		}
		if _, ok := got["k8s.node.uid"]; ok {
			t.Errorf("%s: an attribute that nothing set: %v", named, got)
		}
	}
}

// fill sets every field of an ending but its time and addresses, also behind pointers, which it makes.
func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("secret")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Pointer:
		if depth > 0 && v.CanSet() {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			fill(v.Elem(), depth-1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.ValueOf([]string{"secret"}))
		}
	case reflect.Struct:
		if v.Type().PkgPath() == "net/netip" || v.Type().PkgPath() == "time" {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), depth)
		}
	}
}

// Text of any length and of any bytes becomes valid.
func TestHostileText(t *testing.T) {
	e := reset(1)
	e.Actor.Comm = "\x1b[2J\xff\x00"
	e.ContainerNames = &events.ContainerNames{Name: strings.Repeat("é", maxText)}
	e.Cgroup = "/" + strings.Repeat("0f", 32)
	q := queuedOf(e)
	q.workload = "\xff" + strings.Repeat("x", 2*maxText)
	r, err := newMapping(nil).record(q)
	if err != nil {
		t.Fatal(err)
	}
	x := made(t, Options{URL: "http://c"})
	x.sender.resource = resourceOf(events.Header{Host: "\xff"}, &Options{Resource: map[string]string{"\xfe": "\xfe"}})
	if _, err := x.sender.request([]*logs.LogRecord{r}); err != nil {
		t.Error(err)
	}
	for name, value := range attributesOf(r) {
		if len(value) > maxText {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
}

func queuedOf(e *events.Ending) *queued {
	encoder := events.NewEncoder()
	encoder.Begin(header)
	return &queued{ending: encoder.Append(nil, e), observed: time.Unix(1e9, 7), workload: "shop/cart", more: 3}
}

func recordOf(t *testing.T, key *anonymize.Key, e *events.Ending) *logs.LogRecord {
	t.Helper()
	r, err := newMapping(key).record(queuedOf(e))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// attributesOf returns the attributes of a record as text.
func attributesOf(r *logs.LogRecord) map[string]string {
	all := map[string]string{}
	for _, a := range r.Attributes {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			all[a.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_BoolValue:
			all[a.Key] = fmt.Sprint(v.BoolValue)
		}
	}
	return all
}

// BenchmarkRecord is what a record costs the goroutine that sends.
func BenchmarkRecord(b *testing.B) {
	q := queuedOf(inPod())
	b.SetBytes(int64(len(q.ending)))
	b.ReportAllocs()
	m := newMapping(nil)
	for b.Loop() {
		if _, err := m.record(q); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzAnswer: whatever a collector answers is an error or a number.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{})
	f.Add(refusing(3))
	f.Add(bytes.Repeat([]byte{0x0a, 0xff}, 99))
	f.Fuzz(func(t *testing.T, answer []byte) { refusedIn(answer) })
}
