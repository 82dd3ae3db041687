package main

import (
	"slices"
	"testing"

	"github.com/closetrace/closetrace/internal/classify"
	"github.com/closetrace/closetrace/internal/events"
)

// The owner of a FIN received is looked up when it comes only if a record is to have it.
func TestOwnersOfFINs(t *testing.T) {
	for _, recorded := range []bool{false, true} {
		var named, owned []events.Kind
		s := &stream{classifier: classify.New(events.Header{})}
		s.lookUp(lookUps{
			owner: func(ev *events.Event) { owned = append(owned, ev.Kind) },
			rest:  []func(*events.Event){func(ev *events.Event) { named = append(named, ev.Kind) }},
		}, recorded)
		all := []events.Kind{events.KindPeerFIN, events.KindDone}
		for _, kind := range all {
			for _, fill := range s.look {
				fill(&events.Event{Kind: kind})
			}
		}
		want := all[1:]
		if recorded {
			want = all
		}
		if !slices.Equal(named, all) || !slices.Equal(owned, want) || (s.classifier.Complete == nil) != recorded {
			t.Errorf("recorded %v: of all %v, cgroups of %v, owners of %v", recorded, all, named, owned)
		}
	}
}
