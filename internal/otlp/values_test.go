package otlp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestEndpoint(t *testing.T) {
	const store = "http://c/insert/opentelemetry/v1/logs?_stream_fields=host.name"
	for text, want := range map[string]string{
		"http://c:4318": "http://c:4318/v1/logs", "https://c/": "https://c/v1/logs",
		store:    store,
		"c:4318": "", "ftp://c": "", "http://": "", "http://c/#x": "", "": "", "http://u:s3cret@c\x00": "",
	} {
		u, err := Endpoint(text)
		if got := fmt.Sprint(u); err == nil && got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v shows a password", err)
		}
	}
}

func TestParseList(t *testing.T) {
	got, err := ParseList(HeadersVariable, "authorization=Bearer%20a%3Db, x = 1 ,,y=")
	if want := "map[authorization:Bearer a=b x:1 y:]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"x", "=1", "x=%zz"} {
		if _, err := ParseList(HeadersVariable, bad); err == nil || strings.Contains(err.Error(), "zz") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	got, err := ParseHeaders("authorization=Bearer%20s3cret")
	if want := "map[authorization:Bearer s3cret]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
	for _, bad := range []string{"x", "x=s3cret%0d%0ay: z", "x=s3cret%00", "x y=s3cret"} {
		if _, err := ParseHeaders(bad); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, "Sun, 29 Nov 2026 12:00:09 GMT": 9 * time.Second, "Sun, 29 Nov 2020 12:00:09 GMT": 0,
		"": 0, "-1": 0, "soon": 0, "99999999999999999999": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}
