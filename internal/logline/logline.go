// Package logline finds what a pasted text says of a TCP connection: addresses and ports of its ends, and the error.
//
// It knows the shapes in which programs log addresses: Go, nginx, HAProxy, Python, Java, Node, databases, ss, tcpdump
// and others. The text may be anything: only its beginning is read, and what is not understood is skipped.
package logline

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of what is read of a text.
const (
	maxText      = 16 << 10 // bytes
	maxEndpoints = 16
	maxAddress   = 64 // bytes
)

// Endpoint is one end of a connection, as far as the text names it: the address is invalid, or the port 0, if it does
// not.
type Endpoint struct {
	Addr netip.Addr
	Port uint16
}

// Complete reports whether the text names both the address and the port.
func (e Endpoint) Complete() bool { return e.Addr.IsValid() && e.Port != 0 }

func (e Endpoint) String() string {
	switch {
	case e.Complete():
		return netip.AddrPortFrom(e.Addr, e.Port).String()
	case e.Addr.IsValid():
		return e.Addr.String()
	}
	return "port " + strconv.Itoa(int(e.Port))
}

// Line is what a text says.
type Line struct {
	// Endpoints are in the order of the text. Two of them need not be of the same connection: proxies log several.
	Endpoints []Endpoint
	// Errno is the name of the error, such as ECONNRESET, or [EOF]; empty if there is none.
	Errno string
	// Time is when the line was written, zero if it has no date. Without a zone it is local.
	Time time.Time
	// Exact: the text has nothing but endpoints.
	Exact bool
}

// Parse reads a text.
func Parse(text string) Line {
	text = brackets.Replace(strings.ToValidUTF8(text[:min(len(text), maxText)], " "))
	line := Line{Errno: errnoOf(text), Time: timeOf(text)}
	p := parser{text: about(text)}
	if !p.tuple() {
		p.scan()
	}
	for _, complete := range []bool{true, false} {
		for _, e := range p.found {
			if e.Complete() == complete && !p.known(line.Endpoints, e) && len(line.Endpoints) < maxEndpoints {
				line.Endpoints = append(line.Endpoints, e)
			}
		}
		if len(line.Endpoints) >= 2 {
			break // ports and addresses alone would only be repetitions
		}
	}
	line.Exact = len(line.Endpoints) > 0 && !p.isTuple && p.text == text && strings.Trim(p.rest(), " \t\n,->") == ""
	return line
}

// brackets replaces those of IPv6 addresses in URLs, as gRPC prints them.
var brackets = strings.NewReplacer("%5B", "[", "%5D", "]", "%5b", "[", "%5d", "]")

// known reports whether the endpoints say all that e says.
func (p *parser) known(all []Endpoint, e Endpoint) bool {
	return slices.ContainsFunc(all, func(k Endpoint) bool {
		return (!e.Addr.IsValid() || k.Addr == e.Addr) && (e.Port == 0 || k.Port == e.Port)
	})
}

// EOF is the error of an application that had expected more.
const EOF = "EOF"

// errors are the words by which programs name an error.
var errors = []struct{ pattern, errno string }{
	{`connection reset|connectionreset|connection was reset|econnreset`, "ECONNRESET"},
	{`broken pipe|brokenpipe|epipe\b`, "EPIPE"},
	{`connection refused|connectionrefused|actively refused|econnrefused`, "ECONNREFUSED"},
	{`connection timed out|operation timed out|etimedout`, "ETIMEDOUT"},
	{`software caused connection abort|connectionaborted|econnaborted`, "ECONNABORTED"},
	{`no route to host|noroutetohost|ehostunreach`, "EHOSTUNREACH"},
	{`\beof\b|prematurely closed|empty reply|socket hang up|remotedisconnected|closed the connection unexpectedly`, EOF},
}

// errnoOf returns the name of the error that a text names first.
func errnoOf(text string) string {
	text = strings.ToLower(text)
	first, errno := len(text), ""
	for _, e := range errors {
		if at := regexps[e.pattern].FindStringIndex(text); at != nil && at[0] < first {
			first, errno = at[0], e.errno
		}
	}
	return errno
}

var regexps = func() map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	for _, e := range errors {
		all[e.pattern] = regexp.MustCompile(e.pattern)
	}
	return all
}()

// times are the forms of a date with a time. The layouts are for what the groups match, joined.
var times = []struct {
	pattern *regexp.Regexp
	layout  string
}{
	{regexp.MustCompile(`\b(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d:\d\d:\d\d)([.,]\d{1,9})?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)\b|([+-]\d\d)\b)?`),
		"20060102 15:04:05"},
	{regexp.MustCompile(`\b(\d{4})(\d\d)(\d\d)[T ](\d\d:\d\d:\d\d)([.,]\d{1,9})?(?:(Z|[+-]\d\d:?\d\d)\b)?`),
		"20060102 15:04:05"},
	{regexp.MustCompile(`\b(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d)(\.\d{1,9})?(?: ([+-]\d{4})\b)?`),
		"02Jan2006 15:04:05"},
}

