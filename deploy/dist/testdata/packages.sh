#!/bin/bash
# Installs, starts, reloads, upgrades and removes old.deb and new.deb, which are beside it, under the systemd that
# started it. It prints PASSED at the end.
set -eux -o pipefail
cd "$(dirname "$0")"
pid() { systemctl show --property MainPID --value closetrace; }
state() { systemctl "$1" closetrace || true; }
get() {
	exec 3<>/dev/tcp/127.0.0.1/9740
	printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$1" >&3
	cat <&3
	exec 3<&-
} # to a grep that reads it all: with -q, cat could get SIGPIPE
# Closes with an answer that was not read, which are resets, until the service has reported one.
reports() {
	for _ in {1..30}; do
		exec 3<>/dev/tcp/127.0.0.1/9740
		printf 'GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
		sleep 1
		exec 3<&-
		if get /debug/last | grep '"path":"close.rst.unread"' | grep '"comm":"bash"'; then return; fi
	done
	return 1
}
# The same by a service that begins after closetrace, which looks up the path of its cgroup by the id of it.
names_unit() {
	systemd-run --unit=late bash -c 'while :; do
		exec 3<>/dev/tcp/127.0.0.1/9740
		printf "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3
		sleep 1
		exec 3<&-
	done'
	for _ in {1..30}; do
		if get /debug/last | grep '"path":"close.rst.unread"' | grep '"unit":"late.service"'; then
			systemctl stop late
			return
		fi
		sleep 1
	done
	return 1
}
# Reloads the configuration, and returns once the service has reported that, and after it $1.
reloads() {
	systemctl reload closetrace
	for _ in {1..30}; do
		if journalctl --no-pager --output cat --unit closetrace | grep "closetrace: reloaded the configuration$1\$"; then
			return
		fi
		sleep 1
	done
	return 1
}
left() { find / -xdev -path /packages -prune -o -iname '*closetrace*' -print; }
before=$(left)

dpkg --install old.deb
[ "$(state is-enabled)" = disabled ]
[ "$(state is-active)" = inactive ]

systemctl enable --now closetrace # returns once closetrace has said that it traces
[ "$(state is-active)" = active ]
first=$(pid)
get /readyz | grep '^HTTP/1.0 200'
get /metrics | grep '^closetrace_build_info'
user=$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$first/status")
[ "$user" -ge 61184 ] # systemd's range of dynamic users
grep -qx 'CapBnd:	000000c400080004' "/proc/$first/status" # the five
grep -qx 'CapEff:	0000008000080004' "/proc/$first/status" # BPF, DAC_READ_SEARCH, SYS_PTRACE: once attached
grep -qx 'Seccomp:	2' "/proc/$first/status"
reports
names_unit

# A configuration and a key that only root may read. The service reads them with CAP_DAC_READ_SEARCH, also once it has
# dropped the capabilities that it does not need any more.
chmod 600 /etc/closetrace/serve.yaml
(umask 077 && echo 0123456789abcdef >/etc/closetrace/key)
printf 'otlp: http://127.0.0.1:4318\nanonymize-file: /etc/closetrace/key\n' >/etc/closetrace/serve.yaml
reloads '; restart to change anonymize-file, otlp'
rm /etc/closetrace/key
echo 'last: 7' >/etc/closetrace/serve.yaml
reloads ''
[ "$(stat --format %a /etc/closetrace/serve.yaml)" = 600 ]
[ "$(pid)" = "$first" ]

dpkg --install --force-confold new.deb
[ "$(state is-active)" = active ]
[ "$(pid)" != "$first" ]
[ "$(cat /etc/closetrace/serve.yaml)" = 'last: 7' ]
get /readyz | grep '^HTTP/1.0 200'
reports

dpkg --remove closetrace
[ "$(state is-active)" = inactive ]
[ ! -e /usr/bin/closetrace ]
[ ! -e /etc/systemd/system/multi-user.target.wants/closetrace.service ]
[ -e /etc/closetrace/serve.yaml ] # until the package is purged
dpkg --purge closetrace
[ ! -e /etc/closetrace ]
[ "$(left)" = "$before" ]
echo PASSED
