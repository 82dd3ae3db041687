package sockets

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/events"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.5:8080")
	there = netip.MustParseAddrPort("10.0.0.9:51234")
)

func TestHistory(t *testing.T) {
	fin := func(inode uint64, at time.Duration) *events.Event {
		return &events.Event{
			Kind: events.KindPeerFIN, Netns: 1, Inode: inode, Local: here, Remote: there, MonoNS: uint64(at), After: events.CloseWait,
		}
	}
	mapped := fin(9, 3*time.Second)
	mapped.Local = netip.AddrPortFrom(netip.AddrFrom16(here.Addr().As16()), here.Port())
	var h History
	for _, ev := range []*events.Event{fin(5, time.Second), fin(6, 2*time.Second), fin(0, time.Second), mapped} {
		h.Add(ev)
	}
	h.Add(
		&events.Event{Kind: events.KindDone, Netns: 1, Inode: 7, Local: here, Remote: there, MonoNS: 1, After: events.Close},
	)

	at := func(inode uint64, state events.State) Socket {
		return Socket{Netns: 1, Inode: inode, Local: here, Remote: there, State: state}
	}
	elsewhere, other, traced := at(5, events.CloseWait), at(5, events.CloseWait), at(5, events.CloseWait)
	elsewhere.Netns, other.Remote, traced.InState = 2, here, time.Minute
	tests := []struct {
		name   string
		socket Socket
		want   time.Duration
	}{
		{"as on record", at(5, events.CloseWait), 9 * time.Second},
		{"another one of the same addresses", at(6, events.CloseWait), 8 * time.Second},
		{"IPv4 by a socket of IPv6", at(9, events.CloseWait), 7 * time.Second},
		{"a later one of the same addresses", at(8, events.CloseWait), 0},
		{"without a file", at(0, events.CloseWait), 0},
		{"it has moved on", at(5, events.LastAck), 0},
		{"of another event", at(7, events.Close), 0},
		{"in another namespace", elsewhere, 0},
		{"of other addresses", other, 0},
		{"seen by ourselves", traced, time.Minute},
	}
	for _, tt := range tests {
		all := NewList(tt.socket)
		if h.Resolve(all, uint64(10*time.Second)); all.At(0).InState != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, all.At(0).InState, tt.want)
		}
	}
	var none *History
	none.Resolve(NewList(at(5, events.CloseWait)), 1)
}

// What was read before the recording broke off counts.
func TestHistoryReadFrom(t *testing.T) {
	broken := errors.New("broken")
	for _, end := range []error{io.EOF, broken} {
		var h History
		left := 2
		err := h.ReadFrom(func(ev *events.Event) error {
			if left--; left < 0 {
				return end
			}
			*ev = events.Event{Kind: events.KindPeerFIN, Inode: uint64(7 + left), After: events.CloseWait}
			return nil
		})
		if end == io.EOF && err != nil || end == broken && !errors.Is(err, broken) {
			t.Errorf("%v: got %v", end, err)
		}
		if len(h.entered) != 2 {
			t.Errorf("%v: %d events", end, len(h.entered))
		}
	}
}

func TestSameBoot(t *testing.T) {
	header := &events.Header{Kernel: "6.1", WallOffsetNS: int64(time.Hour)}
	for _, tt := range []struct {
		release string
		offset  time.Duration
		want    bool
	}{
		{"6.1", time.Hour, true},
		{"6.1", time.Hour + 9*time.Millisecond, true},
		{"6.1", time.Hour - 9*time.Millisecond, true},
		{"6.1", time.Hour + 11*time.Millisecond, false},
		{"6.1", time.Hour - 11*time.Millisecond, false},
		{"6.2", time.Hour, false},
	} {
		if got := SameBoot(header, tt.release, int64(tt.offset)); got != tt.want {
			t.Errorf("%s at %s: got %v", tt.release, tt.offset, got)
		}
	}
}
