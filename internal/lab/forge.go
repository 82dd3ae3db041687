//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Some endings need a segment or an ICMP message that the kernel never sends.
// Raw sockets send it, with the sequence numbers from TCP_REPAIR. ICMP is IPv4
// only.

// Of include/uapi/linux/tcp.h.
const (
	repairOffSilently = -1 // TCP_REPAIR_OFF_NO_WP
	repairRecvQueue   = 1  // TCP_RECV_QUEUE
	repairSendQueue   = 2  // TCP_SEND_QUEUE
)

// nextSequence returns the sequence number of the next byte that a socket will send, or receive.
func nextSequence(fd, queue int) (next uint32, err error) {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return 0, err
	}
	defer func() {
		if off := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOffSilently); err == nil {
			err = off
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
		return 0, err
	}
	n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
	return uint32(n), err
}

// ForgedTOS is the type of service, or the traffic class, of a RST that the lab forges. A wire capture recognizes it by
// that: no ending belongs to it. The kernel copies that of a segment into its reply, and never replies to a RST.
const ForgedTOS = 0x04

// rawIPv6 is what the kernel writes into the IPv6 header of a raw packet; 0 is what it writes itself.
type rawIPv6 struct{ hops, class int }

// sendRaw sends an IP packet without its header or, of IPPROTO_RAW, with it.
func sendRaw(protocol int, to netip.Addr, packet []byte, header rawIPv6) error {
	domain, peer := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		domain, peer = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for option, value := range map[int]int{unix.IPV6_UNICAST_HOPS: header.hops, unix.IPV6_TCLASS: header.class} {
		if value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return err
		}
	}
	return unix.Sendto(fd, packet, 0, peer)
}

// checksum returns the Internet checksum.
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

// segmentHeader returns a TCP header without its checksum.
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

// forged are the segments that forge sends: their flags, and how many arguments follow the word.
var forged = map[string]struct {
	flags       byte
	least, most int
}{
	"syn": {0x02, 0, 0}, "ack": {0x10, 0, 0}, "window0": {0x10, 1, 1}, "rst": {0x04, 3, 4}, "rst-at": {0x04, 1, 1},
}

// doForge sends the peer a segment with the socket's addresses that the kernel did not make:
//
//	syn       a SYN in the middle of the handshake
//	ack       acknowledges bytes that were never sent
//	window0   acknowledges what was received and N bytes more, and closes the window
//	rst       a valid RST from somewhere else: TTL or hop limit, window, IP id (IPv4), and perhaps an option
//	rst-at    a RST with a sequence number that is N from the next one
func doForge(r *sandbox, s *socket, args []string) (string, error) {
	kind, args := args[0], args[1:]
	form, ok := forged[kind]
	if !ok || len(args) < form.least || len(args) > form.most {
		const usage = "forge syn, ack, window0 N, rst TTL WINDOW ID [timestamps] or rst-at N"
		return "", fmt.Errorf("want %s, not %q %q", usage, kind, args)
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	next, err := nextSequence(fd, repairSendQueue)
	if err != nil {
		return "", err
	}
	ep := r.res.Sockets[s.name]
	th := segmentHeader(ep, next, uint32(form.flags>>4), form.flags)
	var ip []byte
	var hops int
	switch kind {
	case "rst":
		th, ip, hops, err = forgedRST(ep, th, args)
	case "rst-at":
		var n int64
		n, err = strconv.ParseInt(args[0], 10, 32)
		binary.BigEndian.PutUint32(th[4:], next+uint32(n))
		binary.BigEndian.PutUint16(th[14:], 0)
	case "window0":
		err = closeWindow(fd, th, args[0])
	}
	if err != nil {
		return "", err
	}
	return "", sendSegment(ep, ip, th, hops)
}

// closeWindow makes a segment acknowledge what was received and n bytes more, with a window of 0.
func closeWindow(fd int, th []byte, n string) error {
	more, err := strconv.ParseUint(n, 10, 16)
	if err != nil {
		return err
	}
	received, err := nextSequence(fd, repairRecvQueue)
	binary.BigEndian.PutUint32(th[8:], received+uint32(more))
	binary.BigEndian.PutUint16(th[14:], 0)
	return err
}

// sendSegment sends a TCP header, and the IP header before it if there is one, to the peer of a socket.
func sendSegment(ep Endpoint, ip, th []byte, hops int) error {
	from, to := ep.Local.Addr().Unmap(), ep.Remote.Addr().Unmap()
	// The pseudo headers of IPv4 and IPv6 have the same sum.
	pseudo := []byte{0, unix.IPPROTO_TCP, 0, byte(len(th))}
	sum := checksum(from.AsSlice(), to.AsSlice(), pseudo, th)
	binary.BigEndian.PutUint16(th[16:], sum)
	isRST := th[13] == forged["rst"].flags
	switch {
	case ip == nil && isRST && to.Is4():
		ip = ipHeader(ep)
		fallthrough
	case ip != nil: // which has the protocol
		ip[1], ip[10], ip[11] = ForgedTOS, 0, 0
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		return sendRaw(unix.IPPROTO_RAW, to, append(ip, th...), rawIPv6{})
	case isRST:
		return sendRaw(unix.IPPROTO_TCP, to, th, rawIPv6{hops, ForgedTOS})
	}
	return sendRaw(unix.IPPROTO_TCP, to, th, rawIPv6{})
}

// forgedRST completes the TCP header of a RST by TTL WINDOW ID [timestamps]. It returns the IP header for IPv4, and
// the hop limit for IPv6.
func forgedRST(ep Endpoint, th []byte, args []string) (tcp, ip []byte, hops int, err error) {
	var numbers [3]uint64
	for i := range numbers {
		if numbers[i], err = strconv.ParseUint(args[i], 10, 16); err != nil {
			return nil, nil, 0, err
		}
	}
	binary.BigEndian.PutUint16(th[14:], uint16(numbers[1]))
	if len(args) > 3 {
		th = append(th, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0) // twice padding, then timestamps
		th[12] = byte(len(th) / 4 << 4)
	}
	if !ep.Local.Addr().Unmap().Is4() {
		return th, nil, int(numbers[0]), nil
	}
	ip = ipHeader(ep)
	ip[3], ip[8] = byte(len(ip)+len(th)), byte(numbers[0])
	binary.BigEndian.PutUint16(ip[4:], uint16(numbers[2]))
	return th, ip, 0, nil
}

// doICMP sends the socket an ICMP error "destination unreachable" about a segment
// that it sent. CODE is 1 for host unreachable, 3 for port unreachable, 13 for
// prohibited.
func doICMP(r *sandbox, s *socket, args []string) (string, error) {
	code, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return "", err
	}
	fd, err := s.use()
	if err != nil {
		return "", err
	}
	next, err := nextSequence(fd, repairSendQueue)
	if err != nil {
		return "", err
	}
	ep := r.res.Sockets[s.name]
	message := append(make([]byte, 8), ipHeader(ep)...)
	message = append(message, segmentHeader(ep, next-1, 0, 0)...)
	message[0], message[1] = 3, byte(code)
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return "", sendRaw(unix.IPPROTO_ICMP, ep.Local.Addr(), message, rawIPv6{})
}

// ipHeader returns the IP header of a segment from the socket to its peer.
func ipHeader(ep Endpoint) []byte {
	ip := make([]byte, 20)
	ip[0], ip[3], ip[8], ip[9] = 4<<4|5, 40, 64, unix.IPPROTO_TCP
	copy(ip[12:], ep.Local.Addr().Unmap().AsSlice())
	copy(ip[16:], ep.Remote.Addr().Unmap().AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return ip
}
