#!/bin/sh
# After a removal. Debian's purge, which removes the configuration, removes the recordings as well: the state of a
# service with a dynamic user is in private, with a link to it.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "${1-}" = purge ]; then
	rm -rf /var/lib/private/closetrace /var/lib/closetrace
fi
