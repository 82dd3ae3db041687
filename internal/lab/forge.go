//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Some endings need a segment or an ICMP message that no kernel of our own
// sends: raw sockets do, with the sequence numbers that TCP_REPAIR tells.
// ICMP in IPv4 only.

// Of include/uapi/linux/tcp.h.
const (
	repairOffSilently = -1 // TCP_REPAIR_OFF_NO_WP
	repairSendQueue   = 2  // TCP_SEND_QUEUE
)

// nextSequence is the number of the next byte that a socket will send.
func nextSequence(fd int) (next uint32, err error) {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return 0, err
	}
	defer func() {
		if off := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOffSilently); err == nil {
			err = off
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, repairSendQueue); err != nil {
		return 0, err
	}
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	return uint32(n), err
}

// sendRaw sends what follows the IP header.
func sendRaw(protocol int, to netip.Addr, packet []byte) error {
	domain, peer := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		domain, peer = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, packet, 0, peer)
}

// checksum is the Internet checksum.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts { // each of even length
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// segmentHeader is a TCP header without its checksum.
func segmentHeader(ep Endpoint, seq, ack uint32, flags byte) []byte {
	th := make([]byte, 20)
	binary.BigEndian.PutUint16(th, ep.Local.Port())
	binary.BigEndian.PutUint16(th[2:], ep.Remote.Port())
	binary.BigEndian.PutUint32(th[4:], seq)
	binary.BigEndian.PutUint32(th[8:], ack)
	th[12], th[13] = 5<<4, flags
	binary.BigEndian.PutUint16(th[14:], 0xffff) // window
	return th
}

// doForge sends the peer a segment in the socket's name that does not fit:
// "syn" begins anew in the middle of the handshake, "ack" acknowledges what
// was never sent.
func doForge(r *room, s *socket, args []string) (string, error) {
	flags, ok := map[string]byte{"syn": 0x02, "ack": 0x10}[args[0]]
	if !ok {
		return "", fmt.Errorf("want: forge syn, or forge ack, not %q", args[0])
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	next, err := nextSequence(fd)
	if err != nil {
		return "", err
	}
	ep := r.res.Sockets[s.name]
	th := segmentHeader(ep, next, uint32(flags>>4), flags)
	from, to := ep.Local.Addr().Unmap(), ep.Remote.Addr().Unmap()
	// The pseudo headers of IPv4 and IPv6 have the same sum.
	pseudo := []byte{0, unix.IPPROTO_TCP, 0, byte(len(th))}
	sum := checksum(from.AsSlice(), to.AsSlice(), pseudo, th)
	binary.BigEndian.PutUint16(th[16:], sum)
	return "", sendRaw(unix.IPPROTO_TCP, to, th)
}

// doICMP tells the socket that a segment it has sent could not be delivered.
// CODE is that of "destination unreachable": 1 host unreachable, 3 port
// unreachable, 13 prohibited.
func doICMP(r *room, s *socket, args []string) (string, error) {
	code, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return "", err
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	next, err := nextSequence(fd)
	if err != nil {
		return "", err
	}
	ep := r.res.Sockets[s.name]
	message := append(make([]byte, 8), ipHeader(ep)...)
	message = append(message, segmentHeader(ep, next-1, 0, 0)...)
	message[0], message[1] = 3, byte(code)
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return "", sendRaw(unix.IPPROTO_ICMP, ep.Local.Addr(), message)
}

// ipHeader is the IP header of a segment from the socket to its peer.
func ipHeader(ep Endpoint) []byte {
	ip := make([]byte, 20)
	ip[0], ip[3], ip[8], ip[9] = 4<<4|5, 40, 64, unix.IPPROTO_TCP
	copy(ip[12:], ep.Local.Addr().AsSlice())
	copy(ip[16:], ep.Remote.Addr().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return ip
}
