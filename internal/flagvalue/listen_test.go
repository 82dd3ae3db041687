package flagvalue

import (
	"testing"

	"github.com/closetrace/closetrace/internal/hint"
)

func TestListen(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:9740": "", "[::1]:9740": "", ":0": "", "0.0.0.0:http": "",
		"": `"" is not HOST:PORT`, "9740": `"9740" is not HOST:PORT`, "127.0.0.1:": `"127.0.0.1:" is not HOST:PORT`,
		"::1:9740": `"::1:9740" is not HOST:PORT`, ":99999": `"99999" is not a port`, "h:x y": `"x y" is not a port`,
	} {
		address := "before"
		switch err := (Listen{&address}).Set(text); {
		case want == "" && (err != nil || address != text):
			t.Errorf("%q: %q, %v", text, address, err)
		case want != "" && (err == nil || err.Error() != want || hint.Of(err) == "" || address != "before"):
			t.Errorf("%q: %q, %v", text, address, err)
		}
	}
}
