package main

import (
	"slices"
	"testing"
)

func TestNumbers(t *testing.T) {
	tests := []struct {
		args []string
		want []uint16 // nil: an error
	}{
		{[]string{"443"}, []uint16{443}},
		{[]string{"80,443", "8080"}, []uint16{80, 443, 8080}},
		{[]string{"1, 65535"}, []uint16{1, 65535}},
		{[]string{"80,80", "80"}, []uint16{80}},
		{[]string{"0"}, nil},
		{[]string{"65536"}, nil},
		{[]string{"18446744073709551617"}, nil},
		{[]string{""}, nil},
		{[]string{"80,"}, nil},
		{[]string{"+80"}, nil},
		{[]string{"0x50"}, nil},
		{[]string{"80-90"}, nil},
	}
	for _, tt := range tests {
		var got []uint16
		n := numbers[uint16]{&got, "port", 1<<16 - 1}
		var err error
		for _, arg := range tt.args {
			if err = n.Set(arg); err != nil {
				break
			}
		}
		if (err != nil) != (tt.want == nil) || err == nil && !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %d, %v", tt.args, got, err)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int{
		"65536": 64 << 10, "64K": 64 << 10, "4M": 4 << 20, "4m": 4 << 20, "1024K": 1 << 20, "1G": 1 << 30,
		"": 0, "K": 0, "32K": 0, "2G": 0, "3M": 0, "65537": 0, "-4M": 0, "4MB": 0, "4T": 0, "4 M": 0, "4KM": 0,
		"4294967295G": 0, "99999999999999999999": 0, "0": 0, "0x10000": 0, "1e6": 0,
	} {
		var got int
		err := size{&got}.Set(text)
		if (err != nil) != (want == 0) || err == nil && got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for n, want := range map[int]string{64 << 10: "64K", 4 << 20: "4M", 1 << 30: "1024M", 100: "100"} {
		if got := (size{&n}).String(); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
