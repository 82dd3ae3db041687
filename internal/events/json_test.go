package events

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// sample has every field set.
func sample() Ending {
	return Ending{
		Time: time.Date(2026, 11, 21, 12, 1, 2, 117345000, time.UTC), MonoNS: 81234567890,
		Path: "close.rst.unread", Title: "close → RST", Cause: `148 B unread; "quoted"`, Doubt: "not seen",
		Trigger: TriggerLastReference, Signal: 9, Syscall: "recvfrom",
		Actor: &Task{PID: 4211, TID: 4212, UID: 33, Comm: "nginx", Process: "master\x07"},
		Owner: &Task{PID: 1, TID: 1, Comm: "a\x1b[31m\xff\u202e\U000e0001"},
		Local: netip.MustParseAddrPort("10.0.0.5:443"), Remote: netip.MustParseAddrPort("[2001:db8::1]:51234"),
		Netns: 4026531840, ConnectionID: 0x1f, CgroupID: 7, Cgroup: "/docker/" + anID + "/system.slice/nginx.service", ActorCgroup: "/user.slice",
		ContainerNames: &ContainerNames{Name: "web\x1b[31m\u009b2J", Image: "nginx:1.25", Pod: "web-0", Namespace: "shop"},
		Before:         Established, After: Close, FIN: true, RST: true,
		KernelReason: "TCP_ABORT_ON_CLOSE", Harmless: true, DurationNS: 5210, RepliesLeftOut: 7,
		Earlier: &Past{
			Path:  "shutdown.wr",
			AgoNS: 5,
		}, Peer: &Past{
			Path: "close.rst.linger0", AgoNS: 6, Actor: &Task{PID: 2, Comm: "peer"}, Host: &Host{Name: "db\"1", BootID: "2"},
		},
		Host: &Host{Name: "web1", BootID: "1"}, PeerLocal: netip.MustParseAddrPort("10.1.1.1:5"),
		Evidence: Evidence{
			UnreadBytes: 148, UnsentBytes: 1, UnackedBytes: 2, BytesSent: 5678, BytesReceived: 1234, FINUnsent: true,
			LingerOn: true, Linger: 5 * time.Second, Linger2: -time.Second, Waited: time.Second, SockErr: 104, Errno: 107,
			PeerFIN: true, PeerFINAgo: time.Minute, Children: 1, ChildrenReset: 2, PendingRequests: 3, SegmentBytes: 4, UserTimeout: time.Second,
			Probes: 5, Retransmits: 6, Unanswered: true, Idle: 7 * time.Second, Retransmitting: 8 * time.Second, ICMP: "ICMP port unreachable",
			References: 2, OtherHolders: 1, SIGPIPE: true, MPTCP: true, NetfilterHook: "INPUT",
			LastReceived: 350 * time.Second, LastSent: 351 * time.Second, SRTT: 42 * time.Microsecond, Retransmitted: 7,
			SndNxt: 4000000001, RcvNxt: 4000000002, SegmentSeq: 4000000003, SegmentAck: 4000000004,
			RST: &RSTHeaders{TTL: 33, Window: 512, IPID: 4660, Options: 1<<8 | 1<<30},
		},
	}
}

