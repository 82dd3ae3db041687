//go:build linux

package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// needs returns the scenario's needs, with those of its family.
func (sc *Scenario) needs() []string {
	if sc.Family == IPv4 {
		return sc.Needs
	}
	return append([]string{"ipv6"}, sc.Needs...)
}

// unmet returns why a need does not hold here, "" if it holds. It must run in the
// scenario's namespace.
func (r *sandbox) unmet(need string) (reason string, err error) {
	if version, ok := strings.CutPrefix(need, "kernel>="); ok {
		return kernelOlder(version)
	}
	if key, ok := strings.CutPrefix(need, "sysctl "); ok {
		if _, err := os.Stat(sysctlPath(key)); err != nil {
			return err.Error(), nil
		}
		return "", nil
	}
	switch need {
	case "cap_net_admin":
		return lacksCapability(unix.CAP_NET_ADMIN)
	case "cap_net_raw":
		return lacksCapability(unix.CAP_NET_RAW)
	case "mptcp":
		return lacksProtocol(unix.IPPROTO_MPTCP)
	case needFirewall:
		return lacksFirewall()
	case "sock_destroy":
		return lacksDestroy()
	case "ipv6":
		if _, err := os.Stat("/proc/thread-self/net/if_inet6"); err != nil {
			return "this kernel has no IPv6: " + err.Error(), nil
		}
		return "", r.until("ready", loopbackV6)
	case "io_uring":
		ring, _, err := ioUringSetup()
		if err != nil {
			return "io_uring_setup: " + err.Error(), nil
		}
		return "", unix.Close(ring)
	case "init-netns-orphans":
		err := outside(func() error { return unix.Access(sysctlPath(maxOrphans), unix.W_OK) })
		if err != nil {
			return fmt.Sprintf("%s is global and cannot be set from here: %v", maxOrphans, err), nil
		}
		return "", nil
	}
	return "", fmt.Errorf("unknown need")
}

const maxOrphans = "net.ipv4.tcp_max_orphans"

// kernelOlder returns the running release if it is older than one such as 5.14.
func kernelOlder(than string) (string, error) {
	var un unix.Utsname
	if err := unix.Uname(&un); err != nil {
		return "", err
	}
	release := unix.ByteSliceToString(un.Release[:])
	var major, minor, wantMajor, wantMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return "", fmt.Errorf("kernel release %q: %w", release, err)
	}
	if _, err := fmt.Sscanf(than, "%d.%d", &wantMajor, &wantMinor); err != nil {
		return "", fmt.Errorf("release %q: %w", than, err)
	}
	if major > wantMajor || major == wantMajor && minor >= wantMinor {
		return "", nil
	}
	return "this is " + release, nil
}

// lacksCapability returns why a capability is not effective, "" if it is.
func lacksCapability(capability int) (string, error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return "", err
	}
	_, rest, _ := bytes.Cut(status, []byte("CapEff:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	set, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	if err != nil {
		return "", fmt.Errorf("effective capabilities: %w", err)
	}
	if set&(1<<capability) == 0 {
		return "it is not in the effective set", nil
	}
	return "", nil
}

// lacksProtocol returns why no socket of a protocol can be opened, "" if it can.
func lacksProtocol(protocol int) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err.Error(), nil
	}
	return "", unix.Close(fd)
}

// lacksDestroy returns why SOCK_DESTROY does not work, "" if it does. It needs CAP_NET_ADMIN, the
// module tcp_diag and a kernel built with CONFIG_INET_DIAG_DESTROY.
func lacksDestroy() (string, error) {
	unused := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)
	if err := Destroy(unused, unused); err != unix.ENOENT {
		return fmt.Sprintf("sock_diag answers: %v", err), nil
	}
	return "", nil
}

// loopbackV6 binds a socket to ::1, which takes a moment after the device is up.
func loopbackV6() (string, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}); err != nil {
		return err.Error(), nil
	}
	return "ready", nil
}
