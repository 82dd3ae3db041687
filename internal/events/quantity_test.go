package events

import "testing"

func TestQuantity(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 records", 1: "1 record", 2: "2 records", 999: "999 records", 1000: "1,000 records", 123456: "123,456 records",
		1<<64 - 1: "18,446,744,073,709,551,615 records",
	} {
		if got := Quantity(n, "record", "records"); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
