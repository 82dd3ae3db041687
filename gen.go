// Package closetrace is the root of the module; it holds no code, only this map.
//
// closetrace shows how and why each TCP connection on a Linux machine ended: the
// path the kernel took, the evidence, and the process that caused it.
//
//	live (needs the kernel, privileges)       pure (any machine, replayable)
//	probe ──> events ──┬──────────────────────────> classify ──> sink
//	                   └──> recording ──(replay)────────^
//
// The packages, each below those it imports:
//
//	bpf/                 reports facts from the kernel: C only
//	internal/events      Event (a fact), Ending (a conclusion), the table of paths
//	internal/terminal    hides the type of the terminal until main
//	internal/hint        errors with a hint, and their exit codes
//	internal/regular     opens regular files of users, without blocking
//	internal/outfile     opens files to write to, which are none of those that are read
//	internal/rights      opens files with the rights of the user, drops the others
//	internal/kernel      facts about the running kernel
//	internal/netns       network namespaces: find, enter, read counters
//	internal/sockets     open sockets, who holds them and how old they are
//	internal/rawevent    decodes records of the kernel side, also recorded ones
//	internal/probe       loads the BPF programs, attaches them, reads their records
//	internal/symbols     names functions of untrusted files, in a process without privileges
//	internal/enrich      looks up cgroups and the holders of a socket
//	internal/runtimes    asks container runtimes for names
//	internal/record      writes and reads recordings of events
//	internal/classify    concludes endings from events: one table of rules
//	internal/bothends    finds both ends of connections in recordings of several hosts
//	internal/filter      selects endings
//	internal/plan        decides what the kernel side only counts
//	internal/stuck       diagnoses sockets that do not close
//	internal/sink/table  lays out tables that are complete
//	internal/sink        prints endings: table, JSON lines, summary, audit
//	internal/check       finds out what can be traced on this machine
//	internal/message     prints errors and log records
//	internal/explain/sentence says in Chinese what closetrace says in English
//	internal/ladder      draws what both ends of a connection did
//	internal/top         counts endings in groups
//	internal/top/screen  shows the groups on a full screen
//	internal/explain     describes each path in English and Chinese
//	internal/logline     finds the ends of a connection in a line of a log
//	internal/why         finds the endings of one connection and says why it ended
//	internal/report      makes a page of recordings, to hand over
//	internal/version     says which build this is
//	internal/schema      has the JSON Schema of an ending
//	internal/stdio       says what the standard streams are connected to
//	internal/pipeline    runs events from a source to the sinks
//	internal/live        traces this machine: attaches, looks up, audits
//	internal/capture     reads packet captures and copies them with comments
//	internal/capture/capturetest takes the comments out of a capture, for tests
//	internal/annotate    finds the endings of the FINs and RSTs in a capture
//	internal/flagvalue   parses the values of flags
//	internal/config      sets flags from a YAML file
//	internal/command     runs a command in a cgroup and finds its endings
//	internal/metrics     counts endings for Prometheus
//	internal/anonymize   replaces addresses and names by keyed hashes
//	internal/otlp        sends endings to a collector of OpenTelemetry
//	internal/serve       traces as a service and answers HTTP requests
//	internal/lab         provokes every path with real sockets
//	internal/labrun      traces the lab and judges what was reported
//	cmd/closetrace       the commands: one file each, flags to options
//	test/                live tests, and real kernels in microVMs
//
// docs/architecture.md explains the design.
package closetrace

//go:generate go tool bpf2go -output-dir internal/probe -go-package probe -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -type event -type progress -type endpoints -type counter -type filter_field -type call_stack -type kernel_stack -type note -type open_fin -type cpu_counts -type stuck_socket -type stuck_holder bpf bpf/closetrace.bpf.c -- -Ibpf -Wall -Wextra -Wno-unused-parameter -Wpadded -Werror
//go:generate go tool bpf2go -output-dir internal/probe -go-package probe -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -no-global-types -output-stem bpf_plain bpfPlain bpf/closetrace.bpf.c -- -DPLAIN_LOADS -mcpu=v3 -Ibpf -Wall -Wextra -Wno-unused-parameter -Wpadded -Werror
//go:generate go run internal/rawevent/generate.go
