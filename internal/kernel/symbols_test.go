package kernel

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestSymbols(t *testing.T) {
	table, err := readSymbols(strings.NewReader(`ffffffff81000000 T _text
ffffffff81000300 t tcp_keepalive_timer
ffffffff810001f0 t __pfx_tcp_send_active_reset
ffffffff81000200 T tcp_send_active_reset
ffffffff81000250 d not_a_function
ffffffff82000000 t veth_xmit	[veth]
0000000000000000 T hidden
short line
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.symbols) != 4 {
		t.Errorf("%d symbols are kept, want the 4 functions", len(table.symbols))
	}
	s := Symbols{table: table}
	got := s.Names([]uint64{0xffffffff81000210, 0xffffffff81000300, 0xffffffff82000010, 0x10, 0, 0xffffffff81000000})
	if want := []string{"tcp_send_active_reset", "tcp_keepalive_timer", "veth_xmit"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: sorted, functions only, up to the first zero", got, want)
	}
	for _, text := range []string{"zz T x\n", "FFFF T x\n", "10000000000000000 T x\n", " T x\n"} {
		if _, err := readSymbols(strings.NewReader(text)); err == nil {
			t.Errorf("an address that is no number was accepted in %q", text)
		}
	}
}

func BenchmarkReadSymbols(b *testing.B) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%016x t a_function_of_the_kernel_%d\n", 0xffffffff81000000+uint64(i)*64, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := readSymbols(strings.NewReader(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNoSymbols(t *testing.T) {
	s := Symbols{}
	if got := s.Names([]uint64{1, 2}); got != nil {
		t.Errorf("without a table: %v", got)
	}
}

func TestShowsAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n": true,
		"0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n": false,
		"": false, "short line\n": false,
	} {
		if got := showsAddresses(strings.NewReader(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
