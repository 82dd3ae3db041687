#!/bin/sh
# Records the events of all scenarios anew: by tracepoints on this kernel, by
# fentry and kprobes in the microVM. To be run as root, after a change of the
# wire record or of what the kernel side reports; then read the difference.
set -eu
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
./closetrace lab --attach tracepoint --record "$dir/tracepoint" >/dev/null
for mode in fentry kprobe; do
	go run ./test/vm -kernel 6.1 -o "$dir/$mode" -- /bin/closetrace lab --attach "$mode" --record /out/rec
done
go run ./test/record "$dir/tracepoint" "$dir"/*/6.1/rec
