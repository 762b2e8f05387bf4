#!/bin/sh
# install.sh PACKAGE…: installs Debian's packages, as root, without starting what they bring.
set -eu

# Debian asks this file whether a package may start its service, which would take ports and cores.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
