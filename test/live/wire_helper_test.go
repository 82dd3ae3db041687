//go:build linux

package live

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// wireHelperEnv makes a process a helper of the workload. Its value is a random
// seed, the number of sockets, and whether it waits to be killed.
const wireHelperEnv = "CLOSETRACE_WIRE_HELPER"

// Descriptors of a helper.
const (
	helperSays  = 3 // the end of a pipe
	helperFirst = 4 // the first socket
)

// runWireHelper does the job of a helper, if this process is one: it uses its
// sockets, writes a byte, and then exits or waits to be killed, with all of them
// open.
func runWireHelper() bool {
	job, isHelper := os.LookupEnv(wireHelperEnv)
	if !isHelper {
		return false
	}
	var seed uint64
	var sockets, wait int
	if _, err := fmt.Sscan(job, &seed, &sockets, &wait); err != nil {
		os.Exit(2)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for range rng.IntN(4 * sockets) {
		e := &end{fd: helperFirst + rng.IntN(sockets), rng: rng}
		e.step()
	}
	_, _ = unix.Write(helperSays, []byte{1})
	for wait != 0 {
		_ = unix.Pause()
	}
	return true
}

// helper gives ends of connections to a process, which exits or is killed.
func (s *worker) helper() error {
	var ours, theirs []*end
	for range 1 + s.rng.IntN(3) {
		a, b, err := s.connection()
		if err != nil {
			return err
		}
		if a != nil {
			ours, theirs = append(ours, a), append(theirs, b)
		}
	}
	defer func() {
		for _, e := range ours {
			e.step()
			e.close()
		}
	}()
	if len(theirs) == 0 {
		return nil
	}
	return s.spawn(ours, theirs)
}

func (s *worker) spawn(ours, theirs []*end) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	killed := s.rng.IntN(2)
	files := []uintptr{0, 1, 2, uintptr(pipe[1])}
	for _, e := range theirs {
		files = append(files, uintptr(e.fd))
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"wire-helper"}, &syscall.ProcAttr{
		Env:   []string{fmt.Sprintf("%s=%d %d %d", wireHelperEnv, s.rng.Uint64(), len(theirs), killed)},
		Files: files,
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	unix.Close(pipe[1])
	for _, e := range theirs {
		e.close()
	}
	if err != nil {
		return fmt.Errorf("start a helper: %w", err)
	}
	for _, e := range ours {
		e.step()
	}
	if killed != 0 && s.rng.IntN(4) > 0 { // else at any time
		_, _ = unix.Read(pipe[0], make([]byte, 1))
	}
	if killed != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return reap(pid)
}

func reap(pid int) error {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return err
		}
	}
}
