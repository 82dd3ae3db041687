#!/bin/sh
# Boots the systemd of the root directory $1 as process 1 of its own namespaces, without a network but loopback. Returns
# when it ends. It needs root and cgroup v2, whose directory $2 belongs to it.
set -eu
exec unshare --mount --pid --fork --kill-child --uts --ipc --net --propagation private sh -eu -c '
	echo $$ >"$2/cgroup.procs"
	mount --bind "$1" "$1"
	cd "$1"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t tmpfs tmpfs run
	mount -t tmpfs tmpfs tmp
	mount --rbind /dev dev
	exec unshare --cgroup sh -eu -c "
		mount -t cgroup2 cgroup2 sys/fs/cgroup
		pivot_root . mnt
		umount -l /mnt
		exec env -i container=closetrace PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
	"
' sh "$1" "$2"
