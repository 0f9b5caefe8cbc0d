#!/bin/sh
# Installs packages of Debian and its derivatives with apt-get, as root or with sudo.
# install_packages.sh WHAT PACKAGE…: WHAT is what messages call them.
set -eu

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

what=$1
shift
command -v apt-get >/dev/null || fail "$what is not installed, and there is no apt-get" \
    "install what Debian calls $*, then run this again"
SUDO=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "$what is not installed, and installing it needs root" \
        "as root: apt-get install $*"
    SUDO=sudo
fi
echo "$what: installing $*" >&2
# An outdated list of packages names files that are gone.
$SUDO apt-get update -qq >&2 || true
$SUDO env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >&2 ||
    fail "apt-get could not install $* (its own message is above)" \
        "check the network, or install them by hand"
