package guest

// Report is what the live tests tell of one attach mode on one kernel.
type Report struct {
	Kernel string `json:"kernel"` // its release
	Attach string `json:"attach"` // the mode
	Passed int    `json:"passed"` // scenarios of the lab
	Failed int    `json:"failed"`
	// Explained and Seen count segments with FIN or RST, by the lab and by the
	// random workload.
	Explained int `json:"explained"`
	Seen      int `json:"seen"`
	// Gaps are what the kernel does not offer: unmet needs of scenarios, hooks
	// that could not be attached.
	Gaps []string `json:"gaps"`
	// Instructions that the kernel's verifier looked at, by program; nothing
	// before Linux 5.16.
	Instructions map[string]uint32 `json:"instructions,omitempty"`
}
