package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	commit := []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0f4b1c2d"}, {Key: "vcs.time", Value: "2026-11-28T20:00:00Z"},
	}
	modified := append(commit[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"})
	for name, tt := range map[string]struct {
		info       debug.BuildInfo
		line, text string
	}{
		"a release": {
			debug.BuildInfo{GoVersion: "go1.25.1", Main: debug.Module{Version: "v1.2.3"}, Settings: commit},
			"v1.2.3 go1.25.1",
			"closetrace v1.2.3\ncommit:     0f4b1c2d of 2026-11-28T20:00:00Z\nbuilt with: go1.25.1, " + platform + "\n",
		},
		"a changed tree": {
			debug.BuildInfo{GoVersion: "go1.25.1", Main: debug.Module{Version: "(devel)"}, Settings: modified},
			"(devel) 0f4b1c2d go1.25.1",
			"closetrace (devel)\ncommit:     0f4b1c2d of 2026-11-28T20:00:00Z, modified\nbuilt with: go1.25.1, " + platform + "\n",
		},
		"no commit": {
			debug.BuildInfo{GoVersion: "go1.25.1", Main: debug.Module{Version: "(devel)"}},
			"(devel) go1.25.1",
			"closetrace (devel)\nbuilt with: go1.25.1, " + platform + "\n",
		},
		"nothing known": {
			debug.BuildInfo{},
			"unknown " + runtime.Version(),
			"closetrace unknown\nbuilt with: " + runtime.Version() + ", " + platform + "\n",
		},
	} {
		v := describe(&tt.info)
		if v.Line() != tt.line || v.String() != tt.text {
			t.Errorf("%s: %q\n%s", name, v.Line(), v)
		}
	}
	if built := Build(); !strings.HasPrefix(built.Go, "go1.") {
		t.Errorf("this build: %+v", built)
	}
}