func TestJSON(t *testing.T) {
	e := sample()
	text := string(e.AppendJSON(nil))
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for key, want := range map[string]any{
		"schema_version": 1.0, "time": "2026-11-21T12:01:02.117345Z", "mono_ns": 81234567890.0, "path": "close.rst.unread",
		"confidence": "inferred", "doubt": "not seen", "trigger": "last-reference", "syscall": "recvfrom", "signal": 9.0,
		"severity": "notice", "connection_id": "000000000000001f",
		"local": "10.0.0.5:443", "local_ip": "10.0.0.5", "local_port": 443.0,
		"remote": "[2001:db8::1]:51234", "remote_ip": "2001:db8::1", "remote_port": 51234.0, "family": "ipv4", "netns": 4026531840.0, "cgroup_id": 7.0,
		"fin": true, "rst": true, "rst_received": false, "kernel_reason": "TCP_ABORT_ON_CLOSE", "harmless": true, "duration_ns": 5210.0,
		"actor":  map[string]any{"pid": 4211.0, "tid": 4212.0, "uid": 33.0, "comm": "nginx", "process": "master\a"},
		"state":  map[string]any{"before": "ESTABLISHED", "after": "CLOSE"},
		"cgroup": "/docker/" + anID + "/system.slice/nginx.service", "actor_cgroup": "/user.slice", "unit": "nginx.service",
		"container": map[string]any{
			"id": anID, "runtime": "docker", "name": "web\x1b[31m\u009b2J", "image": "nginx:1.25", "pod": "web-0", "namespace": "shop",
		},
		"earlier": map[string]any{"path": "shutdown.wr", "ago_ns": 5.0}, "host": "web1", "boot_id": "1",
		"peer_local": "10.1.1.1:5",
		"peer": map[string]any{
			"path": "close.rst.linger0", "ago_ns": 6.0, "host": "db\"1", "boot_id": "2",
			"actor": map[string]any{"pid": 2.0, "tid": 0.0, "uid": 0.0, "comm": "peer"},
		},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	// Every field of the evidence is there: a new one must not be forgotten.
	evidence, _ := got["evidence"].(map[string]any)
	fields := reflect.TypeFor[Evidence]().NumField() - 1 + 3 // linger_ms implies LingerOn, RST has four
	if len(evidence) != fields {
		t.Errorf("evidence has %d keys of %d: %v", len(evidence), fields, evidence)
	}
	for key, want := range map[string]any{
		"last_received_ms": 350000.0, "last_sent_ms": 351000.0, "srtt_us": 42.0, "retransmitted": 7.0,
		"snd_nxt": 4000000001.0, "rcv_nxt": 4000000002.0, "segment_seq": 4000000003.0, "segment_ack": 4000000004.0,
		"ttl": 33.0, "window": 512.0, "ip_id": 4660.0, "tcp_options": []any{"timestamps", "mptcp"},
	} {
		if !reflect.DeepEqual(evidence[key], want) {
			t.Errorf("%s is %v, want %v", key, evidence[key], want)
		}
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f || r == 0x202e || r == 0xe0001 {
			t.Errorf("%U reaches the terminal raw", r)
		}
	}
}

// Each line of a stream of several hosts has its own.
func TestHosts(t *testing.T) {
	a, b := &Host{Name: "a", BootID: "1"}, &Host{Name: "b"}
	c := NewEncoder()
	for _, of := range []*Host{a, a, b, a} {
		e := sample()
		e.Host = of
		var got struct {
			Host   string `json:"host"`
			BootID string `json:"boot_id"`
		}
		if err := json.Unmarshal(c.Append(nil, &e), &got); err != nil || got.Host != of.Name || got.BootID != of.BootID {
			t.Errorf("%+v, want %+v: %v", got, of, err)
		}
	}
}

// What is common is written without a look at what is rare.
func TestJSONOfRareEvidence(t *testing.T) {
	whole := reflect.ValueOf(sample().Evidence)
	seen := map[string]bool{}
	for i := range whole.NumField() {
		name := whole.Type().Field(i).Name
		var e Ending
		v := reflect.ValueOf(&e.Evidence).Elem()
		v.Field(i).Set(whole.Field(i))
		if name == "Linger" {
			continue // is told with LingerOn
		}
		text := string(e.AppendJSON(nil))
		if !json.Valid([]byte(text)) || seen[text] || text == string(new(Ending).AppendJSON(nil)) {
			t.Errorf("%s does not show: %s", name, text)
		}
		seen[text] = true
	}
}

func TestJSONLeavesOut(t *testing.T) {
	text := string((&Ending{Path: "reply.nosocket", Trigger: TriggerSegment, RST: true}).AppendJSON(nil))
	if !json.Valid([]byte(text)) {
		t.Fatal(text)
	}
	for _, key := range []string{
		"actor", "owner", "state", "earlier", "peer", "doubt", "signal", "kernel_reason", "linger_ms", "duration_ns", "local", "cgroup_id", "cgroup", "actor_cgroup", "container", "unit", "harmless",
	} {
		if strings.Contains(text, `"`+key+`"`) {
			t.Errorf("%s does not apply, but is there: %s", key, text)
		}
	}
}

func TestJSONOfContainers(t *testing.T) {
	for path, want := range map[string]string{
		"/kubepods/pod" + aUID + "/" + anID: `,"container":{"id":"` + anID + `","pod_uid":"` + aUID + `"},`,
		"/kubepods/pod" + aUID:              `,"container":{"pod_uid":"` + aUID + `"},`,
		"/system.slice/nginx.service":       `,"cgroup":"/system.slice/nginx.service","unit":"nginx.service","fin"`,
		"/":                                 `,"cgroup":"/","fin"`,
	} {
		text := string((&Ending{Cgroup: path}).AppendJSON(nil))
		if !json.Valid([]byte(text)) || !strings.Contains(text, want) {
			t.Errorf("%s: want %s in %s", path, want, text)
		}
	}
}

func TestNames(t *testing.T) {
	for k := KindClose; k.Valid(); k++ {
		text, _ := k.MarshalText()
		var back Kind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Errorf("kind %d is %q, which is read as %d: %v", k, text, back, err)
		}
	}
	flags := SentFIN | Repair | ReturnUnseen
	text, _ := flags.MarshalText()
	var back Flags
	if err := back.UnmarshalText(text); err != nil || back != flags {
		t.Errorf("flags %q are read as %v: %v", text, back, err)
	}
	var s State
	if err := s.UnmarshalText([]byte("EST")); err == nil {
		t.Error("an unknown state was accepted")
	}
	if got := State(99).String(); got != "unknown-99" {
		t.Errorf("an unknown state is %q", got)
	}
}
