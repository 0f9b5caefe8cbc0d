#!/bin/sh
# Installs what `cargo build --features mpi` needs and does not find: Open MPI with its headers, and
# libclang, which reads them. Called by `make test-mpi` and `make build-mpi`. On Debian and its
# derivatives it uses apt-get, as root or with sudo; elsewhere it reports what to install.
set -eu

have() {
    command -v mpirun >/dev/null || return 1
    # Debian's openmpi-bin has an mpicc without the headers.
    echo '#include <mpi.h>' | mpicc -E -x c - >/dev/null 2>&1 || return 1
    for library in "${LIBCLANG_PATH:-/nowhere}"/libclang* /usr/lib/llvm-*/lib/libclang*.so* \
        /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so*; do
        [ -e "$library" ] && return 0
    done
    return 1
}

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

have && exit 0
NEEDED="openmpi-bin libopenmpi-dev libclang-dev"
command -v apt-get >/dev/null || fail "MPI is not installed, and there is no apt-get" \
    "install Open MPI with its headers (mpirun, mpicc) and libclang, then run this again"
SUDO=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "MPI is not installed, and installing it needs root" \
        "as root: apt-get install $NEEDED"
    SUDO=sudo
fi
echo "mpi: installing $NEEDED" >&2
# An outdated list of packages names files that are gone.
$SUDO apt-get update -qq >&2 || true
# shellcheck disable=SC2086 # a list of names
$SUDO env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $NEEDED >&2 ||
    fail "apt-get could not install $NEEDED (its own message is above)" \
        "check the network, or install them by hand"
have || fail "$NEEDED are installed, but mpirun, mpi.h or libclang is not found" \
    "check PATH, or set LIBCLANG_PATH to libclang's folder"
