#!/bin/sh
# Installs what `cargo build --features mpi` needs and does not find: Open MPI with its headers, and
# libclang, which reads them. Called by `make test-mpi` and `make build-mpi`.
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

have && exit 0
"$(dirname "$0")/install_packages.sh" MPI openmpi-bin libopenmpi-dev libclang-dev
have && exit 0
echo "error: MPI is installed, but mpirun, mpi.h or libclang is not found" >&2
echo "hint: check PATH, or set LIBCLANG_PATH to libclang's folder" >&2
exit 1
