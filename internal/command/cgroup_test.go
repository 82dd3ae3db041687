package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCgroupPlace(t *testing.T) {
	for name, tt := range map[string]struct{ cgroup, mounts, want, wantErr string }{
		"unified": {"0::/user.slice/a.scope\n",
			"30 1 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/user.slice/a.scope", ""},
		"beside version 1": {"9:name=systemd:/x\n0::/\n",
			"40 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" +
				"41 1 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"/sys/fs/cgroup/unified", ""},
		"a part is mounted": {"0::/docker/ab/x\n",
			"30 1 0:27 /docker/ab /sys/fs/cgroup rw - cgroup2 c rw\n", "/sys/fs/cgroup/x", ""},
		"another part": {"0::/user\n",
			"30 1 0:27 /docker/ab /sys/fs/cgroup rw - cgroup2 c rw\n", "", "/user is not below /docker/ab"},
		"only version 1": {"1:cpu:/\n", "", "", "no cgroup v2"},
		"not mounted":    {"0::/\n", "40 1 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "", "not mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.Mkdir(filepath.Join(proc, "self"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"cgroup": tt.cgroup, "mountinfo": tt.mounts} {
				if err := os.WriteFile(filepath.Join(proc, "self", file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, _, err := cgroupPlace(proc)
			if got != tt.want || (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("got %q, error %v", got, err)
			}
		})
	}
}

// The cgroup that a killed closetrace has left behind is not used again.
func TestMakeUnused(t *testing.T) {
	parent := t.TempDir()
	for _, want := range []string{"run-7", "run-7-2", "run-7-3"} {
		if got, err := makeUnused(parent, "run-7"); got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if _, err := makeUnused(filepath.Join(parent, "none"), "run-7"); err == nil {
		t.Error("a directory in one that does not exist")
	}
}
