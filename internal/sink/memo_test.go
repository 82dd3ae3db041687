package sink

import (
	"strconv"
	"testing"

	"github.com/closetrace/closetrace/internal/events"
)

// What was computed once is not computed again, and many more keys than there are slots still have their own results.
func TestMemo(t *testing.T) {
	computed := 0
	m := newMemo(func(s string) string { computed++; return "<" + s + ">" })
	for range 3 {
		if got := m.get("a"); got != "<a>" {
			t.Fatalf("got %s", got)
		}
	}
	if m.get(""); computed != 2 {
		t.Errorf("computed %d times for two keys", computed)
	}
	for i := range 10_000 {
		key := strconv.Itoa(i)
		if got := m.get(key); got != "<"+key+">" {
			t.Fatalf("%s: got %s", key, got)
		}
	}
}

// Nearly all paths and titles have slots of their own, so that what is common is computed once.
func TestMemoSlots(t *testing.T) {
	paths, titles := map[string]bool{}, map[string]bool{}
	for _, info := range events.Paths() {
		paths[string(info.Path)], titles[info.Title] = true, true
	}
	for what, texts := range map[string]map[string]bool{"paths": paths, "titles": titles} {
		slots := map[uint8]bool{}
		for text := range texts {
			slots[slotOf(text)] = true
		}
		if shared := len(texts) - len(slots); shared > len(texts)/10 {
			t.Errorf("%d of %d %s have no slot of their own", shared, len(texts), what)
		}
	}
}
