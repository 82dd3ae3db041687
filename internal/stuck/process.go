package stuck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/closetrace/closetrace/internal/sockets"
)

// heir is a process that inherited a socket from the one that started it, and the process that did.
type heir struct {
	holder  sockets.Holder
	starter sockets.Ancestor
}

// heirs returns the holders of a socket if all of them got it from a process that does not hold it itself, when that
// started another program and left the descriptor open by mistake. Otherwise it returns nil.
func (l *listeners) heirs(s *sockets.Socket, holders []sockets.Holder) (all []heir) {
	at := l.at(s)
	if len(at) == 0 {
		return nil
	}
	for i := range holders {
		starter := l.starter(at, &holders[i])
		if starter == nil || !l.unaware(&holders[i]) {
			return nil
		}
		all = append(all, heir{holders[i], *starter})
	}
	return all
}

// manager is a program that listens for others and passes connections to them on purpose.
const manager = "systemd"

// starter returns the nearest ancestor of a holder that listens at the same port, and executes another program. It is
// nil if the holder listens there as well, as a server and its worker processes do.
func (l *listeners) starter(at []*sockets.Socket, h *sockets.Holder) *sockets.Ancestor {
	if h.Process == nil || l.listens(at, h.PID) {
		return nil
	}
	for i := range h.Process.Ancestors {
		a := &h.Process.Ancestors[i]
		switch {
		case !l.listens(at, a.PID):
		case a.Comm == manager || strings.HasPrefix(h.Comm, a.Comm) || strings.HasPrefix(a.Comm, h.Comm):
			return nil // a server with a process per connection: sshd and sshd-session
		default:
			return a
		}
	}
	return nil
}

func (l *listeners) listens(at []*sockets.Socket, pid uint32) bool {
	return slices.ContainsFunc(at, func(s *sockets.Socket) bool { return holds(l.holders[s.Inode], pid) })
}

func holds(holders []sockets.Holder, pid uint32) bool {
	return slices.ContainsFunc(holders, func(h sockets.Holder) bool { return h.PID == pid })
}

// unaware reports whether nothing shows that a program knows of a socket that it holds: it is neither standard input,
// output nor error, and it was not made close-on-exec, as a program does with a descriptor that it uses.
func (l *listeners) unaware(h *sockets.Holder) bool {
	const standardError = 2
	return l.keptByExec != nil && !slices.ContainsFunc(h.FDs, func(fd int) bool {
		return fd <= standardError || !l.keptByExec(h.PID, h.TID, fd)
	})
}

// whyInherited says which holders were started by which processes.
func whyInherited(heirs []heir, port uint16) string {
	var words []string
	for i, h := range heirs {
		if i == mostNames {
			words = append(words, fmt.Sprintf("%d more", len(heirs)-mostNames))
			break
		}
		words = append(words, fmt.Sprintf("%s[%s] was started by %s[%d]",
			h.holder.Comm, h.holder.ID(), h.starter.Comm, h.starter.PID))
	}
	return fmt.Sprintf("inherited: %s, which listens at :%d and does not hold it", strings.Join(words, ", "), port)
}

// conditions says which processes cannot act, and why: "" if nothing is known.
func conditions(holders []sockets.Holder) string {
	var words []string
	for i := range holders {
		why := condition(holders[i].Process)
		if why == "" {
			continue
		}
		if len(words) == mostNames {
			words = append(words, "others as well")
			break
		}
		words = append(words, fmt.Sprintf("%s[%d] %s", holders[i].Comm, holders[i].PID, why))
	}
	return strings.Join(words, "; ")
}

func condition(p *sockets.Process) string {
	if p == nil {
		return ""
	}
	var words []string
	switch p.State {
	case sockets.Stopped:
		words = append(words, "is stopped by a signal (SIGSTOP, SIGTSTP)")
	case sockets.Traced:
		words = append(words, "is stopped by a debugger")
	case sockets.Frozen:
		words = append(words, "is frozen by its cgroup")
	case sockets.Uninterruptible:
		words = append(words, "is in uninterruptible sleep (first thread in state D)")
	}
	if p.OutOfDescriptors() {
		words = append(words, fmt.Sprintf("is out of descriptors (%d of %d used)", p.Descriptors, p.DescriptorLimit))
	}
	return strings.Join(words, " and ")
}
