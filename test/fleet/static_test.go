package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A staticNode is a node whose kubelet has no API server: what it runs is in files.
type staticNode struct {
	*cluster
	kubelet            *http.Client // of the kubelet
	closetrace, server kubeletPod
	rounds             []staticRound
}

// staticRound is a pod of the workload's client, and the connections that it made, as it says itself.
type staticRound struct {
	client kubeletPod
	made   []madeConnection
}

// A kubelet without an API server runs the pod of the chart from a file, on a machine whose kernel allows fentry and
// whose systemd is process 1; and closetrace names the pods that reset connections, which are of files as well. The
// machine is a microVM, in which the steps run.
func TestStaticPods(t *testing.T) {
	needsEngines(t)
	n := &staticNode{cluster: &cluster{
		dir: guestNode, programs: filepath.Dir(guestKubelet), machine: true, cgroups: "/kubepods.slice",
	}}
	steps := []struct {
		name string
		run  func(*testing.T)
	}{
		{"closetrace", n.runClosetrace},
		{"server", n.runServer},
		{"endings", n.checkEndings},
		{"names", n.checkNames},
	}
	if os.Getenv(guestVariable) == "" {
		out := bootStaticNode(t)
		for _, step := range steps {
			if !strings.Contains(out, "--- PASS: "+t.Name()+"/"+step.name+" ") {
				t.Errorf("%s has not passed in the microVM", step.name)
			}
		}
		return
	}
	timeout = 10 * time.Minute
	began := time.Now()
	n.nodeNetwork(t)
	n.startNode(t)
	t.Cleanup(n.endProcesses)
	for _, step := range steps {
		if !t.Run(step.name, step.run) {
			t.Fatalf("%s failed: what follows needs it", step.name)
		}
		t.Logf("%s: done after %s", step.name, time.Since(began).Round(time.Second))
	}
}

// runClosetrace gives the kubelet the pod of the chart, and checks what it makes of it.
func (n *staticNode) runClosetrace(t *testing.T) {
	pod, err := os.ReadFile(guestPod)
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, "manifests/closetrace.json", string(pod))
	n.closetrace = n.await(t, "closetrace", "closetrace", kubeletPod.ready)
	n.confined(t)
	n.ownProfile(t, n.closetrace.container())
	if text := n.ask(t, "metrics"); !strings.Contains(text, `closetrace_build_info{attach="fentry"`) {
		t.Errorf("it is not attached by fentry:\n%s", text)
	}
}

