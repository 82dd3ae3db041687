//go:build linux

package live

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/closetrace/closetrace/internal/enrich"
)

// containerID names a cgroup as docker would.
const containerID = "c105e7ace0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f80"

// cgroupsFor makes the cgroup of a container with one inside, and another one
// outside.
func cgroupsFor(t testing.TB) (m enrich.CgroupMount, container, inside, other string) {
	t.Helper()
	privileged(t)
	m, err := enrich.FindCgroups("/proc")
	top := filepath.Join(m.Dir, fmt.Sprintf("closetrace-test-%d", os.Getpid()))
	if err == nil {
		err = os.Mkdir(top, 0o755)
	}
	if err != nil && os.Getenv("CLOSETRACE_LIVE") != "1" {
		t.Skipf("needs cgroup v2, writable: %v", err)
	}
	must(t, err)
	container = filepath.Join(top, "docker-"+containerID+".scope")
	inside, other = filepath.Join(container, "a", "b"), filepath.Join(top, "other.service")
	t.Cleanup(func() {
		for _, folder := range []string{inside, filepath.Dir(inside), container, other, top} {
			must(t, unix.Rmdir(folder))
		}
	})
	must(t, os.MkdirAll(inside, 0o755))
	must(t, os.Mkdir(other, 0o755))
	return m, container, inside, other
}

// visitCgroups makes sockets in one cgroup and closes them in another. args are
// the container's cgroup, one inside, and one outside.
func visitCgroups(args []string) error {
	container, inside, other := args[0], args[1], args[2]
	enter := func(folder string) error {
		return os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0)
	}
	// connection makes one in a cgroup, and ends it in others: the end that
	// connects, then the one that was accepted.
	connection := func(d boundSocket, made, ends, endsToo string, linger int32) error {
		err := enter(made)
		if err != nil {
			return err
		}
		ours, theirs, err := d.pair()
		if err != nil {
			return err
		}
		if linger >= 0 {
			(&end{fd: ours}).linger(unix.Linger{Onoff: 1, Linger: linger})
		}
		if err := enter(ends); err != nil {
			return err
		}
		unix.Close(ours)
		_, _ = unix.Read(theirs, make([]byte, 1)) // the EOF or the reset, whichever it is
		if err := enter(endsToo); err != nil {
			return err
		}
		return unix.Close(theirs)
	}
	if err := enter(inside); err != nil {
		return err
	}
	d, err := newListener(loopback4) // its connections belong to the container
	if err != nil {
		return err
	}
	if err := connection(d, other, other, other, 0); err != nil {
		return err
	}
	if err := connection(d, other, container, other, -1); err != nil {
		return err
	}
	unix.Close(d.fd)
	if d, err = newListener(loopback4); err != nil { // and this one's are not
		return err
	}
	if err := connection(d, other, other, other, -1); err != nil {
		return err
	}
	unix.Close(d.fd)
	ready()
	return nil
}

// A cgroup has the endings of sockets that were made in it or below, whichever
// process ends them, and the calls that its tasks make. A recording has the same.
func TestCgroupFilter(t *testing.T) { attempts(t, cgroupFilter) }

func cgroupFilter(t testing.TB) {
	m, container, inside, other := cgroupsFor(t)
	want := []string{
		"close.fin.active of other by container", "close.fin.passive of inside by other", "close.listen of inside by other",
		"close.silent.closed.reset of inside by other", "recv.fin of inside", "recv.rst of inside",
	}
	called := strings.NewReplacer(m.Path(inside), "inside", m.Path(container), "container", m.Path(other), "other")
	check := func(name string, out []byte) {
		t.Helper()
		var got []string
		for line := range strings.Lines(string(out)) {
			var e struct {
				Path, Cgroup string
				ActorCgroup  string `json:"actor_cgroup"`
				Container    struct{ ID, Runtime string }
			}
			must(t, json.Unmarshal([]byte(line), &e))
			stderr := e.Path + " of " + called.Replace(e.Cgroup)
			if e.ActorCgroup != "" {
				stderr += " by " + called.Replace(e.ActorCgroup)
			}
			inside := strings.HasPrefix(e.Cgroup, m.Path(container))
			if inside != (e.Container.ID == containerID && e.Container.Runtime == "docker") {
				t.Errorf("%s: container %+v", stderr, e.Container)
			}
			got = append(got, stderr)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	file := filepath.Join(t.TempDir(), "all.jsonl")
	filters := [][]string{{"--cgroup", m.Path(container)}, {"--cgroup", container}, {"--container", containerID[:12]}}
	inNetns(t, func(uint32) {
		all := launch(t, "-w", file, "--close-wait", "0s")
		var sessions []*session
		for _, f := range filters {
			sessions = append(sessions, launch(t, append(slices.Clone(f), "-o", "json", "--close-wait", "0s")...))
		}
		startChild(t, "visit", container, inside, other).exit(t)
		for i, r := range append(sessions, all) {
			code, stderr := r.interrupt(t)
			out, err := io.ReadAll(r.stdout) // which fits into a pipe
			must(t, err)
			if code != 0 {
				t.Errorf("exit code %d, standard error:\n%s", code, stderr)
			}
			if r != all {
				check(strings.Join(filters[i], " "), out)
			}
		}
	})
	path, err := program()
	must(t, err)
	for _, f := range filters {
		f[1] = strings.Replace(f[1], m.Dir, "", 1) // a record knows paths, no folders
		out, err := exec.Command(path, append([]string{"replay", "-o", "json", file}, f...)...).Output()
		must(t, err)
		check("replay "+strings.Join(f, " "), out)
	}
	cmd := exec.Command(path, "--container", "c105e7ace1")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("no such container: %v, %s", err, out)
	}
}

// What a runtime calls a container is asked for once capabilities are given up, and
// of a filter before.
func TestContainerNames(t *testing.T) {
	_, container, inside, other := cgroupsFor(t)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	addr, err := net.Listen("unix", socket)
	must(t, err)
	must(t, os.Chmod(socket, 0o600))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Id":%q,"Name":"/web"}`, containerID)
	})}
	defer server.Close()
	go func() { _ = server.Serve(addr) }()
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	inNetns(t, func(uint32) {
		r := launch(t, "--container-names", "--container", "web", "-o", "json")
		lines := make(chan string)
		go func() {
			defer close(lines)
			for from := bufio.NewScanner(r.stdout); from.Scan(); {
				lines <- from.Text()
			}
		}()
		// The answer to the first question may be late, on a machine that is busy.
		visit := startChild(t, "visit", container, inside, other)
		for line := range lines {
			if strings.Contains(line, `"name":"web"`) {
				break
			}
			if strings.Contains(line, `"close.listen"`) { // the last one
				visit.exit(t)
				visit = startChild(t, "visit", container, inside, other)
			}
		}
		visit.exit(t)
		go func() {
			for range lines {
			}
		}()
		if code, stderr := r.interrupt(t); code != 0 || strings.Contains(stderr, "names of containers are missing") {
			t.Errorf("exit code %d, standard error:\n%s", code, stderr)
		}
	})
}
