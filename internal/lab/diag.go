//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/sock_diag.h and inet_diag.h.
const (
	sockDestroy   = 21
	diagRequest   = 56         // bytes of struct inet_diag_req_v2
	anyCookie     = 0xffffffff // INET_DIAG_NOCOOKIE: any socket with the addresses
	netlinkHeader = 16
)

// Destroy kills the socket with these addresses by SOCK_DESTROY, like ss -K. It
// returns the error number of the answer, nil if the socket was killed.
func Destroy(local, remote netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, destroyRequest(local, remote), 0, kernel); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := unix.Read(fd, answer)
	if err != nil {
		return err
	}
	if n < netlinkHeader+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("sock_diag answered %x", answer[:n])
	}
	if code := int32(binary.NativeEndian.Uint32(answer[netlinkHeader:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// destroyRequest returns a struct nlmsghdr and a struct inet_diag_req_v2.
func destroyRequest(local, remote netip.AddrPort) []byte {
	request := make([]byte, netlinkHeader+diagRequest)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], sockDestroy)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	body := request[netlinkHeader:]
	body[0] = unix.AF_INET6
	if local.Addr().Is4() {
		body[0] = unix.AF_INET
	}
	body[1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], 0xffffffff) // in any state
	binary.BigEndian.PutUint16(body[8:], local.Port())
	binary.BigEndian.PutUint16(body[10:], remote.Port())
	copy(body[12:28], local.Addr().AsSlice())
	copy(body[28:44], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint32(body[48:], anyCookie)
	binary.NativeEndian.PutUint32(body[52:], anyCookie)
	return request
}

// doHelperDestroy makes the helper kill a socket of any process.
func doHelperDestroy(r *sandbox, h *helper, args []string) (string, error) {
	ep, ok := r.res.Sockets[args[0]]
	if !ok {
		return "", fmt.Errorf("no socket %s", args[0])
	}
	return "", r.command(h, fmt.Sprintf("destroy %s %s", ep.Local, ep.Remote))
}

// runDestroy executes it in the helper. The addresses are in the form of AddrPort.
func runDestroy(local, remote string) error {
	from, err := netip.ParseAddrPort(local)
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(remote)
	if err != nil {
		to = netip.AddrPort{} // a listener has none
	}
	return Destroy(from, to)
}
