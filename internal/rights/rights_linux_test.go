package rights

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// A user whom the service manager gives CAP_DAC_READ_SEARCH has it as long as the process keeps it: what is read at the
// start can be read again once the other capabilities are dropped. One that comes from the program's file, which clears
// the ambient set, is not the user's.
func TestAmbientOutlivesLimit(t *testing.T) {
	const asks = "CLOSETRACE_TEST_RIGHTS_FILE"
	if file := os.Getenv(asks); file != "" {
		readAsUser(t, file, os.Getenv("CLOSETRACE_TEST_RIGHTS_OF") == "file")
		return
	}
	if had, err := cap.GetProc().GetFlag(cap.Permitted, cap.DAC_READ_SEARCH); os.Getuid() != 0 || err != nil || !had {
		t.Skip("needs root with CAP_DAC_READ_SEARCH")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"user", "file"} {
		// The link is open to any user, the directories of the path are not.
		child := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), asks+"="+secret, "CLOSETRACE_TEST_RIGHTS_OF="+of)
		child.Dir = "/"
		child.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
			AmbientCaps: []uintptr{unix.CAP_DAC_READ_SEARCH},
		}
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("rights of the %s: %v\n%s", of, err, out)
		}
	}
}

// readAsUser opens a file of root's as the user, before and after Limit. ofFile: the ambient set is that of a program
// whose file has capabilities.
func readAsUser(t *testing.T, file string, ofFile bool) {
	runtime.LockOSThread()
	if ofFile {
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	open := func() error {
		return AsUser(func() error {
			f, err := os.Open(file)
			f.Close()
			return err
		})
	}
	kept := cap.NewSet()
	err := errors.Join(kept.SetFlag(cap.Permitted, true, cap.DAC_READ_SEARCH),
		kept.SetFlag(cap.Effective, true, cap.DAC_READ_SEARCH))
	if err != nil {
		t.Fatal(err)
	}
	before, limited, after := open(), Limit(kept), open()
	if limited != nil {
		t.Fatal(limited)
	}
	if ofFile {
		if !errors.Is(before, fs.ErrPermission) || !errors.Is(after, fs.ErrPermission) {
			t.Errorf("before: %v, after: %v", before, after)
		}
		return
	}
	if before != nil || after != nil {
		t.Errorf("before: %v, after: %v", before, after)
	}
}
