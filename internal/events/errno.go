package events

import (
	"slices"
	"strings"
)

// Errno is an error number of Linux. An event has those of the traced kernel, also where closetrace replays it on a
// system that has other numbers.
type Errno int

// EPIPE is the error of a write that the peer cannot receive any more.
const EPIPE Errno = 32

// Name returns the name of the error, "" if it has none.
func (e Errno) Name() string { return nameOf(errnoNames, int(e)) }

// Text returns what perror(3) prints of an error that sockets return; "" of others.
func (e Errno) Text() string { return errnoTexts[e.Name()] }

// ErrnoNamed returns the error with this name, 0 if there is none.
func ErrnoNamed(name string) Errno {
	if name == "" {
		return 0
	}
	return Errno(slices.Index(errnoNames, name) + 1)
}

// SignalName returns the name of a signal of Linux, "" if it has none.
func SignalName(n int) string { return nameOf(signalNames, n) }

// nameOf returns the name of a number, of which the first is 1.
func nameOf(names []string, n int) string {
	if n < 1 || n > len(names) || names[n-1] == "-" {
		return ""
	}
	return names[n-1]
}

// errnoNames are the names in include/uapi/asm-generic/errno.h, which amd64 and arm64 use.
var errnoNames = strings.Fields(`
	EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
	EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
	ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG
	EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET
	ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG
	ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE
	EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOTSUP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE
	EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN
	ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EFSCORRUPTED ENOTNAM
	ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED
	EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON
`)

// signalNames are the names in include/uapi/asm-generic/signal.h, up to the real-time signals.
var signalNames = strings.Fields(`
	SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
	SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF
	SIGWINCH SIGIO SIGPWR SIGSYS
`)

// errnoTexts are the texts of the errors that sockets return.
var errnoTexts = map[string]string{
	"EACCES":        "permission denied",
	"EINTR":         "interrupted system call",
	"EBUSY":         "device or resource busy",
	"EINVAL":        "invalid argument",
	"EMFILE":        "too many open files",
	"EPIPE":         "broken pipe",
	"EADDRINUSE":    "address already in use",
	"EADDRNOTAVAIL": "cannot assign requested address",
	"ENETUNREACH":   "network is unreachable",
	"ECONNABORTED":  "software caused connection abort",
	"ECONNRESET":    "connection reset by peer",
	"ENOTCONN":      "transport endpoint is not connected",
	"ETIMEDOUT":     "connection timed out",
	"ECONNREFUSED":  "connection refused",
	"EHOSTUNREACH":  "no route to host",
}
