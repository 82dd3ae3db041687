package classify

import (
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

// probeTime is how soon after the handshake the peer ends a probe. A connection that stays open for longer without a
// byte may be in use, for example in a pool.
const probeTime = time.Second

// isUnused reports whether no byte was ever sent or received on a connection that is at most probeTime old.
func (f *fact) isUnused() bool {
	return f.FirstSent != 0 && f.Before == events.Established &&
		f.BytesSent|f.BytesReceived == 0 && f.UnreadBytes|f.UnsentBytes|f.UnackedBytes == 0 &&
		f.duration(uint64(max(f.IdleReceivedJiffies, f.IdleSentJiffies))) <= probeTime
}

// isProbed reports whether the peer opened and ended a connection without a byte, as health checks and port scans do.
//
// The side that connected has its SYN among the acknowledged bytes (bytes_acked), the side that accepted has not. So
// while nothing was sent, the next sequence number of the latter is the first one. For the side that connected, a RST
// is the answer to its attempt and never a probe.
func (f *fact) isProbed() bool { return f.isUnused() && f.SndNxt == f.FirstSent }

// isProbe reports whether a close of this side ended by RST a connection that this side had opened and never used.
func (f *fact) isProbe() bool {
	return f.isUnused() && f.SndNxt == f.FirstSent+1 && f.sent(events.SentRST) && f.linger0()
}
