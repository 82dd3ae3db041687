package rights

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// AsUser calls do with the rights of the user who started this process, and without the capabilities that the file of
// the program adds (setcap(8)) or its owner's rights (set-user-ID). What the user names is opened this way: a user who
// may execute closetrace may not read or write other users' files with it, nor learn whether they exist.
//
// The rights are those of the calling thread. A do that opens on another goroutine does not have them.
func AsUser(do func() error) (err error) {
	if unix.Getuid() == 0 && unix.Geteuid() == 0 {
		return do() // what root may do, it may do without this program
	}
	runtime.LockOSThread()
	defer func() {
		if err == nil || !isBroken(err) {
			runtime.UnlockOSThread() // otherwise the thread ends with its goroutine
		}
	}()
	restore, err := lowerThread()
	if err != nil {
		return err
	}
	err = do()
	if failed := restore(); failed != nil {
		return broken{failed}
	}
	return err
}

// broken is an error after which a thread does not have its own rights.
type broken struct{ error }

func isBroken(err error) bool { _, is := err.(broken); return is }

// lowerThread gives the calling thread the rights of the user. restore gives it back those that it had.
func lowerThread() (restore func() error, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		return nil, os.NewSyscallError("capget", err)
	}
	lowered := before
	for i, word := range ambient() {
		lowered[i].Effective &= word
	}
	// An effective user id of 0 passes the checks of owners. Changing the ids for files changes the capabilities for
	// files, which is why the ids come first.
	uid, gid := unix.Geteuid(), unix.Getegid()
	if err := setFileIDs(unix.Getuid(), unix.Getgid()); err != nil {
		return nil, broken{err}
	}
	restore = func() error {
		if err := setFileIDs(uid, gid); err != nil {
			return err
		}
		return os.NewSyscallError("capset", unix.Capset(&header, &before[0]))
	}
	if err := unix.Capset(&header, &lowered[0]); err != nil {
		return nil, broken{os.NewSyscallError("capset", err)}
	}
	return restore, nil
}

// setFileIDs sets the ids of the calling thread by which access to files is checked.
func setFileIDs(uid, gid int) error {
	if err := unix.Setfsgid(gid); err != nil {
		return os.NewSyscallError("setfsgid", err)
	}
	return os.NewSyscallError("setfsuid", unix.Setfsuid(uid))
}

// ambient returns the capabilities that the user has without the program's file, as capget(2) does: the ambient set of
// the first call. execve(2) clears that set for a file that has capabilities or set-user-ID, and [Limit] empties it.
var ambient = sync.OnceValue(func() (words [2]uint32) {
	for word := range words {
		for bit := range 32 {
			if has, err := cap.GetAmbient(cap.Value(word*32 + bit)); err == nil && has {
				words[word] |= 1 << bit
			}
		}
	}
	return words
})

// DropForUser permanently drops what the user does not have without this program: see [AsUser]. It drops nothing of
// root's.
func DropForUser() error {
	if unix.Getuid() == 0 && unix.Geteuid() == 0 {
		return nil
	}
	return DropAll()
}

// DropAll permanently drops every capability of every thread, and the rights of the owner of the file (set-user-ID).
func DropAll() error {
	if uid, gid := unix.Getuid(), unix.Getgid(); uid != unix.Geteuid() || gid != unix.Getegid() {
		if err := syscall.Setresgid(gid, gid, gid); err != nil { // of all threads
			return os.NewSyscallError("setresgid", err)
		}
		if err := syscall.Setresuid(uid, uid, uid); err != nil {
			return os.NewSyscallError("setresuid", err)
		}
	}
	return Limit(cap.NewSet())
}

// securebits take from user id 0 what execve(2) and the ambient set would give back to it. They are locked.
const securebits = cap.SecbitNoRoot | cap.SecbitNoRootLocked | cap.SecbitKeepCapsLocked |
	cap.SecbitNoCapAmbientRaise | cap.SecbitNoCapAmbientRaiseLocked

// Limit permanently limits every thread to a set of capabilities: no execve(2) gives one back. Without CAP_SETPCAP the
// bounding set and the securebits stay, but no_new_privs has the same effect.
func Limit(kept *cap.Set) error {
	ambient() // while there is one
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	if may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP); err == nil && may {
		if err := securebits.Set(); err != nil {
			return fmt.Errorf("setting the securebits: %w", err)
		}
		for c := range cap.MaxBits() {
			if bound, err := cap.GetBound(c); err != nil || !bound {
				continue
			}
			if err := cap.DropBound(c); err != nil {
				return fmt.Errorf("dropping %s from the bounding set: %w", strings.ToUpper(c.String()), err)
			}
		}
	}
	return kept.SetProc()
}
