#!/bin/sh
# Checks the dependencies of building ("build"), testing ("test"), testing packages ("packages") or serve ("fleet").
# Installs those of testing on Debian and Ubuntu; elsewhere lists what to install.
set -eu
PATH=$PATH:/usr/sbin:/sbin

goal=${1:-build}
want_go=1.26

fail() {
	printf 'closetrace: %s\nhint: %s\n' "$1" "$2" >&2
	exit 1
}

command -v go >/dev/null || fail "go: command not found" "install Go $want_go or later and put it on the PATH"
# An older go downloads the toolchain of go.mod, unless GOTOOLCHAIN forbids it.
GOTOOLCHAIN=${GOTOOLCHAIN:-auto} go version >/dev/null ||
	fail "the go command does not run" "install Go $want_go or later"
[ "$goal" != build ] || exit 0

# command:package on Debian and Ubuntu
needs="clang-14:clang-14 llvm-strip-14:llvm-14 clang-format-14:clang-format-14
qemu-system-x86_64:qemu-system-x86 qemu-system-aarch64:qemu-system-arm
dpkg-deb:dpkg xz:xz-utils git:git gcc:gcc sysctl:procps jq:jq tmux:tmux"

# Servers that test/live traces, tshark, which reads what annotate wrote, and Chromium, which shows reports. Tests skip
# those that apt-get cannot install.
servers="nginx:nginx-light haproxy:haproxy redis-server:redis-server psql:postgresql-client
/usr/lib/postgresql/15/bin/postgres:postgresql-15 node:nodejs java:openjdk-17-jdk-headless nft:nftables
tshark:tshark chromium:chromium"

# What make test-packages needs besides.
[ "$goal" != packages ] || needs="$needs lintian:lintian shellcheck:shellcheck rpm2cpio:rpm2cpio cpio:cpio
mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs podman:podman runc:runc containerd:containerd"

# What a node of Kubernetes needs besides its own programs, which make test-fleet builds, and what makes it a microVM.
[ "$goal" != fleet ] || needs="$needs runc:runc containerd:containerd nsenter:util-linux
/usr/lib/cni/ptp:containernetworking-plugins mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs"

missing= names= wanted=
for need in $needs; do
	command -v "${need%%:*}" >/dev/null && continue
	missing="$missing ${need##*:}" names="$names ${need%%:*}"
done
[ -e /usr/include/bpf/bpf_helpers.h ] || missing="$missing libbpf-dev" names="$names bpf/bpf_helpers.h"
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev" names="$names stdio.h"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] ||
	missing="$missing debian-archive-keyring" names="$names debian-archive-keyring.gpg"
# The packages of a Debian for arm64 are configured by programs of arm64.
[ "$goal" != packages ] || [ -e /usr/lib/binfmt.d/qemu-aarch64.conf ] ||
	missing="$missing qemu-user-static" names="$names qemu-aarch64.conf"
for server in $servers; do
	command -v "${server%%:*}" >/dev/null || wanted="$wanted ${server##*:}"
done
[ -n "$missing$wanted" ] || exit 0

if ! command -v apt-get >/dev/null; then
	[ -n "$missing" ] || exit 0
	fail "missing:$names" \
	"install clang 14, llvm 14, clang-format 14, libbpf's headers, qemu for x86 and arm64, dpkg, xz, git, jq, tmux,
a C compiler and Debian's archive keyring (for packages also lintian, shellcheck, rpm2cpio, cpio, mmdebstrap,
e2fsprogs, qemu-user-static, podman, runc and containerd; for the fleet runc, containerd, CNI plugins, mmdebstrap and
e2fsprogs),
then run make again"
fi

root=
[ "$(id -u)" = 0 ] || root=sudo
echo "installing$missing$wanted"
$root apt-get update -q >/dev/null || fail "apt-get update failed" "fix apt, or install by hand:$missing"

install() {
	$root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

# shellcheck disable=SC2086 # a list of packages
[ -z "$missing" ] || install $missing ||
	fail "apt-get could not install$missing" "install them by hand, then run make again"

# The tests start the servers. Their packages must not.
policy=/usr/sbin/policy-rc.d
if [ -n "$wanted" ] && [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' | $root tee $policy >/dev/null
	$root chmod +x $policy
	trap '$root rm -f $policy' EXIT
fi
for package in $wanted; do
	install "$package" || echo "closetrace: apt-get could not install $package: its test is skipped"
done
