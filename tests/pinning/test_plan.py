"""Command lines are read as nix reads them."""

import pytest

from pinning.plan import Request, parse


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ("run .#serve", Request("run", ("serve",))),
        ("run", Request("run", ("default",))),
        ("run . -- --port 1", Request("run", ("default",))),
        ("run .#serve demo --port 1", Request("run", ("serve",))),
        ("build .#a .#b", Request("build", ("a", "b"))),
        ("build -o out .#a", Request("build", ("a",))),
        ("build --option cores 1 .#a", Request("build", ("a",))),
        ("develop -c make", Request("develop", ("default",))),
        ("flake check", Request("flake check", ())),
        ("fmt", Request("fmt", ())),
        ("fmt -- python", Request("fmt", ())),
        ("flake check -L", Request("flake check", ())),
        ("flake check --no-build", Request("flake check", (), builds=False)),
        ("build .#a --dry-run", Request("build", ("a",), builds=False)),
        ("run .#a MODEL --dry-run", Request("run", ("a",))),
        ("--version", Request("", ())),
    ],
)
def test_a_request_is_read_from_a_command_line(line: str, request_: Request) -> None:
    assert parse(line.split()) == request_