// timeOf returns the first time with a date.
func timeOf(text string) time.Time {
	for _, form := range times {
		m := form.pattern.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		value, layout := m[1]+m[2]+m[3]+" "+m[4], form.layout
		if m[5] != "" {
			value += "." + m[5][1:]
		}
		if zone := zoneOf(m[6:]); zone != "" {
			value, layout = value+" "+zone, layout+" -0700"
		}
		if at, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return at
		}
	}
	return time.Time{}
}

// zoneOf returns the offset that one of the groups of a time has, as +0100, "" if none has one. PostgreSQL writes +01.
func zoneOf(groups []string) string {
	switch zone := strings.ReplaceAll(strings.Join(groups, ""), ":", ""); zone {
	case "Z", "UTC", "GMT":
		return "+0000"
	default:
		if len(zone) == len("+01") {
			zone += "00"
		}
		return zone
	}
}

// upstream is how nginx names the server that it is connected to, and withClient what it writes if the connection to
// its client failed.
var (
	upstream   = regexp.MustCompile(`\bupstream: "([^"]*)"`)
	withClient = regexp.MustCompile(`client prematurely closed|sending (response )?to client|reading (from )?client`)
	client     = regexp.MustCompile(`, client: ([^, ]+)`)
)

// about returns the part of a text that is about the connection of its error. nginx logs all of a request, with several
// connections.
func about(text string) string {
	to, from := upstream.FindStringSubmatch(text), client.FindStringSubmatch(text)
	switch {
	case to != nil && !withClient.MatchString(text):
		return to[1]
	case from != nil:
		return from[1]
	}
	return text
}

// parser finds endpoints.
type parser struct {
	text  string
	found []Endpoint
	used  []span // what endpoints were made of

	isTuple bool
}

type span struct{ from, to int }

var (
	// candidate matches what may be an address: in brackets, IPv6 without, or numbers with dots.
	candidate = regexp.MustCompile(`\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|` +
		`[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*|\d+(?:\.\d+){3,4}`)
	// zone is the interface of a link-local address, or of ss.
	zone = regexp.MustCompile(`^%[\w.-]+`)
	// portAfter matches the port after an address: 10.0.0.5:443, 10.0.0.5 port 443, '10.0.0.5', 443, 10.0.0.5(443).
	portAfter = regexp.MustCompile(`^(?:\((\d{1,5})\)|(?::(\d{1,5})|#(\d{1,5})|["']\s*,\s*(\d{1,5})` +
		`|["')\]]*\s*(?:,|on|\s)?\s*["']?(?i:(?:[a-z]+[_.-]?){0,3}port)["']?\s*[=:]?\s*["']?(\d{1,5}))\b)`)
	// portAlone matches a port without an address: *:443, localhost:8080, port 443.
	portAlone = regexp.MustCompile(
		`(?:^|\s|\*|(?:^|[\s"'(=/@])[A-Za-z][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*):(\d{1,5})\b|` +
			`\b(?i:port)["']?\s*[=:#]?\s*["']?(\d{1,5})\b`)
	// onlyPort matches a text that is a port.
	onlyPort = regexp.MustCompile(`^\s*:?(\d{1,5})\s*$`)
	// source matches the name of a file of source code, which a line number follows.
	source = regexp.MustCompile(`\.(?:go|py|js|ts|mjs|java|kt|c|cc|cpp|h|rs|rb|php|lua|scala|erl|ex)$`)
)

// tuples match both ends of one connection, whose addresses and ports are apart. The groups are the addresses a and b,
// and their ports p and q.
var tuples = []*regexp.Regexp{
	// netfilter and conntrack: src=10.0.0.5 dst=10.0.0.9 sport=33042 dport=443
	regexp.MustCompile(`(?i)\bsrc=(?P<a>[0-9a-f:.]+) dst=(?P<b>[0-9a-f:.]+) .*?\b(?:sport|spt)=(?P<p>\d{1,5}) ` +
		`(?:dport|dpt)=(?P<q>\d{1,5})\b`),
	// tcplife, Zeek: 10.0.0.5 33042 10.0.0.9 443
	regexp.MustCompile(`(?:^|\s)(?P<a>[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]+)\s+(?P<p>\d{1,5})\s+` +
		`(?P<b>[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]+)\s+(?P<q>\d{1,5})(?:\s|$)`),
	// flow logs of clouds: 10.0.0.5 10.0.0.9 33042 443 6
	regexp.MustCompile(`(?:^|\s)(?P<a>[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]+) (?P<b>[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]+) ` +
		`(?P<p>\d{1,5}) (?P<q>\d{1,5}) 6(?:\s|$)`),
}

// tuple adds the ends of a connection that the text has as a tuple.
func (p *parser) tuple() bool {
	for _, form := range tuples {
		m := form.FindStringSubmatch(p.text)
		if m == nil {
			continue
		}
		group := func(name string) string { return m[form.SubexpIndex(name)] }
		a, errA := netip.ParseAddr(group("a"))
		b, errB := netip.ParseAddr(group("b"))
		if errA == nil && errB == nil && isPort(group("p")) && isPort(group("q")) {
			p.add(a, group("p"), span{})
			p.add(b, group("q"), span{})
			p.isTuple = true
			return true
		}
	}
	return false
}

