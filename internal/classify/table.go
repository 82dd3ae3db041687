package classify

import (
	"cmp"
	"slices"

	"github.com/closetrace/closetrace/internal/events"
)

// group is the rules for one kind of event, under a condition that they share.
type group struct {
	kind  events.Kind
	when  predicate
	rules []rule
}

// table is all rules. The first rule that applies wins, in the groups for the kind
// of an event whose condition holds. A rule may rest on those before it. The order
// is that in which the kernel decides, but what was observed to be sent comes before
// what a state predicts.
//
// A close follows __tcp_close (net/ipv4/tcp.c). A socket in CLOSE or LISTEN is
// handled first. If a RST was sent, it is that of SO_LINGER {1,0} (by
// tcp_disconnect), of unread data, of TCP_LINGER2 or of memory pressure. If none was
// sent: repair mode, a connection attempt, SO_LINGER {1,0} after both FINs, the end
// of the network namespace; then the wait of SO_LINGER; then the FIN of the state
// table. Predictions come last.
//
// In tracepoint mode one change of state stands for several calls. The system call
// distinguishes them, in the conditions for shutdowns and disconnects.
var table = []group{
	{events.KindClose, inClose, closedRules},
	{events.KindClose, inListen, closeListenRules},
	{events.KindClose, sentRST, closeResetRules},
	{events.KindClose, sentNothingOrEnded, closeSilentRules},
	{events.KindClose, (*fact).lingered, closeLingerRules},
	{events.KindClose, sentNoRST, closeFINRules},
	{events.KindShutdown, isConnectByStates, disconnectRules},
	{events.KindShutdown, isSockDiagByStates, abortRules},
	{events.KindShutdown, always, shutdownRules},
	{events.KindDisconnect, inShutdownCall, shutdownRules}, // inet_shutdown is missing
	{events.KindDisconnect, notInShutdownCall, disconnectRules},
	{events.KindAbort, always, abortRules},
	{events.KindFIN, always, finRules},
	{events.KindReset, always, resetRules},
	{events.KindDone, always, receivedRules},
	{events.KindDone, always, timeoutRules},
	{events.KindReply, always, replyRules},
	{events.KindReject, always, rejectRules},
	{events.KindPeerFIN, always, peerFINRules},
	{events.KindEPIPE, always, appRules},
	{events.KindShared, always, sharedRules},
}

// byKind is the table by kind of event. A rule without a title has that of its path.
var byKind = func() (by [events.KindReject + 1][]group) {
	for _, g := range table {
		for i := range g.rules {
			r := &g.rules[i]
			r.title = cmp.Or(r.title, r.path.Info().Title)
		}
		by[g.kind] = append(by[g.kind], g)
	}
	return by
}()

// Paths returns the paths that the rules give, each once, in the order of the table.
func Paths() []events.Path {
	var paths []events.Path
	for _, g := range table {
		for _, r := range g.rules {
			if !slices.Contains(paths, r.path) {
				paths = append(paths, r.path)
			}
		}
	}
	return paths
}
