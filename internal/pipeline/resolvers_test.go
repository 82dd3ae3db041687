package pipeline

import (
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// lateRecorder is an [OwnerRecorder].
type lateRecorder struct{ DiscardRecorder }

func (lateRecorder) Owner(*events.Event) {}

// An owner is looked up when an event arrives only if a recorder needs it, or if it is who else holds a socket.
func TestWhenOwnersAreLookedUp(t *testing.T) {
	all := []events.Kind{events.KindPeerFIN, events.KindDone, events.KindShared}
	for name, test := range map[string]struct {
		recorder   Recorder
		recordOnly bool
		want       []events.Kind
		onReport   bool
	}{
		"not recorded":                 {want: all[2:], onReport: true},
		"recorded":                     {recorder: DiscardRecorder{}, want: all},
		"recorded when they are found": {recorder: lateRecorder{}, want: all[2:], onReport: true},
		"only recorded, where it is not known which FINs are reported": {
			recorder: DiscardRecorder{}, recordOnly: true, want: all[1:],
		},
	} {
		var named, owned []events.Kind
		o := Options{Resolvers: Resolvers{
			Owner:  func(ev *events.Event) { owned = append(owned, ev.Kind) },
			Others: []Resolver{func(ev *events.Event) { named = append(named, ev.Kind) }},
		}}
		o.Recorder, o.RecordOnly = test.recorder, test.recordOnly
		s := New(&finMix{}, nil, o)
		for _, kind := range all {
			for _, resolve := range s.resolvers {
				resolve(&events.Event{Kind: kind})
			}
		}
		if !slices.Equal(named, all) || !slices.Equal(owned, test.want) || (s.classifier.Complete != nil) != test.onReport {
			t.Errorf("%s: of all %v, cgroups of %v, owners of %v", name, all, named, owned)
		}
	}
}
