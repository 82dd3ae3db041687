package sockets

// Process is what a process that holds a socket shows of itself in /proc.
type Process struct {
	State ProcessState `json:"state,omitempty"`
	// Descriptors is the number of its open descriptors that are below DescriptorLimit; 0: unknown.
	Descriptors     uint64 `json:"descriptors,omitempty"`
	DescriptorLimit uint64 `json:"descriptor_limit,omitempty"` // soft RLIMIT_NOFILE; 0: unknown
	// Ancestors are its parent, the parent of that, and so on.
	Ancestors []Ancestor `json:"-"`
}

// Ancestor is a process that started another one, or adopted it.
type Ancestor struct {
	PID  uint32
	Comm string
}

// ProcessState is why a process does not run. It is empty for one that runs or sleeps.
type ProcessState string

// The states in which a process makes no calls.
const (
	Stopped         ProcessState = "stopped"         // by a signal such as SIGSTOP
	Traced          ProcessState = "traced"          // stopped by a debugger
	Frozen          ProcessState = "frozen"          // its cgroup is frozen
	Uninterruptible ProcessState = "uninterruptible" // its first thread is in uninterruptible sleep
)

// OutOfDescriptors reports whether the process can open no file and accept no connection.
func (p *Process) OutOfDescriptors() bool {
	return p.DescriptorLimit > 0 && p.Descriptors >= p.DescriptorLimit
}
