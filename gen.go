// Package closetrace is the root of the house; it holds no code, only this map.
//
// closetrace answers one question for every TCP connection on a Linux machine:
// which path did its ending take in the kernel, why, and whose call was it?
//
//	live (needs the kernel, privileges)       pure (any machine, replayable)
//	probe ──> events ──┬──────────────────────────> classify ──> sink
//	                   └──> record file ──(replay)──────^
//
// The rooms:
//
//	bpf/               what the kernel reports: C only
//	internal/events    the vocabulary: Event (a fact), Ending (a conclusion)
//	internal/probe     the only room that knows C: load, attach, decode
//	internal/kernel    facts about the running kernel
//	internal/classify  which path, and why: one rule table
//	internal/record    a stream of events as a file, both directions
//	internal/filter    what somebody wants to see of it
//	internal/sink      where endings go: table, JSON lines, summary
//	internal/explain   each path in plain words
//	internal/lab       provokes every path with real sockets
//	cmd/closetrace     the commands; wires the rooms
//	test/              live tests and real kernels in microVMs
//
// docs/architecture.md tells why it is built so.
package closetrace

//go:generate go tool bpf2go -output-dir internal/probe -go-package probe -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -type event -type course -type parties -type counter -type filter_field -type call_stack -type stuck_socket -type stuck_holder bpf bpf/closetrace.bpf.c -- -Ibpf -Wall -Wextra -Wno-unused-parameter -Wpadded -Werror
//go:generate go tool bpf2go -output-dir internal/probe -go-package probe -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -no-global-types -output-stem bpf_plain bpfPlain bpf/closetrace.bpf.c -- -DPLAIN_LOADS -mcpu=v3 -Ibpf -Wall -Wextra -Wno-unused-parameter -Wpadded -Werror
