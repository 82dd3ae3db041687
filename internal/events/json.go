package events

import (
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendJSON appends the ending as one JSON object, without a newline. Fields that do not apply are left out. It does
// not use encoding/json because it runs for every ending and must not allocate.
func (e *Ending) AppendJSON(b []byte) []byte { return new(Encoder).Append(b, e) }

// Append appends an ending like [Ending.AppendJSON].
func (c *Encoder) Append(b []byte, e *Ending) []byte {
	if e.Host != c.of {
		c.setHost(e.Host)
	}
	b = c.appendTime(b, e.Time)
	b = appendUint(b, `","mono_ns":`, e.MonoNS)
	v := verdictOf(e)
	b = c.verdicts.append(b, v.hash(), &v)
	b = c.appendAddr(b, "local", e.Local, &c.local)
	b = c.appendAddr(b, "remote", e.Remote, &c.remote)
	if e.PeerLocal.IsValid() {
		b = appendText(b, `,"peer_local":`, e.PeerLocal.String())
	}
	if e.ConnectionID != 0 {
		b = append(appendHex(append(b, `,"connection_id":"`...), e.ConnectionID), '"')
	}
	p := placeOf(e)
	b = c.places.append(b, p.hash(), &p)
	b = e.Evidence.appendJSON(b, e.isIPv4())
	b = appendPast(b, `,"earlier":{"path":"`, e.Earlier)
	b = appendPast(b, `,"peer":{"path":"`, e.Peer)
	b = appendNonZero(b, `,"duration_ns":`, e.DurationNS)
	b = appendNonZero(b, `,"replies_left_out":`, e.RepliesLeftOut)
	b = appendStack(b, e.Stack)
	return append(b, '}')
}

var beginning = `{"schema_version":` + strconv.Itoa(SchemaVersion)

// appendTime appends the beginning and RFC 3339 in UTC, with nanoseconds but without trailing zeros.
func (c *Encoder) appendTime(b []byte, t time.Time) []byte {
	if second := t.Unix(); second != c.second || c.untilSecond == nil {
		c.untilSecond = append(append(append(c.untilSecond[:0], beginning...), c.host...), `,"time":"`...)
		c.second, c.untilSecond = second, t.UTC().AppendFormat(c.untilSecond, "2006-01-02T15:04:05")
	}
	b = append(b, c.untilSecond...)
	if ns := t.Nanosecond(); ns != 0 {
		point := len(b)
		b = AppendNumber(b, uint64(1e9+ns)) // nine digits, and a first one that becomes the point
		b[point] = '.'
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	return append(b, 'Z')
}

func (v verdict) appendJSON(b []byte) []byte {
	b = appendText(b, `,"path":`, string(v.path))
	b = appendText(b, `,"severity":`, v.severity)
	b = appendText(b, `,"cause":`, v.cause)
	b = appendText(b, `,"confidence":`, confidence(v.doubt))
	b = appendText(b, `,"doubt":`, v.doubt)
	b = appendText(b, `,"trigger":`, string(v.trigger))
	b = appendText(b, `,"syscall":`, v.syscall)
	b = appendNonZero(b, `,"signal":`, uint64(v.signal))
	if v.actor != nil {
		b = appendTask(b, `,"actor":`, v.actor)
	}
	if v.owner != nil {
		b = appendTask(b, `,"owner":`, v.owner)
		b = appendString(append(b, `,"owner_by":`...), string(v.ownerBy))
	}
	return b
}

func (p place) appendJSON(b []byte) []byte {
	b = appendText(b, `,"family":`, family(p.ipv4))
	b = appendUint(b, `,"netns":`, uint64(p.netns))
	b = appendNonZero(b, `,"cgroup_id":`, p.cgroupID)
	b = p.appendCgroup(b)
	b = p.appendStates(b)
	b = appendBool(b, `,"fin":`, p.fin)
	b = appendBool(b, `,"rst":`, p.rst)
	b = appendBool(b, `,"rst_received":`, p.received)
	b = appendText(b, `,"kernel_reason":`, p.kernelReason)
	if p.harmless {
		b = append(b, `,"harmless":true`...)
	}
	return b
}

// appendCgroup appends the cgroup, its unit and its container.
func (p place) appendCgroup(b []byte) []byte {
	b = appendText(b, `,"cgroup":`, p.cgroup)
	b = appendText(b, `,"actor_cgroup":`, p.actorCgroup)
	c := ContainerOf(p.cgroup)
	b = appendText(b, `,"unit":`, c.Unit)
	if c.ID == "" && c.PodUID == "" {
		return b
	}
	b = append(b, `,"container":`...)
	begin := len(b)
	b = appendText(b, `,"id":`, c.ID)
	b = appendText(b, `,"runtime":`, c.Runtime)
	b = appendText(b, `,"pod_uid":`, c.PodUID)
	if n := p.names; n != nil && c.ID != "" {
		b = appendText(b, `,"name":`, n.Name)
		b = appendText(b, `,"image":`, n.Image)
		b = appendText(b, `,"pod":`, n.Pod)
		b = appendText(b, `,"namespace":`, n.Namespace)
	}
	b[begin] = '{' // instead of the first comma
	return append(b, '}')
}

// appendStates appends the states before and after, none without a socket, and no state before if it was not seen.
func (p place) appendStates(b []byte) []byte {
	if p.before == StateUnknown && p.after == StateUnknown {
		return b
	}
	b = append(b, `,"state":{`...)
	if p.before != StateUnknown {
		b = append(b, `"before":"`...)
		b = append(b, p.before.String()...)
		b = append(b, `",`...)
	}
	b = append(b, `"after":"`...)
	b = append(b, p.after.String()...)
	return append(b, `"}`...)
}

func (v *Evidence) appendJSON(b []byte, ipv4 bool) []byte {
	b = v.appendQueues(append(b, `,"evidence":{`...))
	b = appendUint(b, `,"bytes_sent":`, v.BytesSent)
	b = appendUint(b, `,"bytes_received":`, v.BytesReceived)
	b = v.appendProgress(b)
	if v.isCommon() {
		return append(v.appendPeerFIN(b), '}')
	}
	if v.FINUnsent {
		b = append(b, `,"fin_unsent":true`...)
	}
	if v.LingerOn {
		b = appendUint(b, `,"linger_ms":`, uint64(v.Linger.Milliseconds()))
	}
	if v.Linger2 != 0 {
		b = append(b, `,"linger2_ms":`...)
		b = strconv.AppendInt(b, v.Linger2.Milliseconds(), 10)
	}
	b = appendNonZero(b, `,"waited_ns":`, uint64(v.Waited))
	b = appendNonZero(b, `,"sk_err":`, uint64(v.SockErr))
	b = appendNonZero(b, `,"errno":`, uint64(v.Errno))
	b = v.appendPeerFIN(b)
	b = appendNonZero(b, `,"children":`, uint64(v.Children))
	b = appendNonZero(b, `,"children_reset":`, uint64(v.ChildrenReset))
	b = appendNonZero(b, `,"pending_requests":`, uint64(v.PendingRequests))
	b = v.appendSegment(b, ipv4)
	b = appendNonZero(b, `,"user_timeout_ms":`, uint64(v.UserTimeout.Milliseconds()))
	b = appendNonZero(b, `,"probes":`, uint64(v.Probes))
	b = appendNonZero(b, `,"retransmits":`, uint64(v.Retransmits))
	b = v.appendTimes(b)
	b = appendNonZero(b, `,"references":`, uint64(v.References))
	b = appendNonZero(b, `,"other_holders":`, uint64(v.OtherHolders))
	b = appendText(b, `,"netfilter_hook":`, v.NetfilterHook)
	if v.SIGPIPE {
		b = append(b, `,"sigpipe":true`...)
	}
	if v.MPTCP {
		b = append(b, `,"mptcp":true`...)
	}
	return append(b, '}')
}

// appendProgress appends how far the connection had come, and since when nothing arrived or left.
func (v *Evidence) appendProgress(b []byte) []byte {
	b = appendNonZero(b, `,"last_received_ms":`, uint64(v.LastReceived.Milliseconds()))
	b = appendNonZero(b, `,"last_sent_ms":`, uint64(v.LastSent.Milliseconds()))
	b = appendNonZero(b, `,"srtt_us":`, uint64(v.SRTT.Microseconds()))
	b = appendNonZero(b, `,"retransmitted":`, uint64(v.Retransmitted))
	b = appendNonZero(b, `,"snd_nxt":`, uint64(v.SndNxt))
	return appendNonZero(b, `,"rcv_nxt":`, uint64(v.RcvNxt))
}

// appendSegment appends what is known of the segment that a RST answers, or of the RST received.
func (v *Evidence) appendSegment(b []byte, ipv4 bool) []byte {
	b = appendNonZero(b, `,"segment_bytes":`, uint64(v.SegmentBytes))
	b = appendNonZero(b, `,"segment_seq":`, uint64(v.SegmentSeq))
	b = appendNonZero(b, `,"segment_ack":`, uint64(v.SegmentAck))
	if v.RST == nil {
		return b
	}
	b = appendUint(b, `,"ttl":`, uint64(v.RST.TTL))
	b = appendUint(b, `,"window":`, uint64(v.RST.Window))
	if ipv4 {
		b = appendUint(b, `,"ip_id":`, uint64(v.RST.IPID))
	}
	return appendStrings(append(b, `,"tcp_options":`...), v.RST.Options.Names())
}

// appendTimes appends what was not answered, and since when.
func (v *Evidence) appendTimes(b []byte) []byte {
	b = appendNonZero(b, `,"retransmitting_ms":`, uint64(v.Retransmitting.Milliseconds()))
	b = appendNonZero(b, `,"idle_ms":`, uint64(v.Idle.Milliseconds()))
	if v.Unanswered {
		b = append(b, `,"unanswered":true`...)
	}
	return appendText(b, `,"icmp":`, v.ICMP)
}

func (v *Evidence) appendPeerFIN(b []byte) []byte {
	if v.PeerFIN {
		b = append(b, `,"peer_fin":true`...)
	}
	return appendNonZero(b, `,"peer_fin_ago_ns":`, uint64(v.PeerFINAgo))
}

// isCommon reports whether there is nothing in the evidence besides bytes and the peer's FIN.
func (v *Evidence) isCommon() bool {
	return !v.FINUnsent && !v.LingerOn && v.Linger2|v.Waited|v.UserTimeout == 0 && v.SockErr|v.Errno == 0 &&
		v.Children|v.ChildrenReset|v.PendingRequests|v.SegmentBytes|v.SegmentSeq|v.SegmentAck == 0 && v.RST == nil &&
		v.Probes|v.Retransmits|v.References|v.OtherHolders == 0 && !v.SIGPIPE && !v.MPTCP && v.NetfilterHook == "" &&
		!v.Unanswered && v.Idle|v.Retransmitting == 0 && v.ICMP == ""
}

// appendQueues appends the bytes not read, not sent and not acknowledged. Mostly all are 0.
func (v *Evidence) appendQueues(b []byte) []byte {
	if v.UnreadBytes|v.UnsentBytes|v.UnackedBytes == 0 {
		return append(b, `"unread_bytes":0,"unsent_bytes":0,"unacked_bytes":0`...)
	}
	b = appendUint(b, `"unread_bytes":`, uint64(v.UnreadBytes))
	b = appendUint(b, `,"unsent_bytes":`, uint64(v.UnsentBytes))
	return appendUint(b, `,"unacked_bytes":`, uint64(v.UnackedBytes))
}

func appendTask(b []byte, key string, t *Task) []byte {
	b = appendUint(append(b, key...), `{"pid":`, uint64(t.PID))
	b = appendUint(b, `,"tid":`, uint64(t.TID))
	b = appendString(append(b, `,"comm":`...), t.Comm)
	b = appendText(b, `,"process":`, t.Process)
	b = appendUint(b, `,"uid":`, uint64(t.UID))
	return append(b, '}')
}

func appendPast(b []byte, key string, p *Past) []byte {
	if p == nil {
		return b
	}
	b = append(append(b, key...), p.Path...) // needs no escapes
	b = appendUint(b, `","ago_ns":`, p.AgoNS)
	if p.Host != nil {
		b = appendText(b, `,"host":`, p.Host.Name)
		b = appendText(b, `,"boot_id":`, p.Host.BootID)
	}
	if p.Actor != nil {
		b = appendTask(b, `,"actor":`, p.Actor)
	}
	return append(b, '}')
}

func appendStack(b []byte, s *CallStack) []byte {
	if s == nil {
		return b
	}
	b = append(b, `,"stack":{"user":`...)
	b = appendStrings(b, s.User)
	b = append(b, `,"kernel":`...)
	b = appendStrings(b, s.Kernel)
	if s.Unresolved > 0 {
		b = appendUint(b, `,"unresolved":`, uint64(s.Unresolved))
	}
	return append(b, '}')
}

func appendStrings(b []byte, all []string) []byte {
	b = append(b, '[')
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// The key of these functions includes the leading comma, the quotes and the colon.

func appendUint(b []byte, key string, v uint64) []byte {
	return AppendNumber(append(b, key...), v)
}

func appendNonZero(b []byte, key string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return appendUint(b, key, v)
}

func appendBool(b []byte, key string, v bool) []byte {
	return strconv.AppendBool(append(b, key...), v)
}

func appendText(b []byte, key, v string) []byte {
	if v == "" {
		return b
	}
	return appendString(append(b, key...), v)
}

// appendAddr appends an address and its parts. Most are the same as the last one of their key.
func (c *Encoder) appendAddr(b []byte, key string, a netip.AddrPort, last *lastAddr) []byte {
	if !a.IsValid() {
		return b
	}
	if addr := a.Addr(); addr != last.addr || last.text == nil {
		last.set(key, addr, c.addresses)
	}
	b = append(b, last.text...)
	port := len(b)
	b = AppendNumber(b, uint64(a.Port()))
	end := len(b)
	b = append(b, last.ip...)
	return append(b, b[port:end]...)
}

// set formats an address for a key.
func (l *lastAddr) set(key string, addr netip.Addr, cache *Addresses) {
	l.addr = addr
	l.text = append(append(append(l.text[:0], `,"`...), key...), `":"`...)
	ip := len(l.text)
	if addr.Is4() {
		l.text = cache.Append(l.text, addr)
	} else {
		l.text = addr.AppendTo(append(l.text, '['))
		ip++
	}
	text := l.text[ip:]
	l.ip = append(append(append(l.ip[:0], `","`...), key...), `_ip":"`...)
	l.ip = append(append(append(append(l.ip, text...), `","`...), key...), `_port":`...)
	if !addr.Is4() {
		l.text = append(l.text, ']')
	}
	l.text = append(l.text, ':')
}

// appendHex appends 16 digits.
func appendHex(b []byte, v uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hex[v>>shift&15])
	}
	return b
}

const hex = "0123456789abcdef"

// appendString appends s as a JSON string. A process chooses its comm: bytes that are not UTF-8 become U+FFFD, control
// characters are escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		if run := plain(s[i:]); run > 0 {
			b = append(b, s[i:i+run]...)
			i += run
			continue
		}
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = appendRune(b, r)
			i += size
		}
	}
	return append(b, '"')
}

// plain returns how many bytes at the beginning of s need no escape.
func plain(s string) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// appendRune escapes characters that could be a command to a terminal or change the direction of text. JSON does not
// require it.
func appendRune(b []byte, r rune) []byte {
	const arrow = '→' // frequent in causes; the comparison is faster than the tables of Unicode
	if r == arrow || unicode.IsPrint(r) {
		return utf8.AppendRune(b, r)
	}
	for _, unit := range utf16.AppendRune(nil, r) {
		b = append(b, '\\', 'u', hex[unit>>12], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
	}
	return b
}
