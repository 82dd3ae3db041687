//go:build linux

package lab

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// verb is a verb of the steps. Its usage lists its arguments: those in brackets
// are optional, "..." means any number.
type verb[T any] struct {
	usage string
	do    func(r *sandbox, actor T, args []string) (outcome string, err error)
}

// count returns the least and the greatest number of arguments.
func (v verb[T]) count() (least, most int) {
	for word := range strings.FieldsSeq(v.usage) {
		switch {
		case word == "...":
			return least, 1 << 30
		case strings.HasPrefix(word, "["):
			most++
		default:
			least, most = least+1, most+1
		}
	}
	return least, most
}

// sandboxVerbs create sockets, threads and helpers or concern the whole sandbox.
// No name precedes them.
var sandboxVerbs = map[string]verb[struct{}]{
	"pair":        {"A B", doPair},
	"listen":      {"L [option] ...", doListen},
	"socket":      {"A [mptcp]", doSocket},
	"connect":     {"A L [option] ...", doConnect},
	"accept":      {"B L", doAccept},
	"dup":         {"A NEW", doDup},
	"spawn":       {"P [A] ...", doSpawn},
	"wait":        {"T", doWait},
	"blocked":     {"T recv|close", doBlocked},
	"signal":      {"T USR1", doSignal},
	"sysctl":      {"KEY=VALUE", doSysctl},
	"global":      {"KEY=VALUE", doGlobal},
	"restore":     {"KEY", doRestore},
	"counter":     {"NAME +N", doCounter},
	"requests":    {"L N", doRequests},
	"orphans":     {"", doOrphans},
	"firewall":    {"input|forward|output reset|refuse|drop A", doFirewall},
	"no-firewall": {"", doNoFirewall},
}

// socketVerbs act on the socket whose name precedes them.
var socketVerbs = map[string]verb[*socket]{
	"bind":         {"[A]", doBind},
	"backlog":      {"N", doBacklog},
	"disconnect":   {"", doDisconnect},
	"send":         {"N", doSend},
	"sendtext":     {"TEXT", doSendText},
	"fill":         {"[window]", doFill},
	"urgent":       {"", doUrgent},
	"recv":         {"[N]", doRecv},
	"recv-block":   {"N", doRecvBlock},
	"recv-urgent":  {"", doRecvUrgent},
	"peek":         {"N", doPeek},
	"unread":       {"N", doUnread},
	"queued":       {"N", doQueued},
	"connected":    {"", doConnected},
	"error":        {"", doError},
	"linger":       {"on|off [SECONDS]", doLinger},
	"linger2":      {"N", option(unix.IPPROTO_TCP, unix.TCP_LINGER2)},
	"nodelay":      {"", enable(unix.IPPROTO_TCP, unix.TCP_NODELAY)},
	"defer":        {"", enable(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT)},
	"repair":       {"", enable(unix.IPPROTO_TCP, unix.TCP_REPAIR)},
	"keepalive":    {"IDLE INTERVAL COUNT", doKeepalive},
	"user-timeout": {"MILLISECONDS", option(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)},
	"syncnt":       {"N", option(unix.IPPROTO_TCP, unix.TCP_SYNCNT)},
	"sndbuf":       {"BYTES", option(unix.SOL_SOCKET, unix.SO_SNDBUF)},
	"filter":       {"drop|syn|empty|payload|off [X]", doFilter},
	"forge":        {"syn|ack|window0|rst|rst-at [N] [WINDOW] [ID] [timestamps]", doForge},
	"icmp":         {"CODE", doICMP},
	"close":        {"", doClose},
	"dup2":         {"", doDup2},
	"in-flight":    {"", doInFlight},
	"drop":         {"", doDrop},
	"close-range":  {"", doCloseRange},
	"io-uring":     {"close|shutdown-wr", doIOURing},
	"shutdown":     {"rd|wr|rdwr", doShutdown},
}

// helperVerbs act in the helper process whose name precedes them.
var helperVerbs = map[string]verb[*helper]{
	"close":        {"A", doHelperClose},
	"destroy":      {"A", doHelperDestroy},
	"exit":         {"CODE", doHelperExit},
	"kill":         {"", doHelperKill},
	"exec-cloexec": {"", doHelperExec},
}

// stateVerb is not a socketVerb: the name before it may be a socket of which this
// process has no descriptor, such as A.peer.
const stateVerb = "state"

// bind returns a function that executes a step.
func (r *sandbox) bind(st Step) (do func() (string, error), err error) {
	if st.Verb == "start" {
		return func() (string, error) { return "", r.start(st.Args[0], *st.Inner) }, nil
	}
	if st.Verb == stateVerb && len(st.Args) == 1 {
		return func() (string, error) { return "", r.awaitState(st.Name, st.Args[0]) }, nil
	}
	if st.Name == "" {
		return bindVerb(r, sandboxVerbs, struct{}{}, st)
	}
	if h := r.helpers[st.Name]; h != nil {
		return bindVerb(r, helperVerbs, h, st)
	}
	if s := r.sockets[st.Name]; s != nil {
		return bindVerb(r, socketVerbs, s, st)
	}
	return nil, fmt.Errorf("no socket or helper %s", st.Name)
}

func bindVerb[T any](r *sandbox, table map[string]verb[T], actor T, st Step) (func() (string, error), error) {
	v, ok := table[st.Verb]
	if !ok {
		return nil, fmt.Errorf("unknown verb %q", st.Verb)
	}
	if least, most := v.count(); len(st.Args) < least || len(st.Args) > most {
		return nil, fmt.Errorf("usage: %s %s", st.Verb, v.usage)
	}
	return func() (string, error) { return v.do(r, actor, st.Args) }, nil
}

// checkVerbs looks up all verbs before the first step.
func (r *sandbox) checkVerbs() error {
	for _, st := range r.sc.Steps {
		if st.Inner != nil {
			st = *st.Inner
		}
		_, isSandbox := sandboxVerbs[st.Verb]
		_, isSocket := socketVerbs[st.Verb]
		_, isHelper := helperVerbs[st.Verb]
		if st.Name == "" && isSandbox || st.Name != "" && (isSocket || isHelper || st.Verb == stateVerb) {
			continue
		}
		return fmt.Errorf("%s%s:%d: unknown verb in %q", r.sc.Name, extension, st.Line, st.Text)
	}
	return nil
}
