package events

import (
	"strings"
	"testing"
)

const (
	anID    = "0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	innerID = "aa4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3caa"
	aUID    = "6fd8b3d4-2a0b-4f5e-9d0e-1f2a3b4c5d6e"
	aSlice  = "6fd8b3d4_2a0b_4f5e_9d0e_1f2a3b4c5d6e"
	aHash   = "5e8f1c0a9b7d6e5f4a3b2c1d0e9f8a7b" // the UID of a static pod
)

// The paths that runtimes, cgroup drivers and systemd create.
func TestContainerOf(t *testing.T) {
	for name, tt := range map[string]struct {
		path string
		want Container
	}{
		"unknown": {"", Container{}},
		"root":    {"/", Container{}},

		"docker, systemd":       {"/system.slice/docker-" + anID + ".scope", Container{ID: anID, Runtime: "docker"}},
		"docker, cgroupfs":      {"/docker/" + anID, Container{ID: anID, Runtime: "docker"}},
		"docker, own parent":    {"/jobs.slice/docker-" + anID + ".scope", Container{ID: anID, Runtime: "docker"}},
		"docker, rootless":      {"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + anID + ".scope", Container{ID: anID, Runtime: "docker"}},
		"docker, init in it":    {"/system.slice/docker-" + anID + ".scope/init", Container{ID: anID, Runtime: "docker"}},
		"docker, systemd in it": {"/docker/" + anID + "/system.slice/nginx.service", Container{ID: anID, Runtime: "docker", Unit: "nginx.service"}},
		"docker in docker":      {"/docker/" + anID + "/docker/" + innerID, Container{ID: innerID, Runtime: "docker"}},
		"a parent of their own": {"/ecs/0123abcd/" + anID, Container{ID: anID}},

		"podman":           {"/machine.slice/libpod-" + anID + ".scope", Container{ID: anID, Runtime: "podman"}},
		"podman 4":         {"/machine.slice/libpod-" + anID + ".scope/container", Container{ID: anID, Runtime: "podman"}},
		"podman, rootless": {"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + anID + ".scope/container", Container{ID: anID, Runtime: "podman"}},
		"podman, cgroupfs": {"/libpod_parent/libpod-" + anID, Container{ID: anID, Runtime: "podman"}},
		"podman, pod":      {"/machine.slice/machine-libpod_pod_" + innerID + ".slice/libpod-" + anID + ".scope", Container{ID: anID, Runtime: "podman"}},
		"podman, quadlet":  {"/system.slice/web.service/libpod-payload-" + anID, Container{ID: anID, Runtime: "podman"}},
		"podman's conmon":  {"/machine.slice/libpod-conmon-" + anID + ".scope", Container{Unit: "libpod-conmon-" + anID + ".scope"}},

		"nerdctl": {"/system.slice/nerdctl-" + anID + ".scope", Container{ID: anID, Runtime: "containerd"}},

		"kubernetes, containerd, systemd": {
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + aSlice + ".slice/cri-containerd-" + anID + ".scope",
			Container{ID: anID, Runtime: "containerd", PodUID: aUID},
		},
		"kubernetes, guaranteed": {
			"/kubepods.slice/kubepods-pod" + aSlice + ".slice/cri-containerd-" + anID + ".scope",
			Container{ID: anID, Runtime: "containerd", PodUID: aUID},
		},
		"kubernetes, cri-o": {
			"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + aSlice + ".slice/crio-" + anID + ".scope/container",
			Container{ID: anID, Runtime: "cri-o", PodUID: aUID},
		},
		"kubernetes, cri-o's conmon": {
			"/kubepods.slice/kubepods-pod" + aSlice + ".slice/crio-conmon-" + anID + ".scope",
			Container{PodUID: aUID, Unit: "crio-conmon-" + anID + ".scope"},
		},
		"kubernetes, cri-o, cgroupfs": {"/kubepods/pod" + aUID + "/crio-" + anID, Container{ID: anID, Runtime: "cri-o", PodUID: aUID}},
		"kubernetes, docker": {
			"/kubepods.slice/kubepods-pod" + aSlice + ".slice/docker-" + anID + ".scope",
			Container{ID: anID, Runtime: "docker", PodUID: aUID},
		},
		"kubernetes, cgroupfs": {"/kubepods/burstable/pod" + aUID + "/" + anID, Container{ID: anID, PodUID: aUID}},
		"kubernetes, static pod": {
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + aHash + ".slice/cri-containerd-" + anID + ".scope",
			Container{ID: anID, Runtime: "containerd", PodUID: aHash},
		},
		"kubernetes, k3s": {"/system.slice/k3s.service/kubepods/besteffort/pod" + aUID + "/" + anID, Container{ID: anID, PodUID: aUID}},
		"kubernetes, containerd without systemd": {
			"/system.slice/containerd.service/kubepods-burstable-pod" + aSlice + ".slice:cri-containerd:" + anID,
			Container{ID: anID, Runtime: "containerd", PodUID: aUID},
		},
		"kubernetes in docker": {
			"/docker/" + innerID + "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + aSlice + ".slice/cri-containerd-" + anID + ".scope",
			Container{ID: anID, Runtime: "containerd", PodUID: aUID},
		},
		"docker in kubernetes": {
			"/kubepods/pod" + aUID + "/" + anID + "/docker/" + innerID,
			Container{ID: innerID, Runtime: "docker", PodUID: aUID},
		},
		"the pod itself": {"/kubepods/burstable/pod" + aUID, Container{PodUID: aUID}},

		"lxc":          {"/lxc.payload.web", Container{ID: "web", Runtime: "lxc"}},
		"lxc, systemd": {"/lxc.payload.web/system.slice/nginx.service", Container{ID: "web", Runtime: "lxc", Unit: "nginx.service"}},
		"lxc's own":    {"/lxc.monitor.web", Container{}},

		"service":           {"/system.slice/nginx.service", Container{Unit: "nginx.service"}},
		"instance":          {"/system.slice/system-getty.slice/getty@tty1.service", Container{Unit: "getty@tty1.service"}},
		"delegated":         {"/system.slice/app.service/workers/3", Container{Unit: "app.service"}},
		"session":           {"/user.slice/user-1000.slice/session-3.scope", Container{Unit: "session-3.scope"}},
		"user's service":    {"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", Container{Unit: "app-x.service"}},
		"init":              {"/init.scope", Container{Unit: "init.scope"}},
		"machine":           {`/machine.slice/machine-qemu\x2d1\x2dvm.scope`, Container{Unit: `machine-qemu\x2d1\x2dvm.scope`}},
		"slice":             {"/user.slice/user-1000.slice", Container{}},
		"above it":          {"/../../init.scope", Container{Unit: "init.scope"}},
		"neither":           {"/my/workers", Container{}},
		"id too short":      {"/docker/" + anID[1:], Container{}},
		"no id":             {"/docker/" + strings.ToUpper(anID), Container{}},
		"unknown prefix":    {"/system.slice/web-" + anID + ".scope", Container{Unit: "web-" + anID + ".scope"}},
		"a word with pod":   {"/tripod/podium/pod", Container{}},
		"a UID of no pod":   {"/x/nopod" + aUID, Container{}},
		"too long for one":  {"/kubepods/pod" + aUID + "0", Container{}},
		"slashes and blank": {"// /", Container{}},
	} {
		if got := ContainerOf(tt.path); got != tt.want {
			t.Errorf("%s: %s: got %+v, want %+v", name, tt.path, got, tt.want)
		}
	}
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		cgroup, above string
		want          bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/a/b", "/a/", true}, {"/ab", "/a", false}, {"/a", "/a/b", false},
		{"/a", "/", true}, {"/", "/", true}, {"", "/", false}, {"", "", false},
	} {
		if got := Within(tt.cgroup, tt.above); got != tt.want {
			t.Errorf("%q within %q: %v", tt.cgroup, tt.above, got)
		}
	}
}

// A cgroup of a nested container is in the outer one as well.
func TestInContainer(t *testing.T) {
	nested := "/docker/" + anID + "/docker/" + innerID + "/x"
	for _, tt := range []struct {
		cgroup, prefix string
		want           bool
	}{
		{nested, anID, true}, {nested, innerID, true}, {nested, "0f4b", true}, {nested, "aa4b1c", true},
		{nested, "4b1c", false}, {"/docker", "0", false}, {"/system.slice/nginx.service", "nginx", false}, {"", "0", false},
		{"/lxc.payload.web/init.scope", "web", true},
	} {
		if got := InContainer(tt.cgroup, tt.prefix); got != tt.want {
			t.Errorf("%s in container %s: %v", tt.cgroup, tt.prefix, got)
		}
	}
}
