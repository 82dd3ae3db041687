#!/bin/sh
# make fuzz: gives each fuzz target arbitrary input for the given time. What it finds is written to testdata/fuzz of the
# package, to be committed with the mending: the ordinary tests run it from then on.
set -eu
time=$1
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p'); do
		echo "$dir $target"
		# Without a limit, making inputs small takes all the time.
		"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$dir"
	done
done
