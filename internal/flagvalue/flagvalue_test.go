package flagvalue

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestPIDs(t *testing.T) {
	tests := []struct {
		args []string
		want []uint32 // nil: an error
	}{
		{[]string{"443"}, []uint32{443}},
		{[]string{"80,443", "8080"}, []uint32{80, 443, 8080}},
		{[]string{"4194304, 1"}, []uint32{4194304, 1}},
		{[]string{"80,80", "80"}, []uint32{80}},
		{[]string{"0"}, nil},
		{[]string{"4194305"}, nil},
		{[]string{"18446744073709551617"}, nil},
		{[]string{""}, nil},
		{[]string{"80,"}, nil},
		{[]string{"+80"}, nil},
		{[]string{"0x50"}, nil},
		{[]string{"80-90"}, nil},
	}
	for _, tt := range tests {
		var got []uint32
		n := PIDs(&got)
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

func TestPorts(t *testing.T) {
	for text, want := range map[string][]uint16{
		"443":                 {443},
		"80,443, 80":          {80, 443},
		"8000-8002,8001-8003": {8000, 8001, 8002, 8003},
		"https,http":          {80, 443},
		"1-1,65535":           {1, 65535},
		"":                    nil,
		"0":                   nil,
		"0-1":                 nil,
		"65535-65536":         nil,
		"8100-8000":           nil,
		"80-":                 nil,
		"-80":                 nil,
		"+80":                 nil,
		"0x50":                nil,
		"1-2-3":               nil,
		"no-such-service":     nil,
		"https-443":           nil,
		"80,":                 nil,
	} {
		var got []uint16
		if err := Ports(&got).Set(text); (err == nil) != (want != nil) || want != nil && !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		} else if err != nil && !hint.Is(err, hint.Usage) {
			t.Errorf("%q: %v", text, err)
		}
	}
	var all []uint16
	if err := Ports(&all).Set("1-65535"); err != nil || len(all) != 65535 {
		t.Errorf("%d ports, %v", len(all), err)
	}
}

func TestUsers(t *testing.T) {
	var got []uint32
	if err := Users(&got).Set("33, root,4294967295"); err != nil || !slices.Equal(got, []uint32{33, 0, 1<<32 - 1}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "no-such-user", "-1", "4294967296", "1,"} {
		if err := Users(&got).Set(text); !hint.Is(err, hint.Usage) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNetworks(t *testing.T) {
	var got []netip.Prefix
	const list = "2001:db8::/32,10.0.0.5,::ffff:10.0.0.6,::ffff:10.0.0.0/104,::ffff:0:0/96,::/0"
	err := Networks(&got).Set(list)
	const want = "[2001:db8::/32 10.0.0.5/32 10.0.0.6/32 10.0.0.0/8 0.0.0.0/0 ::/0]"
	if fmt.Sprint(got) != want || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestConnection(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.5:33042"), netip.MustParseAddrPort("10.0.0.9:443")
	for _, text := range []string{
		"10.0.0.5:33042,10.0.0.9:443", "10.0.0.5:33042->10.0.0.9:443", "10.0.0.5:33042 → [::ffff:10.0.0.9]:443",
		" 10.0.0.5:33042  10.0.0.9:443 ",
	} {
		var got [][2]netip.AddrPort
		if err := (Connection{&got}).Set(text); err != nil || len(got) != 1 || got[0] != [2]netip.AddrPort{a, b} {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	var none [][2]netip.AddrPort
	for _, text := range []string{
		"", "10.0.0.5:33042", "10.0.0.5,10.0.0.9:443", "a:1,b:2", "1.1.1.1:0,1.1.1.1:1", "1.1.1.1:1,1.1.1.1:2,1.1.1.1:3",
	} {
		if err := (Connection{&none}).Set(text); !hint.Is(err, hint.Usage) || none != nil {
			t.Errorf("%q: %v, %v", text, none, err)
		}
	}
}

func TestMoment(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 11, 28, 14, 30, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"14:05":                time.Date(2026, 11, 28, 14, 5, 0, 0, zone),
		"14:05:06":             time.Date(2026, 11, 28, 14, 5, 6, 0, zone),
		"2026-11-27":           time.Date(2026, 11, 27, 0, 0, 0, 0, zone),
		"2026-11-27 03:04":     time.Date(2026, 11, 27, 3, 4, 0, 0, zone),
		"2026-11-27 03:04:05":  time.Date(2026, 11, 27, 3, 4, 5, 0, zone),
		"2026-11-27T03:04:05Z": time.Date(2026, 11, 27, 3, 4, 5, 0, time.UTC),
		"noon":                 {},
		"":                     {},
		"-10m":                 {},
		"25:00":                {},
		"10":                   {},
	} {
		var got time.Time
		err := Moment{&got, func() time.Time { return now }}.Set(text)
		if !got.Equal(want) || (err != nil) != want.IsZero() || err != nil && !hint.Is(err, hint.Usage) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
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
		err := Size{&got}.Set(text)
		if (err != nil) != (want == 0) || err == nil && got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for n, want := range map[int]string{64 << 10: "64K", 4 << 20: "4M", 1 << 30: "1024M", 100: "100"} {
		if got := (Size{&n}).String(); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5s": 5 * time.Second, "1h5m": 65 * time.Minute, "250ms": 250 * time.Millisecond, "0": 0, "0s": 0, "1.5s": 1500 * time.Millisecond,
		"5": -1, "00": -1, "-5s": -1, "": -1, "5 s": -1, "5d": -1, "soon": -1, "99999999h": -1,
	} {
		var got time.Duration
		err := Duration{&got}.Set(text)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	err := Duration{new(time.Duration)}.Set("5")
	if err == nil || err.Error() != `"5" has no unit` || hint.Of(err) != "5s or 5m?" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	err = Duration{new(time.Duration)}.Set("99999999h")
	if err == nil || err.Error() != `"99999999h" is too long` {
		t.Errorf("got %v", err)
	}
	minute := time.Minute
	if got := (Duration{&minute}).String(); got != "1m0s" {
		t.Errorf("got %q", got)
	}
}

func TestFileSize(t *testing.T) {
	for text, want := range map[string]int64{
		"64K": 64 << 10, "1M": 1 << 20, "100m": 100 << 20, "3G": 3 << 30, "4294967295K": 4294967295 << 10,
		"": 0, "100": 0, "63K": 0, "0M": 0, "-1M": 0, "1T": 0, "1MM": 0, "4294967296K": 0, "1.5M": 0,
	} {
		var got int64
		err := FileSize{&got}.Set(text)
		if (err != nil) != (want == 0) || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	if err := (FileSize{new(int64)}).Set("100"); hint.Of(err) != "100M?" {
		t.Errorf("hint %q", hint.Of(err))
	}
}

func TestCount(t *testing.T) {
	for text, want := range map[string]int{
		"1": 1, "20": 20, "1048575": 1<<20 - 1, "": 0, "0": 0, "-1": 0, "1048576": 0, "1M": 0,
	} {
		var got int
		err := Count{&got}.Set(text)
		if (err != nil) != (want == 0) || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
}