// ownProfile checks that the calls that a container may make are those of deploy/seccomp.
func (n *staticNode) ownProfile(t *testing.T, container string) {
	t.Helper()
	type filter struct {
		DefaultAction   string
		DefaultErrnoRet int
		Syscalls        []struct {
			Names  []string
			Action string
		}
	}
	var bundle struct{ Linux struct{ Seccomp filter } }
	var want filter
	for file, into := range map[string]any{
		n.path("state/io.containerd.runtime.v2.task/k8s.io/" + container + "/config.json"): &bundle, seccompProfile: &want,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	if got := fmt.Sprint(bundle.Linux.Seccomp); len(want.Syscalls) == 0 || got != fmt.Sprint(want) {
		t.Errorf("seccomp %s, want %v", got, want)
	}
}

// runServer runs the server of the workload, until it listens.
func (n *staticNode) runServer(t *testing.T) {
	n.write(t, "manifests/cart.yaml", staticShopPod("cart", shopServer))
	n.server = n.await(t, "shop", "cart", kubeletPod.ready)
	eventually(t, "the server listens", func() error {
		log, err := n.logs(t, n.server)
		if err == nil && !strings.Contains(log, "listening\n") {
			err = fmt.Errorf("it printed %q", log)
		}
		return err
	})
}

// work runs the client of the workload in a pod of its own. It ends connections as it says.
func (n *staticNode) work(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("web%d", len(n.rounds)+1)
	n.write(t, "manifests/"+name+".yaml", staticShopPod(name, `{name: client, image: "`+shopImage+":"+imageTag+
		`", command: [/`+clientName+`, "`+n.server.Status.PodIP+`:5432", ""]}`))
	round := staticRound{client: n.await(t, "shop", name, kubeletPod.ended)}
	out, err := n.logs(t, round.client)
	if err != nil || round.client.Status.Phase != "Succeeded" {
		t.Fatalf("the client %s: %v\n%s", round.client.Status.Phase, err, out)
	}
	if err := json.Unmarshal([]byte(out), &round.made); err != nil || len(round.made) == 0 {
		t.Fatalf("the client printed %q: %v", out, err)
	}
	t.Logf("%s made %d connections", name, len(round.made))
	n.rounds = append(n.rounds, round)
}

// made is how many connections of a kind all clients say they made.
func (n *staticNode) made(kind byte) (made int) {
	for _, round := range n.rounds {
		for _, c := range round.made {
			if c.Kind == kind {
				made++
			}
		}
	}
	return made
}

// checkEndings compares what closetrace shows of each connection that was reset, at both ends, with what the client
// says, and with the pods that the kubelet knows.
func (n *staticNode) checkEndings(t *testing.T) {
	n.work(t)
	n.counted(t, serverLeavesUnread, serverName, "shop/"+n.server.Metadata.Name)
	n.counted(t, clientAborts, clientName)
	n.compare(t, n.rounds[0])
}

// checkNames does it again. By now the runtime was asked for the names of the server: it counts as its pod, and each of
// its endings has the names.
func (n *staticNode) checkNames(t *testing.T) {
	n.work(t)
	round := n.rounds[len(n.rounds)-1]
	named := "shop/" + n.server.Metadata.Name
	byName := n.counted(t, serverLeavesUnread, serverName, named)
	if want := n.made(serverLeavesUnread) - len(n.rounds[0].kind(serverLeavesUnread)); byName[named] < want {
		t.Errorf("%d endings count as %s, want at least %d: %v", byName[named], named, want, byName)
	}
	for _, e := range n.compare(t, round) {
		if got := e.Container; got.Namespace != "shop" || got.Pod != n.server.Metadata.Name || got.Name != "server" {
			t.Errorf("%+v, want server of the pod %s of shop", got, n.server.Metadata.Name)
		}
	}
}

func (r staticRound) kind(kind byte) (made []madeConnection) {
	return slices.DeleteFunc(slices.Clone(r.made), func(c madeConnection) bool { return c.Kind != kind })
}

// counted waits until closetrace has counted the first ends of all connections of a kind under one of the names that
// their workload may have, and returns how many by name.
func (n *staticNode) counted(t *testing.T, kind byte, names ...string) (byName map[string]int) {
	t.Helper()
	for _, round := range n.rounds {
		if kind == clientAborts {
			names = append(names, "shop/"+round.client.Metadata.Name)
		}
	}
	series := regexp.MustCompile(`(?m)^closetrace_tcp_endings_total\{path="` + regexp.QuoteMeta(first[kind].path) +
		`",workload="([^"]+)"\} (\d+)$`)
	eventually(t, "the endings are counted", func() error {
		byName = map[string]int{}
		sum := 0
		for _, found := range series.FindAllStringSubmatch(n.ask(t, "metrics"), -1) {
			count, err := strconv.Atoi(found[2])
			if err != nil {
				return err
			}
			byName[found[1]] = count
			if slices.Contains(names, found[1]) {
				sum += count
			}
		}
		if want := n.made(kind); sum != want {
			return fmt.Errorf("%s: %d endings of %v, want %d: %v", first[kind].path, sum, names, want, byName)
		}
		return nil
	})
	t.Logf("%s: %v", first[kind].path, byName)
	return byName
}

// compare looks for both ends of each connection of a round that was reset, and returns those of the server.
func (n *staticNode) compare(t *testing.T, round staticRound) (ofServer []lastEnding) {
	t.Helper()
	eventually(t, "both ends of each reset are shown", func() (err error) {
		ofServer, err = n.bothEnds(t, round)
		return err
	})
	for _, kind := range []byte{serverLeavesUnread, clientAborts} {
		if len(round.kind(kind)) == 0 {
			t.Errorf("no connection of kind %c was made", kind)
		}
	}
	return ofServer
}

func (n *staticNode) bothEnds(t *testing.T, round staticRound) (ofServer []lastEnding, err error) {
	var last struct{ Endings []lastEnding }
	text := n.ask(t, "debug/last")
	if err := json.Unmarshal([]byte(text), &last); err != nil {
		return nil, fmt.Errorf("%w in %s", err, text)
	}
	for _, made := range slices.Concat(round.kind(serverLeavesUnread), round.kind(clientAborts)) {
		atClient, atServer := first[made.Kind].path, first[made.Kind].other
		if first[made.Kind].atServer {
			atClient, atServer = atServer, atClient
		}
		client := only(last.Endings, round.client, func(e lastEnding) bool {
			return e.LocalPort == made.Port && e.Path == atClient
		})
		server := only(last.Endings, n.server, func(e lastEnding) bool {
			return client != nil && client.ConnectionID != "" && e.ConnectionID == client.ConnectionID && e.Path == atServer
		})
		if client == nil || server == nil {
			return nil, fmt.Errorf("port %d (%c): client %+v, server %+v, of %+v and %+v, in %s", made.Port, made.Kind,
				client, server, round.client, n.server, text)
		}
		ofServer = append(ofServer, *server)
	}
	return ofServer, nil
}

// only returns the ending that fits in the container of a pod, or nil unless there is exactly one. The pod is as
// the kubelet reports it, which closetrace does not ask.
func only(endings []lastEnding, pod kubeletPod, fits func(lastEnding) bool) *lastEnding {
	var found []lastEnding
	for _, e := range endings {
		if e.Container.PodUID == pod.Metadata.UID && e.Container.ID == pod.container() && fits(e) {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		return nil
	}
	return &found[0]
}

// staticShopPod is a pod of the workload with one container.
func staticShopPod(name, container string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: shop}\n" +
		"spec:\n  restartPolicy: Never\n  containers:\n    - " + container + "\n"
}

type podCondition struct{ Type, Status string }

// kubeletPod is what the tests look at of a pod as the kubelet shows it.
type kubeletPod struct {
	Metadata struct{ Name, Namespace, UID string }
	Status   struct {
		Phase, PodIP      string
		Conditions        []podCondition
		ContainerStatuses []struct {
			Name, ContainerID string
			RestartCount      int
		}
	}
}

// container returns the id of its only container.
func (p kubeletPod) container() string {
	if len(p.Status.ContainerStatuses) != 1 {
		return ""
	}
	return strings.TrimPrefix(p.Status.ContainerStatuses[0].ContainerID, "containerd://")
}

func (p kubeletPod) ready() bool {
	return slices.Contains(p.Status.Conditions, podCondition{Type: "Ready", Status: "True"})
}

func (p kubeletPod) ended() bool { return p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" }

// await waits for a pod. The name of a static pod ends in that of the node.
func (n *staticNode) await(t *testing.T, namespace, name string, is func(kubeletPod) bool) (found kubeletPod) {
	t.Helper()
	eventually(t, "the pod "+name+" is as wanted", func() error {
		text, err := n.askKubelet(t, "pods")
		if err != nil {
			return err
		}
		var pods struct{ Items []kubeletPod }
		if err := json.Unmarshal([]byte(text), &pods); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
		for _, pod := range pods.Items {
			if pod.Metadata.Namespace != namespace || pod.Metadata.Name != name+"-"+nodeName {
				continue
			}
			found = pod
			if is(pod) && pod.container() != "" {
				return nil
			}
		}
		return errors.New(text)
	})
	if restarts := found.Status.ContainerStatuses[0].RestartCount; restarts != 0 {
		t.Errorf("the container of %s was started again: %d times", name, restarts)
	}
	return found
}
