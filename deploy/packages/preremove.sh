#!/bin/sh
# Before a removal, for which dpkg passes the word remove and rpm the number 0. Alpine Linux has no systemd.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now closetrace.service
	fi
	;;
esac
