#!/bin/sh
# make fuzz: runs each fuzz target for the given time. Go writes an input that fails to testdata/fuzz of its package.
# Commit it with the fix: the ordinary tests run it from then on.
set -eu
time=$1
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z]*\)(.*/\1/p'); do
		echo "$dir $target"
		# Without a limit, minimizing inputs takes all the time.
		"${GO:-go}" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$dir"
	done
done
