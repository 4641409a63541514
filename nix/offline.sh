#!/bin/sh
# Nix on a machine whose only network is its package registries (Debian's archive and PyPI).
#
#   sh nix/offline.sh run .#serve
#
# Installs Nix, Python and pip from the machine's own archive where they are missing, asks the machine's own apt and
# pip for exactly the pinned files that the command needs, and hands everything after it to nix.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
    echo "error: $1" >&2
    exit 1
}

trap 'echo "error: interrupted: run the same command to go on" >&2; exit 130' INT

[ $# -gt 0 ] || fail "what should nix do? For example: sh nix/offline.sh run .#serve"

# Where Nix's own installer puts it; sudo's PATH leaves it out.
PATH=$PATH:/nix/var/nix/profiles/default/bin

missing=
command -v nix >/dev/null 2>&1 || missing="nix-bin nix-setup-systemd"
command -v python3 >/dev/null 2>&1 || missing="$missing python3"
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
missing=${missing# }

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 ||
        fail "this machine lacks $missing and has no apt to install them with: install them, or Nix 2.18 or later for plain \`nix run .#serve\`"
    [ "$(id -u)" -eq 0 ] ||
        fail "installing $missing needs root: run this once as root, or apt-get install $missing"
    echo "offline: installing $missing" >&2
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # As patient with an archive that does not answer as nix/pinning is.
    patience="-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 -o Acquire::Retries=1"
    # shellcheck disable=SC2086 # lists of options and packages
    (apt-get $patience update -qq && DEBIAN_FRONTEND=noninteractive apt-get $patience install -qq --no-install-recommends $missing) >"$log" 2>&1 || {
        said=$(grep -m 1 '^[EW]: Failed to fetch' "$log" || grep -m 1 '^E:' "$log" || tail -n 1 "$log")
        fail "apt-get could not install $missing: $said; check the network and \`apt-get update\`, then run this again"
    }
    rm -f "$log"
    trap - EXIT
fi

python=$(python3 -c 'import sys; print(sys.executable); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) ||
    fail "$(python3 --version) is too old: install Python 3.11 or later, then run this again"

# Python tells of Ctrl-C at its own start by a traceback, and from pinning's start by a line: none in between.
trap '' INT
# Isolated, as what nix runs is to have the caller's PYTHONPATH and not this.
exec "$python" -I -B -c 'import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module("pinning.offline", run_name="__main__")' "$here" "$@"
