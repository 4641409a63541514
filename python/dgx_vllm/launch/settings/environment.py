"""Environment variables: the launcher's own, and those that vLLM would ignore without a word."""

import ast
import functools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from dgx_vllm.launch.settings import service_links, variable_readers
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags

SETTINGS = {
    "MODEL": "model",
    "HOST": "host",
    "PORT": "port",
    "GPU_MEMORY_UTIL": "gpu-memory-utilization",
    "MAX_MODEL_LEN": "max-model-len",
    "MAX_NUM_SEQS": "max-num-seqs",
    "TENSOR_PARALLEL_SIZE": "tensor-parallel-size",
}
"""The launcher's variables and the flag that each one gives."""

EXTRA_ARGS = "VLLM_EXTRA_ARGS"
"""More vLLM flags, in shell words."""

_LOGGING_LEVEL = "VLLM_LOGGING_LEVEL"

CPU_KV_CACHE = "VLLM_CPU_KVCACHE_SPACE"
"""vLLM's variable for the KV cache on CPU, in GiB. It beats even vLLM's flag: the launcher ranks both."""


class Removed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variable that vLLM no longer reads.

    Args:
        last: the newest vLLM version known to read it.
        use: the flag that does its work today, empty if none does.
        note: what else there is to say.
    """

    last: str
    use: str = ""
    note: str = ""


@functools.cache
def removed() -> dict[str, Removed]:
    """The removed variables by name."""
    path = Path(__file__).parent / "removed.toml"
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, Removed])


def known(vllm: Path) -> frozenset[str]:
    """The variables that the vLLM installed at `vllm` reads, by its own envs.py, without importing it."""
    tree = ast.parse((vllm / "envs.py").read_text(encoding="utf-8"))
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "environment_variables":
            table = node.value if isinstance(node, ast.AnnAssign) else None
            if isinstance(table, ast.Dict):
                return frozenset(str(key.value) for key in table.keys if isinstance(key, ast.Constant))
    raise UserError(
        f"{vllm / 'envs.py'} no longer lists vLLM's variables; is it vLLM {flags.load().version}?", 1
    )


def check(environ: Mapping[str, str], vllm_names: frozenset[str], version: str) -> None:
    """Refuses variables that vLLM would ignore, except for those that an orchestrator set.

    Args:
        environ: the variables that are set.
        vllm_names: what vLLM reads, see `known`.
        version: vLLM's version, for the message.

    Raises:
        UserError: names every such variable and what to use instead.
    """
    accepted = vllm_names | set(flags.load().environment) | {EXTRA_ARGS}
    unknown = set(environ) - accepted - service_links.found(environ)
    ignored = sorted(name for name in unknown if name.startswith("VLLM_"))
    if ignored:
        advice = "; ".join(_advice(name, accepted) for name in ignored)
        raise UserError(f"vLLM {version} would ignore {', '.join(ignored)}: {advice}")


def unread_links(environ: Mapping[str, str], vllm_names: frozenset[str]) -> list[str]:
    """The variables that an orchestrator set and that vLLM does not read, in order."""
    return sorted(service_links.found(environ) - vllm_names - set(flags.load().environment))


def check_values(environ: Mapping[str, str], vllm: Path, version: str) -> None:
    """Refuses variables whose values stop vLLM when it starts.

    Args:
        environ: the variables that the server is to have.
        vllm: where vLLM is installed.
        version: its version, for the message.

    Raises:
        UserError: names every such variable, its value and what it may be.
    """
    faults = []
    for fault in variable_readers.faults(vllm, environ):
        assignments = " and ".join(f"{name}={environ[name]!r}" for name in fault.variables)
        linked = any(service_links.is_link(environ[name]) for name in fault.variables)
        faults.append(f"{assignments}: {service_links.ADVICE if linked else fault.wanted}")
    # Its reader takes any text; Python's logging does not.
    level = environ.get(_LOGGING_LEVEL, "INFO")
    if environ.get("VLLM_CONFIGURE_LOGGING") != "0" and level.upper() not in logging.getLevelNamesMapping():
        faults.append(f"{_LOGGING_LEVEL}={level!r}: it must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL")
    if faults:
        raise UserError(f"vLLM {version} would stop at {'; '.join(faults)}")


def _advice(name: str, accepted: Iterable[str]) -> str:
    gone = removed().get(name)
    own = name.removeprefix("VLLM_")
    flag = flags.load().get(own.lower())
    if gone is None and (own in SETTINGS or flag):
        ours = f"{own}, which this launcher reads" if own in SETTINGS else ""
        vllm_flag = f"--{flag.name}" if flag else ""
        return f"vLLM has no variable {name}; give {' or '.join(way for way in (vllm_flag, ours) if way)}"
    if gone is None:
        hint = flags.nearest(name, [*accepted, *SETTINGS])
        return f"vLLM has no variable {name}; {hint or f'unset it (unset {name})'}"
    note = f" ({gone.note})" if gone.note else ""
    if gone.use:
        return f"{name} was removed after {gone.last}, use {gone.use} instead{note}"
    return f"{name} was removed after {gone.last} and nothing replaces it, unset it{note}"


def check_own(name: str, value: str) -> None:
    """Refuses a value that one of the launcher's variables, see `SETTINGS`, cannot have.

    Raises:
        UserError: its flag does not take it, or it is the address of a service.
    """
    try:
        flags.load().require(SETTINGS[name], name).check(value, name)
    except UserError as error:
        if not service_links.is_link(value):
            raise
        raise UserError(f"{error}; {service_links.ADVICE}") from error
    if service_links.is_link(value):
        raise UserError(f"{name}={value!r}: {service_links.ADVICE}")


def given(environ: Mapping[str, str]) -> dict[str, str]:
    """The launcher's variables that are set; an empty one counts as unset, since compose files pass those."""
    names = [*SETTINGS, EXTRA_ARGS, CPU_KV_CACHE]
    return {name: environ[name] for name in names if environ.get(name, "").strip()}
