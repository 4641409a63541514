"""What `nix flake init -t` writes can be used as it is. NixOS's template is in nix/service/agreement.nix."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import dgx_vllm

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"


def dry_run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program: list[Any] = [sys.executable, "-m", "dgx_vllm.cli", *arguments, "--dry-run"]
    env = {**environment, "PYTHONPATH": str(Path(dgx_vllm.__file__).parents[1])}
    return subprocess.run(program, env=env, capture_output=True, text=True, check=False)


def test_profile_of_the_template_is_served(environment: dict[str, str]) -> None:
    profile = TEMPLATES / "profile/profile.toml"
    done = dry_run(["serve", "owner/model-NVFP4", "--profile", str(profile)], environment)
    assert done.returncode == 0, done.stderr
    for option in ("--max-model-len 65536", "--max-num-seqs 8", "--kv-cache-dtype fp8"):
        assert option in done.stdout


@pytest.fixture
def service() -> dict[str, Any]:
    services = yaml.safe_load((TEMPLATES / "compose/compose.yaml").read_text())["services"]
    assert list(services) == ["vllm"]
    return dict(services["vllm"])


def test_command_of_the_compose_template_is_a_mode_and_a_command_that_serve_takes(
    service: dict[str, Any], environment: dict[str, str]
) -> None:
    mode, *arguments = shlex.split(service["command"])
    assert mode == "serve"
    done = dry_run([mode, *arguments], environment)
    assert done.returncode == 0, done.stderr


def test_compose_template_opens_no_port_to_the_network_and_asks_for_a_key(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["VLLM_API_KEY"].startswith("${VLLM_API_KEY:?")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["all"]


def test_two_sparks_start_modes_of_the_image_and_name_each_other() -> None:
    head, worker = ((TEMPLATES / f"two-sparks/{name}.nix").read_text() for name in ("head", "worker"))
    [of_head], [of_worker] = (re.findall(r'NODE_IP = "([\d.]+)"', text) for text in (head, worker))
    assert of_head != of_worker
    assert f'address = "{of_head}"' in head
    assert f'address = "{of_worker}"' in worker
    assert f'HEAD_IP = "{of_head}"' in worker
    assert '"ray-head"' in head
    assert '"ray-worker"' in worker