// scan finds all endpoints.
func (p *parser) scan() {
	if m := onlyPort.FindStringSubmatch(p.text); m != nil {
		p.add(netip.Addr{}, m[1], span{0, len(p.text)})
		return
	}
	for from := 0; from < len(p.text) && len(p.found) < 4*maxEndpoints; {
		at := candidate.FindStringIndex(p.text[from:])
		if at == nil {
			break
		}
		from = p.address(from+at[0], from+at[1])
	}
	for _, at := range portAlone.FindAllStringSubmatchIndex(p.text, 4*maxEndpoints) {
		p.alone(at)
	}
}

// address reads the candidate text[from:to], with a port that follows. It returns where to go on.
func (p *parser) address(from, to int) int {
	longer := from > 0 && (isWord(p.text[from-1]) || p.text[from-1] == '.') || to-from > maxAddress ||
		to+1 < len(p.text) && p.text[to] == '.' && isWord(p.text[to+1])
	if longer {
		return to // part of a longer word, or of a version such as v1.2.3.4
	}
	word := p.text[from:to]
	addr, port, ok := parseAddress(word)
	for !ok && strings.HasSuffix(word, ":") || !ok && strings.HasSuffix(word, ".") {
		word = word[:len(word)-1] // the text goes on with a colon, or ends
		addr, port, ok = parseAddress(word)
	}
	if !ok {
		return to
	}
	to = from + len(word)
	if z := zone.FindString(p.text[to:]); z != "" {
		to += len(z)
	}
	if port == "" {
		if m := portAfter.FindStringSubmatchIndex(p.text[to:]); m != nil {
			for group := 2; group < len(m); group += 2 {
				if m[group] >= 0 {
					port = p.text[to+m[group] : to+m[group+1]]
				}
			}
			to += m[1]
		} else if scheme := schemeBefore(p.text[:from]); scheme != "" {
			port = scheme
		}
	}
	if to < len(p.text) && isWord(p.text[to]) {
		return to
	}
	p.add(addr, port, span{from, to})
	return to
}

// parseAddress parses an address: with brackets, or with a port after a dot, as tcpdump prints it, or of IPv6 after
// another colon.
func parseAddress(word string) (addr netip.Addr, port string, ok bool) {
	if inner, found := strings.CutPrefix(word, "["); found {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return addr, "", err == nil
	}
	if i := strings.LastIndexAny(word, ".:"); i > 0 && isPort(word[i+1:]) {
		dots := strings.Count(word, ".")
		tcpdump := word[i] == '.' && (dots == 4 || dots == 1 && strings.Contains(word, ":"))
		netstat := word[i] == ':' && strings.Contains(word[:i], ":")
		if tcpdump || netstat {
			if addr, err := netip.ParseAddr(word[:i]); err == nil {
				return addr, word[i+1:], true
			}
		}
	}
	addr, err := netip.ParseAddr(word)
	return addr, "", err == nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// schemeBefore returns the port of the scheme of a URL that ends before an address.
func schemeBefore(text string) string {
	switch {
	case strings.HasSuffix(text, "https://"):
		return "443"
	case strings.HasSuffix(text, "http://"):
		return "80"
	}
	return ""
}

// alone adds a port without an address, from a match of portAlone.
func (p *parser) alone(at []int) {
	group := 2
	if at[group] < 0 {
		group = 4
	}
	here := span{at[0], at[1]}
	if slices.ContainsFunc(p.used, func(s span) bool { return s.from < here.to && here.from < s.to }) {
		return
	}
	before, after := p.text[:at[group]], p.text[at[group+1]:]
	if source.MatchString(strings.TrimSuffix(before, ":")) || strings.HasPrefix(after, ":") {
		return // a line number, a time of day
	}
	p.add(netip.Addr{}, p.text[at[group]:at[group+1]], here)
}

// add adds an endpoint, unless it says nothing.
func (p *parser) add(addr netip.Addr, port string, of span) {
	e := Endpoint{Addr: addr.Unmap().WithZone("")}
	if n, err := strconv.ParseUint(cmp.Or(port, "0"), 10, 16); err == nil {
		e.Port = uint16(n)
	}
	if e.Addr.IsUnspecified() {
		e.Addr = netip.Addr{} // a wildcard of a listener
	}
	if e != (Endpoint{}) {
		p.found = append(p.found, e)
		p.used = append(p.used, of)
	}
}

// rest returns the text without what endpoints were made of.
func (p *parser) rest() string {
	var b strings.Builder
	from := 0
	slices.SortFunc(p.used, func(x, y span) int { return x.from - y.from })
	for _, s := range p.used {
		b.WriteString(p.text[from:max(from, s.from)])
		from = max(from, s.to)
	}
	return b.String() + p.text[from:]
}

func isWord(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z'
}
