#!/bin/sh
# Prints the name of Chromium or of a browser like it, which it installs where there is none. Called
# by `make test-browser`.
set -eu

find() {
    for name in ${CHROMIUM:-chromium chromium-browser google-chrome}; do
        command -v "$name" && return 0
    done
    return 1
}

find && exit 0
"$(dirname "$0")/install_packages.sh" Chromium chromium fonts-dejavu-core
find && exit 0
echo "error: Chromium is installed, but not found" >&2
echo "hint: check PATH, or set CHROMIUM to the browser's program" >&2
exit 1
