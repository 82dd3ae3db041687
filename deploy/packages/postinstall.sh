#!/bin/sh
# After an installation or an upgrade. The unit stays disabled until it is enabled by hand; one that runs is restarted.
# If that fails, for example because of its configuration, systemctl says so, and the package is installed all the same.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart closetrace.service || :
fi
