#!/bin/bash
# The action's script: runs COMMAND under closetrace, writes an annotation for each of the first endings and a table of
# more to the job's summary, and exits as closetrace run does.
#
# The environment has the inputs: CLOSETRACE (the program), COMMAND, FAIL_ON, ONLY, ENDINGS (the file); and GitHub's
# GITHUB_OUTPUT and GITHUB_STEP_SUMMARY.
set -u

here=$(dirname "$0")
root=() user=()
if [ "$(id -u)" != 0 ]; then
	# sudo sets a PATH of its own.
	root=(sudo -E env "PATH=$PATH")
	user=(sudo -E -u "$(id -un)" env "PATH=$PATH")
fi

"${root[@]}" "$CLOSETRACE" run --fail-on "$FAIL_ON" --only "$ONLY" -o json --output-file "$ENDINGS" \
	-- "${user[@]}" bash -e -o pipefail -c "$COMMAND"
status=$?
[ -e "$ENDINGS" ] || exit "$status" # closetrace printed why
"${root[@]}" chown "$(id -u):$(id -g)" "$ENDINGS"

# endings prints the endings of the file. Its last object is the summary, which has a kind; an ending has none.
endings() { jq -c 'select(has("kind") | not)' "$ENDINGS"; }

# GitHub shows ten errors of a step, and refuses a summary of more than a megabyte.
endings | jq -r -s -f "$here/annotations.jq" --argjson most 10
endings | jq -r -s -f "$here/summary.jq" --argjson most 100 --arg fail_on "$FAIL_ON" >>"$GITHUB_STEP_SUMMARY"
echo "endings=$(endings | jq -s length)" >>"$GITHUB_OUTPUT"
exit "$status"
