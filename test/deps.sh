#!/bin/sh
# Makes sure that what building ("build") or testing ("test") needs is there:
# installs it on Debian and Ubuntu, elsewhere says exactly what to install.
set -eu

goal=${1:-build}
want_go=1.26

fail() {
	printf 'closetrace: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

command -v go >/dev/null || fail "there is no go command" "install Go $want_go or later and put it on the PATH"
# An older go fetches the toolchain that go.mod asks for, if it may.
GOTOOLCHAIN=${GOTOOLCHAIN:-auto} go version >/dev/null ||
	fail "go does not work here" "install Go $want_go or later"
[ "$goal" = test ] || exit 0

# command:package on Debian and Ubuntu
needs="clang-14:clang-14 llvm-strip-14:llvm-14 clang-format-14:clang-format-14
qemu-system-x86_64:qemu-system-x86 qemu-system-aarch64:qemu-system-arm
dpkg-deb:dpkg xz:xz-utils git:git gcc:gcc sysctl:procps jq:jq tmux:tmux"

missing= names=
for need in $needs; do
	command -v "${need%%:*}" >/dev/null && continue
	missing="$missing ${need##*:}" names="$names ${need%%:*}"
done
[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev" names="$names bpf/bpf_helpers.h"
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev" names="$names stdio.h"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
	missing="$missing debian-archive-keyring" names="$names debian-archive-keyring.gpg"
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null ||
	fail "these are missing:$names" "install clang 14, llvm 14, clang-format 14, libbpf's headers, qemu for x86 and arm64, dpkg, xz, git, jq, tmux, a C compiler and Debian's archive keyring, then run it again"

root=
[ "$(id -u)" = 0 ] || root=sudo
echo "installing$missing"
$root apt-get update -q >/dev/null || fail "apt-get update failed" "mend apt, or install by hand:$missing"
# shellcheck disable=SC2086 # a list of packages
$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null ||
	fail "apt-get could not install$missing" "install them by hand, then run it again"
