"""`serve --help=…`: every flag, in vLLM's own words, without waiting for vLLM."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dgx_vllm.flag_help import text
from dgx_vllm.vllm_flags import flags

Run = Callable[..., tuple[int, str, str]]
GROUPS = text.groups()
FLAGS = [(group, name) for group in GROUPS for name in group.flags]


def package() -> Path:
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def words(said: str) -> str:
    return " ".join(said.split())


def test_each_flag_is_in_one_group() -> None:
    assert Counter(name for _, name in FLAGS) == Counter(flag.names[0] for flag in flags.load().flags)


@pytest.mark.parametrize(("group", "name"), FLAGS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_flag_has_a_text_in_the_installed_vllm(group: text.Group, name: str) -> None:
    assert text.described(group.flags[name], package())


@pytest.mark.parametrize("spelling", ["max-model-len", "--max-model-len", "max_model_len", "MAX-MODEL-LEN"])
def test_one_flag_in_any_spelling(run: Run, spelling: str) -> None:
    status, out, err = run("serve", f"--help={spelling}")
    assert (status, err) == (0, "")
    assert out.startswith("--max-model-len N|auto\n")
    assert "Model context length" in out
    assert run("help", "serve", spelling) == (0, out, "")
    assert run("serve", "some/model", f"-h={spelling}", "--port", "1") == (0, out, "")


def test_a_short_name_and_a_negation(run: Run) -> None:
    assert run("serve", "--help=tp")[1].startswith("--tensor-parallel-size, -tp N\n")
    assert run("serve", "--help=no-enable-prefix-caching")[1].startswith("--enable-prefix-caching, --no-")


def test_a_flag_whose_default_is_another_here(run: Run) -> None:
    out = run("serve", "--help=port")[1]
    assert "Default here: 8888" in out
    assert "Similar: " in out
    assert "--grpc-port" in out


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_group_in_any_case(run: Run, group: text.Group) -> None:
    status, out, _ = run("serve", f"--help={group.name.lower()}")
    assert status == 0
    assert out.startswith(f"{group.name}\n")
    heads = {line.split()[0].rstrip(",") for line in out.splitlines() if line.startswith("--")}
    assert heads == set(group.flags)


def test_all_shows_all_and_the_launchers_own(run: Run) -> None:
    out = run("serve", "--help=all")[1]
    heads = {line.split()[0].rstrip(",") for line in out.splitlines() if line.startswith("--")}
    assert {flag.names[0] for flag in flags.load().flags} < heads
    assert {"--watchdog", "--memory-reserve", "--ready-file"} < heads


def test_the_groups_with_their_sizes(run: Run) -> None:
    out = run("serve", "--help=listgroup")[1]
    for group in GROUPS:
        assert re.search(rf"^{group.name} +{len(group.flags)} ", out, re.MULTILINE)


def test_an_option_of_the_launchers_own(run: Run) -> None:
    assert run("serve", "--help=watchdog")[1].startswith("--watchdog SECONDS\n")
    assert run("install-service", "--help=run-as")[1].startswith("--run-as USER\n")


def test_a_part_of_a_name_shows_all_that_hold_it(run: Run) -> None:
    out = run("serve", "--help=memory")[1]
    for name in ("--memory-reserve AMOUNT", "--gpu-memory-utilization", "--kv-cache-memory-bytes"):
        assert name in out


def test_help_says_how_to_see_vllms_flags(run: Run) -> None:
    out = run("serve", "--help")[1]
    for said in ("--help=all", "--help=listgroup", "--help=GROUP", "--help=NAME"):
        assert said in out


def test_nothing_is_called_so(run: Run) -> None:
    status, out, err = run("serve", "--help=max-modle-len")
    assert (status, out) == (2, "")
    assert "did you mean --help=max-model-len" in err
    assert run("serve", "--help=qqqqqq")[2].endswith("see --help=listgroup\n")


def test_vllm_is_not_imported_for_it(environment: dict[str, str]) -> None:
    code = (
        "import sys\nfrom dgx_vllm import cli\nsys.argv = ['dgx-vllm', 'serve', '--help=all']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'vllm', 'httpx'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_table_and_the_texts_are_the_installed_vllms(environment: dict[str, str]) -> None:
    """Writes groups.json anew, and holds each text against what vLLM's own parser says."""
    code = (
        "import json, sys\nfrom dgx_vllm.flag_help import generate\n"
        "sys.argv = ['vllm', '--help']\nparser = generate.parser()\n"
        "flags = [action for action in parser._actions if action.option_strings]\n"
        "said = {flag.option_strings[0]: (flag.help or '').replace('%%', '%') for flag in flags}\n"
        "print('JSON' + json.dumps([generate.table(parser), said]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "VLLM_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    made, said = json.loads(done.stdout[done.stdout.index("JSON") + 4 :])
    assert made == json.loads(Path(text.__file__).with_name("groups.json").read_text())
    for group, name in FLAGS:
        assert words(said[name]).startswith(words(text.described(group.flags[name], package()))), name
