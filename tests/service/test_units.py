"""The units: the same in Nix and in Python, and text that systemd reads as it was meant.

SERVICE_MATRIX names nix/service/matrix.nix's value as JSON.
"""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.launch.settings.options import Options
from dgx_vllm.service import units
from dgx_vllm.service.instance import Instance, decode
from dgx_vllm.util.errors import USAGE, UserError

needs_matrix = pytest.mark.skipif("SERVICE_MATRIX" not in os.environ, reason="SERVICE_MATRIX names no file")

MAIN = Instance(name="main", command="/bin/dgx-vllm")


@pytest.fixture(scope="module")
def matrix() -> Any:
    return json.loads(Path(os.environ["SERVICE_MATRIX"]).read_text())


@needs_matrix
def test_nix_and_python_make_the_same_units(matrix: Any) -> None:
    assert len(matrix["units"]) > 20
    for entry in [*matrix["units"], *matrix["alone"]]:
        made = units.units(decode(json.dumps(entry["instance"]).encode()))
        mine = {
            name: {"unit": unit.unit, "service": unit.service, "environment": dict(unit.environment)}
            for name, unit in made.items()
        }
        assert mine == entry["units"], entry["instance"]


REFUSED = {
    "nothing": [],
    "two": [],
    "swapped": [],
    "budgets": ["add up to 120.0 GB, and 119.7GB less the reserve of 8.0 GB is 111.7 GB"],
    "port": ["port 8888 is also that of 'b'", "port 8888 is also that of 'a'"],
    "rivals": ["starts with the machine, and so does 'b'", "starts with the machine, and so does 'a'"],
    "cache": ["need a user who owns them"],
    "group": ["group needs a user"],
    "firewall": ["opens a port that listens only on 127.0.0.1"],
    "download": ["has no model to fetch"],
    "stored": ["a secret lies in /nix/store"],
    "gone": ["'VLLM_ATTENTION_BACKEND' and 'VLLM_USE_V1'; use --attention-backend instead of VLLM_ATTENTION"],
    "told": ["a secret in environment, extraArgs or settings"],
    "argued": ["a secret in environment, extraArgs or settings"],
    "set": ["a secret in environment, extraArgs or settings"],
    "underscored": ["write api-key, with dashes", "a secret in environment, extraArgs or settings"],
    "spelt": [
        "--hf_overrides.a_b (write hf-overrides.a_b, without the dashes in front); "
        "--max-model-len (write max-model-len, without the dashes in front); "
        "Seed (no flag of vLLM has such a name); max_num_seqs (write max-num-seqs, with dashes"
    ],
    "listed": [
        "allowed-origins (a list holds strings and numbers",
    ],
    "variable": ["'1A' and 'A B' cannot be the name of a variable"],
    "relative": ["model ./model is not an absolute path"],
    "slashed": ["model owner/model/ is not an absolute path"],
    "headless": ["a headless node never answers"],
    "headed": ["a headless node never answers"],
    "stranger": ["user carol is not among users.users"],
    "strangers": ["group none is not among users.groups"],
    "ported": ["host, port and revision are options of their own"],
    "hosted": ["host, port and revision are options of their own"],
    "revised": ["host, port and revision are options of their own"],
    "elsewhere": ["fetches models into its cache, not into download-dir"],
    "named": ["lower-case letters, digits and dashes"],
    "fetching": ["end in -download fetch models"],
    "users": ["instances.b would take systemd's cache directory from 'a'"],
}


@needs_matrix
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_at_evaluation(matrix: Any, name: str) -> None:
    said = matrix["refused"][name]
    assert len(said) == len(REFUSED[name])
    for message, expected in zip(said, REFUSED[name], strict=True):
        assert expected in message


@needs_matrix
def test_every_bad_configuration_of_the_matrix_is_expected(matrix: Any) -> None:
    assert set(matrix["refused"]) == set(REFUSED)


@needs_matrix
def test_instances_conflict_unless_both_have_budgets(matrix: Any) -> None:
    assert matrix["conflicts"] == {"a": ["c"], "b": ["c"], "c": ["a", "b"]}


@needs_matrix
def test_nix_knows_what_no_download_fetches(matrix: Any) -> None:
    """As for Python in test_install_command.py."""
    assert set(matrix["needed"]) == {True}
    assert set(matrix["unneeded"]) == {False}


def test_of_two_that_exclude_each_other_one_waits_for_the_end_of_the_other() -> None:
    """By itself Conflicts= starts the one while the other still has the memory and the port."""
    one = units.units(msgspec.structs.replace(MAIN, name="a", conflicts=["b"]))["dgx-vllm-a.service"]
    other = units.units(msgspec.structs.replace(MAIN, name="b", conflicts=["a"]))["dgx-vllm-b.service"]
    assert (one.unit["Conflicts"], other.unit["Conflicts"]) == (
        ["dgx-vllm-b.service"],
        ["dgx-vllm-a.service"],
    )
    assert "dgx-vllm-a.service" in other.unit["After"]
    assert "dgx-vllm-b.service" not in one.unit["After"]  # or no transaction could stop both


def unquoted(line: str) -> list[str]:
    """A command line as systemd.syntax(7) and systemd.service(5) read it, of the quoting that we write."""
    words, rest = [], line
    while rest := rest.lstrip(" "):
        if rest.startswith('"'):
            word, end = json.JSONDecoder().raw_decode(rest)
        else:
            end = (rest + " ").index(" ")
            word = rest[:end]
        words.append(word.replace("%%", "\0").replace("$$", "$"))
        rest = rest[end:]
    return [word.replace("\0", "%") for word in words]


