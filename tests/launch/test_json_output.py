"""What programs read: `serve --dry-run --json` and `profiles --json`."""

import json
from pathlib import Path

import msgspec

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch import as_json
from dgx_vllm.profiles import profile
from helpers.launching import Run


def test_a_dry_run_in_json_has_what_the_text_says(dgx_vllm: Run, checkpoint: Path) -> None:
    words = ("serve", str(checkpoint), "--max-model-len", "4096", "--dry-run")
    outcome = dgx_vllm(*words, "--json", environ={"MAX_MODEL_LEN": "512"})
    assert (outcome.status, outcome.err) == (0, "")
    found = msgspec.json.decode(outcome.out, type=as_json.DryRun)
    assert found.schema == 1
    assert found.command == dgx_vllm(*words, environ={"MAX_MODEL_LEN": "512"}).out.splitlines()[0]
    assert found.model == str(checkpoint)
    length = found.settings["max-model-len"]
    assert (length.value, length.source, length.origin) == ("4096", "flag", "--max-model-len")
    assert [(each.setting.value, each.setting.origin) for each in found.unused] == [("512", "MAX_MODEL_LEN")]
    assert "VLLM_NO_USAGE_STATS" in {each.name for each in found.variables}
    assert found.refusal is None


def test_no_secret_is_in_it(dgx_vllm: Run, checkpoint: Path) -> None:
    outcome = dgx_vllm("serve", str(checkpoint), "--dry-run", "--json", "--api-key", "hidden-word")
    assert outcome.status == 0
    assert "hidden-word" not in outcome.out
    assert json.loads(outcome.out)["settings"]["api-key"]["value"] is None


def test_json_without_a_dry_run(dgx_vllm: Run, checkpoint: Path) -> None:
    outcome = dgx_vllm("serve", str(checkpoint), "--json")
    assert outcome.status == 2
    assert "--json is for --dry-run" in outcome.err


def test_profiles_in_json_tell_which_fit(dgx_vllm: Run, spark: Machine, laptop: Machine) -> None:
    on_spark = msgspec.json.decode(dgx_vllm("profiles", "--json", on=spark).out, type=list[as_json.Listed])
    assert [(each.name, each.model, each.fits) for each in on_spark] == [
        (each.name, each.model, True) for each in profile.builtin()
    ]
    assert [each.flags for each in on_spark] == [each.values("cuda") for each in profile.builtin()]
    on_laptop = msgspec.json.decode(dgx_vllm("profiles", "--json", on=laptop).out, type=list[as_json.Listed])
    assert {each.name: each.fits for each in on_laptop} == {
        each.name: each.name == "demo" for each in profile.builtin()
    }
