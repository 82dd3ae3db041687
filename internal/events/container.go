package events

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Container is what the path of a cgroup says about where a process runs. What the path does not say is empty.
type Container struct {
	ID      string // the runtime's id
	Runtime string // docker, containerd, cri-o, podman, lxc
	PodUID  string // of the Kubernetes pod
	// Unit is the systemd unit, of the machine or within the container.
	Unit string
}

// ContainerNames are the names that a runtime has for a container. Names that do not apply are empty. Users choose
// them, so they may be any UTF-8: sinks escape them.
type ContainerNames struct {
	Name      string `json:"name,omitempty"`
	Image     string `json:"image,omitempty"`
	Pod       string `json:"pod,omitempty"`       // of Kubernetes
	Namespace string `json:"namespace,omitempty"` // the pod's
}

// String returns the name after its Kubernetes namespace and pod, for example shop/cart-0/web.
func (n *ContainerNames) String() string {
	all := []string{n.Namespace, n.Pod, n.Name}
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), "/")
}

// runtimes maps the prefix of an id in the name of a cgroup to the runtime that uses it.
var runtimes = map[string]string{
	"docker": "docker", "cri-containerd": "containerd", "nerdctl": "containerd",
	"crio": "cri-o", "libpod": "podman", "libpod-payload": "podman",
}

// ContainerOf parses the path of a cgroup, as in /proc/PID/cgroup. Of nested containers it returns the innermost.
func ContainerOf(cgroup string) Container {
	var c Container
	parent := ""
	for name := range strings.SplitSeq(cgroup, "/") {
		c.enter(name, parent)
		parent = name
	}
	return c
}

// shortID is the number of characters of a container's id that docker ps shows.
const shortID = 12

// Container returns the container of the socket in short: its runtime and its name or, if that was not requested, the
// begin of its id. It returns "" for none.
func (v *Ending) Container() string {
	c := ContainerOf(v.Cgroup)
	if c.ID == "" {
		return ""
	}
	name := c.ID[:min(len(c.ID), shortID)]
	if v.ContainerNames != nil {
		name = cmp.Or(v.ContainerNames.String(), name)
	}
	return cmp.Or(c.Runtime, "container") + ":" + name
}

// enter adds what the name of the next cgroup of the path says.
func (c *Container) enter(name, parent string) {
	if uid := podUID(name); uid != "" {
		c.PodUID = uid
	}
	if id, runtime := container(name, parent); id != "" {
		c.ID, c.Runtime, c.Unit = id, runtime, ""
		return
	}
	if strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope") {
		c.Unit = name
	}
}

// container returns the container whose cgroup has this name:
//
//	docker-ID.scope, cri-containerd-ID.scope   by the systemd driver
//	SLICE:cri-containerd:ID                    without systemd, for its driver
//	ID                                         by the cgroupfs driver
//	lxc.payload.NAME
func container(name, parent string) (id, runtime string) {
	if lxc, ok := strings.CutPrefix(name, "lxc.payload."); ok {
		return lxc, "lxc"
	}
	name = strings.TrimSuffix(name, ".scope")
	at := len(name) - idLength
	if at < 0 || !isHex(name[at:]) {
		return "", ""
	}
	id = name[at:]
	switch {
	case at == 0:
		if parent == "docker" {
			runtime = parent
		}
		return id, runtime
	case name[at-1] == '-' || name[at-1] == ':':
		prefix := name[:at-1]
		prefix = prefix[strings.LastIndexByte(prefix, ':')+1:]
		if runtime = runtimes[prefix]; runtime != "" {
			return id, runtime
		}
	}
	return "", "" // for example conmon, which monitors a container
}

// idLength is the length of a container id in hexadecimal digits.
const idLength = 64

// podUID returns the UID in podUID or KIND-podUID.slice, where "_" stands for "-". The UID of a static pod is a hash.
func podUID(name string) string {
	name, _, _ = strings.Cut(name, ":")
	name, escaped := strings.CutSuffix(name, ".slice")
	at := strings.LastIndex(name, "pod")
	if at < 0 || at > 0 && name[at-1] != '-' {
		return ""
	}
	uid := name[at+len("pod"):]
	if escaped || strings.Contains(uid, "_") {
		uid = strings.ReplaceAll(uid, "_", "-")
	}
	digits := strings.ReplaceAll(uid, "-", "")
	if len(digits) != 32 || !isHex(digits) || len(uid) != 36 && len(uid) != 32 {
		return ""
	}
	return uid
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// NetnsInode returns the inode number that inode:N names, by which events name network namespaces; 0 if N is no such
// number. named reports whether text begins with inode:.
func NetnsInode(text string) (inode uint32, named bool) {
	number, named := strings.CutPrefix(text, "inode:")
	n, err := strconv.ParseUint(number, 10, 32)
	if !named || err != nil {
		return 0, named
	}
	return uint32(n), true
}

// CgroupPath returns the path of a cgroup as in /proc/PID/cgroup, if text is that path with or without slashes around
// it.
func CgroupPath(text string) string { return "/" + strings.Trim(text, "/") }

// Within reports whether a cgroup is another one or below it. Paths are those of /proc/PID/cgroup.
func Within(cgroup, above string) bool {
	if cgroup == "" {
		return false // unknown
	}
	rest, ok := strings.CutPrefix(cgroup, strings.TrimSuffix(above, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// InContainer reports whether a cgroup is that of a container whose id begins with prefix, or below it.
func InContainer(cgroup, prefix string) bool {
	for at := range len(cgroup) + 1 {
		if at < len(cgroup) && cgroup[at] != '/' {
			continue
		}
		if id := ContainerOf(cgroup[:at]).ID; id != "" && strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}
