#!/bin/sh
# Nix on a machine whose only network is its package registries (Debian's archive and PyPI).
#
#   sh nix/offline.sh run .#serve
#
# Installs Nix, Python and pip from the machine's own archive where they are missing, asks the machine's own apt and
# pip for exactly the pinned files that the command needs, and hands everything after it to nix.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

missing=
command -v nix >/dev/null 2>&1 || missing="nix-bin nix-setup-systemd"
command -v python3 >/dev/null 2>&1 || missing="$missing python3"
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: this machine has no apt to install Nix with: install Nix 2.18 or later and use plain \`nix run .#serve\`" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "error: installing $missing needs root: run this once as root, or apt-get install $missing" >&2
        exit 1
    fi
    echo "offline: installing $missing" >&2
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of packages
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing; } >"$log" 2>&1; then
        echo "error: apt-get could not install $missing: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
fi

PYTHONPATH=$here exec python3 -B -m pinning.offline "$@"