@given(extra=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1)))
def test_arguments_come_through_systemds_quoting(extra: list[str]) -> None:
    """Dollar and percent signs, quotes and backslashes: none is a variable or a specifier."""
    made = units.units(Instance(name="main", command="/bin/dgx-vllm", extra_args=extra))
    words = unquoted(made["dgx-vllm-main.service"].service["ExecStart"])
    assert words[len(words) - len(extra) :] == extra


def test_secrets_are_credentials_alone() -> None:
    made = units.units(
        Instance(
            name="main",
            command="/bin/dgx-vllm",
            model="owner/name",
            download=True,
            options=Options(api_key_file=Path("/run/key")),
            hf_token_file="/run/token",
        )
    )
    server, download = made["dgx-vllm-main.service"], made["dgx-vllm-main-download.service"]
    assert server.service["LoadCredential"] == ["api-key:/run/key", "hf-token:/run/token"]
    assert download.service["LoadCredential"] == ["hf-token:/run/token"]
    assert "--api-key-file %d/api-key" in server.service["ExecStart"]
    assert server.environment["HF_TOKEN_PATH"] == "%d/hf-token"
    for unit in made.values():
        text = units.render(unit, None)
        assert "/run/key" not in text.replace("LoadCredential=api-key:/run/key", "")
        assert "/run/token" not in text.replace("LoadCredential=hf-token:/run/token", "")


def test_a_model_in_a_home_is_shown_and_nothing_else_of_it() -> None:
    made = units.units(Instance(name="main", command="/bin/dgx-vllm", model="/home/alice/model"))
    service = made["dgx-vllm-main.service"].service
    assert service["ProtectHome"] == "tmpfs"
    assert service["BindReadOnlyPaths"] == ["/home/alice/model"]
    elsewhere = units.units(Instance(name="main", command="/bin/dgx-vllm", model="owner/home"))
    assert "BindReadOnlyPaths" not in elsewhere["dgx-vllm-main.service"].service


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--chat-template", "/home/alice/t.jinja"], ["-/home/alice/t.jinja"]),
        (["--ssl-keyfile=/root/key", "--lora-modules", "a=/home/a"], ["-/root/key", "-/home/a"]),
        (['{"name": "a", "path": "/home/a/lora"}'], ["-/home/a/lora"]),
        (['-sc={"model":"/root/d","x":{"y":"/run/user/1/z"}}'], ["-/root/d", "-/run/user/1/z"]),
        (['{"path": "/srv/home/a", "name": "at /home/b"}'], []),
        (["--chat-template", "/srv/t.jinja", "--served-model-name", "/home/a b", "/homes/c"], []),
    ],
)
def test_a_path_among_the_arguments_is_shown_too(words: list[str], shown: list[str]) -> None:
    made = units.units(Instance(name="main", command="/bin/dgx-vllm", extra_args=words))
    assert made["dgx-vllm-main.service"].service.get("BindReadOnlyPaths", []) == shown


def test_a_server_is_kept_off_the_hub_where_it_needs_nothing_of_it() -> None:
    fields = {"name": "main", "command": "/bin/dgx-vllm", "model": "owner/name", "download": True}
    for offline in (True, False):
        made = units.units(Instance(**fields, offline=offline))  # type: ignore[arg-type]
        assert ("HF_HUB_OFFLINE" in made["dgx-vllm-main.service"].environment) == offline
        assert "HF_HUB_OFFLINE" not in made["dgx-vllm-main-download.service"].environment


def test_a_download_that_gave_up_is_tried_again_while_the_server_waits() -> None:
    """systemd.service(5): dependent units hear nothing of a failure that RestartMode=direct mends."""
    made = units.units(Instance(name="main", command="/bin/dgx-vllm", model="owner/name", download=True))
    service = made["dgx-vllm-main-download.service"].service
    assert (service["Restart"], service["RestartMode"]) == ("on-failure", "direct")
    assert service["RestartPreventExitStatus"] == USAGE


def test_a_users_manager_is_asked_for_nothing_that_it_cannot_give() -> None:
    of_system = units.units(MAIN)["dgx-vllm-main.service"].service
    of_user = units.units(MAIN, of_a_user=True)["dgx-vllm-main.service"].service
    for name in ("User", "DynamicUser", "DevicePolicy", "ProtectSystem", "OOMScoreAdjust", "LimitMEMLOCK"):
        assert name in of_system
        assert name not in of_user
    assert of_user["ExecStart"] == of_system["ExecStart"]
    assert of_user["Restart"] == "always"


@pytest.mark.parametrize(
    "wrong", [{"name": "x"}, {"name": "x", "command": "y", "modle": "z"}, {"name": 1, "command": "y"}]
)
def test_an_instance_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="the instance is not valid"):
        decode(json.dumps(wrong).encode())


def test_modules_in_a_home_are_shown_to_the_server() -> None:
    made = units.units(
        Instance(name="main", command="/bin/dgx-vllm", options=Options(python_path=Path("/home/alice/own")))
    )
    service = made["dgx-vllm-main.service"].service
    assert service["BindReadOnlyPaths"] == ["/home/alice/own"]
    assert '"--python-path" "/home/alice/own"' in service["ExecStart"]
