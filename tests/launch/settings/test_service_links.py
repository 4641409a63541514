"""Variables that an orchestrator sets, and values that stop vLLM: which of them stop the launcher."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bad_input import refused

from dgx_vllm.host.machine import detect
from dgx_vllm.launch.settings import environment, service_links, variable_readers
from helpers.launching import Run

SERVICES = st.from_regex(r"vllm(-[a-z0-9]{1,8}){0,3}", fullmatch=True)
ADDRESS = "tcp://10.0.0.20:8000"


def kubernetes(service: str, port: str = "http") -> dict[str, str]:
    """What a pod gets for a service, by Kubernetes' documentation."""
    prefix = service.upper().replace("-", "_")
    return {
        f"{prefix}_SERVICE_HOST": "10.0.0.20",
        f"{prefix}_SERVICE_PORT": "8000",
        f"{prefix}_SERVICE_PORT_{port.upper().replace('-', '_')}": "8000",
        f"{prefix}_PORT": ADDRESS,
        f"{prefix}_PORT_8000_TCP": ADDRESS,
        f"{prefix}_PORT_8000_TCP_PROTO": "tcp",
        f"{prefix}_PORT_8000_TCP_PORT": "8000",
        f"{prefix}_PORT_8000_TCP_ADDR": "10.0.0.20",
    }


def docker(alias: str) -> dict[str, str]:
    """What a container gets for a link, by Docker's documentation of legacy links."""
    prefix = alias.upper().replace("-", "_")
    ports = {name: text for name, text in kubernetes(alias).items() if "_SERVICE_" not in name}
    return {
        **ports,
        f"{prefix}_NAME": f"/web/{alias}",
        f"{prefix}_ENV_PATH": "/usr/bin",
        f"{prefix}_ENV_a": "",
    }


@given(service=SERVICES)
def test_every_link_of_a_service_is_known_as_one(service: str) -> None:
    for set_by in (kubernetes(service), kubernetes(service, "grpc-web"), docker(service)):
        assert service_links.found(set_by) == set(set_by)


@pytest.mark.parametrize(
    "name",
    [
        "VLLM_PORTT",
        "VLLM_SERVICE",
        "VLLM_HTTP_PORT",
        "VLLM_MODEL_NAME",
        "VLLM_RAY_ENV_VARS",
        "VLLM_USE_V1",
        "PATH",
    ],
)
def test_what_a_user_sets_is_no_link(name: str) -> None:
    assert not service_links.found({name: "8000"})


def test_no_variable_that_vllm_had_or_has_looks_like_a_link() -> None:
    names = environment.known(detect().vllm.package) | set(environment.removed())
    assert not service_links.found(dict.fromkeys(names, "1"))


@pytest.mark.parametrize(
    "set_by", [kubernetes("vllm-qwen"), docker("vllm-qwen")], ids=["kubernetes", "docker"]
)
def test_links_are_a_note(dgx_vllm: Run, set_by: dict[str, str]) -> None:
    outcome = dgx_vllm("serve", "--dry-run", "org/model", environ=set_by)
    assert outcome.status == 0, outcome.err
    assert f"VLLM_QWEN_ENV_PATH and {len(set_by) - 1} more" in outcome.out or (
        f"VLLM_QWEN_PORT and {len(set_by) - 1} more" in outcome.out
    )
    assert "enableServiceLinks: false" in outcome.out
    assert "(unset)" not in outcome.out


def test_links_are_kept_from_a_vllm_that_would_stop_at_them(dgx_vllm: Run) -> None:
    words = ["serve", "--dry-run", "org/model", "--fail-on-environ-validation"]
    outcome = dgx_vllm(*words, environ=kubernetes("vllm-qwen"))
    assert outcome.status == 0
    assert "-u VLLM_QWEN_SERVICE_HOST" in outcome.out


def test_a_misspelt_variable_among_links_is_refused(dgx_vllm: Run) -> None:
    environ = {**kubernetes("vllm-qwen"), "VLLM_LOGING_LEVEL": "DEBUG"}
    refused(dgx_vllm("serve", "--dry-run", "org/model", environ=environ), "would ignore VLLM_LOGING_LEVEL:")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"VLLM_PORT": ADDRESS}, ["VLLM_PORT='tcp://10.0.0.20:8000'", "enableServiceLinks: false"]),
        ({"VLLM_PORT": "http"}, ["VLLM_PORT='http'"]),
        ({"VERBOSE": "yes"}, ["VERBOSE='yes': it must be a whole number"]),
        ({"VLLM_GPU_SYNC_CHECK": "on"}, ["VLLM_GPU_SYNC_CHECK='on'", "one of warn, error"]),
        ({"VLLM_LOG_STATS_INTERVAL": ""}, ["VLLM_LOG_STATS_INTERVAL='': it must be a number"]),
        ({"VLLM_LOGGING_LEVEL": "loud"}, ["VLLM_LOGGING_LEVEL='loud'", "DEBUG"]),
        ({"VERBOSE": "a", "VLLM_PORT": "b"}, ["VERBOSE='a'", "VLLM_PORT='b'"]),
    ],
    ids=str,
)
def test_values_that_stop_vllm_are_refused(dgx_vllm: Run, environ: dict[str, str], said: list[str]) -> None:
    refused(dgx_vllm("serve", "--dry-run", "org/model", environ=environ), "would stop at", *said)


@pytest.mark.parametrize("value", ["1", "1.5", "x", "", "true", ADDRESS, '{"a": 1}'])
def test_values_are_judged_as_the_installed_vllm_judges_them(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Every variable by itself, with vLLM imported and without."""
    from vllm import envs

    def stops(name: str) -> bool:
        """The engine evaluates all of them, so that one's value may be another's end."""
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            for read in envs.environment_variables.values():
                try:
                    read()
                except Exception:
                    return True
        return False

    package = Path(str(envs.__file__)).parent
    found = {
        name: [each.variables for each in variable_readers.faults(package, {name: value})]
        for name in envs.environment_variables
    }
    assert found == {name: [(name,)] if stops(name) else [] for name in envs.environment_variables}
