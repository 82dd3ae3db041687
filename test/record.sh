#!/bin/sh
# Records the events of all scenarios again, or those of the scenarios given: by tracepoints on this kernel, by fentry and
# kprobes in the microVM, or only in the modes of MODES. Run it as root after a change of the recording's format or of
# what the kernel side reports, then read the diff.
#
#   test/record.sh
#   MODES="fentry kprobe" test/record.sh recv.fin_leaked
set -eu
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then # by name, because some scenarios run only so
	# shellcheck disable=SC2046
	set -- $(./closetrace lab --list | cut -d ' ' -f 1)
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for mode in ${MODES:-tracepoint fentry kprobe}; do
	if [ "$mode" = tracepoint ]; then
		./closetrace lab --attach "$mode" --record "$dir/$mode/here/rec" "$@" >/dev/null
	else
		go run ./test/vm -kernel 6.1 -o "$dir/$mode" -- /bin/closetrace lab --attach "$mode" --record /out/rec "$@"
	fi
done
go run ./test/record "$dir"/*/*/rec
