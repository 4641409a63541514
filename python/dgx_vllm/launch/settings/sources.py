"""The layers: what each place gives, flag, config file, environment, profile and default."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace

from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.host.machine import GIB, Machine
from dgx_vllm.launch.settings import environment
from dgx_vllm.launch.settings.ranking import Layer, Setting, Source, layer
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Value, Values

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8888
# What running answers have once the server is told to end. With what its processes take after that, it stays
# below the 10 s that `docker stop` waits. vLLM's own default is none.
SHUTDOWN_SECONDS = "4"
DEFAULT_MODEL = "demo"

_READING = ("load-format", "config-format")
_LOADER = "model-loader-extra-config"

# Of a memory that GPU and host share: vLLM's 0.92 starves the host (vllm#56824).
UNIFIED_MEMORY_UTILIZATION = "0.75"
# vLLM's default on CPU is 0.92 of all memory, and it refuses to start where less is free.
CPU_KV_CACHE_BYTES = str(4 * GIB)


def requested_model(values: Values, environ: Mapping[str, str], config: Values) -> str | None:
    """The model that was asked for by flag, config file or environment, in that order."""
    extra = extra_args(environ).get("model")
    variable = environment.given(environ).get("MODEL")
    return _first(values.get("model"), config.get("model"), extra, variable)


def requested_revision(
    values: Values, environ: Mapping[str, str], config: Values, profile: Values
) -> str | None:
    """The model's requested revision, from the same sources; then the profile's."""
    revision = _first(*(source.get("revision") for source in (values, config, extra_args(environ), profile)))
    return None if revision is None or flags.load().require("revision", "").unset(revision) else revision


def requested_reading(values: Values, environ: Mapping[str, str], config: Values, profile: Values) -> Reading:
    """How vLLM is told to read the checkpoint, by flag, config file or environment; then the profile."""
    places = (values, config, extra_args(environ), profile)
    formats = {name: _first(*(source.get(name) for source in places)) for name in _READING}
    extra = next((source[_LOADER] for source in places if source.get(_LOADER)), None)
    return reading(formats["load-format"], formats["config-format"], extra)


def reading(load_format: str | None, config_format: str | None, extra: Value | None) -> Reading:
    """The same from the values; `extra` is --model-loader-extra-config's."""
    try:
        fields = json.loads(extra) if isinstance(extra, str) else extra
    except ValueError:
        fields = None  # what the flag is checked for
    pattern = fields.get("pattern") if isinstance(fields, dict) else None
    return Reading(
        load_format or "auto", config_format or "auto", pattern if isinstance(pattern, str) else None
    )


def extra_args(environ: Mapping[str, str]) -> Values:
    """The flags in VLLM_EXTRA_ARGS."""
    name = environment.EXTRA_ARGS
    try:
        words = shlex.split(environ.get(name, ""))
    except ValueError as error:
        raise UserError(f"{name} is not valid shell words ({error}); check its quotes") from error
    rest, values = flags.load().parse(words, name)
    if rest:
        raise UserError(f"{name} holds {rest[0]!r}, which belongs to no flag; the model goes into MODEL")
    return values


def _first(*values: Value | None) -> str | None:
    return next((value for value in values if isinstance(value, str) and value), None)


def from_flags(values: Values) -> Layer:
    """The command line."""
    settings = layer(values, Source.FLAG)
    if "model" in settings:
        settings["model"] = replace(settings["model"], origin="the command line")
    return settings


def from_environment(environ: Mapping[str, str], machine: Machine) -> Layer:
    """The launcher's variables; on the CPU backend vLLM's own one for the KV cache among them."""
    variables = environment.given(environ)
    settings: Layer = {}
    for variable, name in environment.SETTINGS.items():
        if variable in variables:
            value = variables[variable].strip()
            environment.check_own(variable, value)
            settings[name] = Setting(name, value, Source.ENVIRONMENT, variable)
    if machine.platform == "cpu" and environment.CPU_KV_CACHE in variables:
        gib = variables[environment.CPU_KV_CACHE].strip()
        if not gib.isdigit():
            raise UserError(f"{environment.CPU_KV_CACHE} must be a whole number of GiB, not {gib!r}")
        name = "kv-cache-memory-bytes"
        settings[name] = Setting(name, str(int(gib) * GIB), Source.ENVIRONMENT, environment.CPU_KV_CACHE)
    return settings


def from_profile(profile: Profile | None, machine: Machine) -> Layer:
    """The profile's flags on this platform."""
    if profile is None:
        return {}
    values: Values = {"model": profile.model, **profile.values(machine.platform)}
    return layer(values, Source.PROFILE, f"profile {profile.name}")


def with_speculator(winners: Layer, speculator: Speculator | None) -> Layer:
    """A speculators repository as vLLM takes it: as --speculative-config, with what the user adds to that."""
    if speculator is None:
        return winners
    name = "speculative-config"
    by_user = winners.get(name)
    fields = json.loads(by_user.text) if by_user else None
    ours = speculator.config
    whole = {**ours, **(fields or {}), "method": ours["method"], "model": ours["model"]}
    origin = by_user.origin if by_user else f"speculators_config of {speculator.model}"
    source = by_user.source if by_user else Source.DEFAULT
    return {**winners, name: Setting(name, json.dumps(whole), source, origin)}


def from_defaults(machine: Machine) -> Layer:
    """What holds if nobody says otherwise."""
    values: Values = {
        "host": DEFAULT_HOST,
        "port": str(DEFAULT_PORT),
        "model": DEFAULT_MODEL,
        "shutdown-timeout": SHUTDOWN_SECONDS,
    }
    if machine.platform == "cpu":
        values["kv-cache-memory-bytes"] = CPU_KV_CACHE_BYTES
    elif machine.unified:
        values["gpu-memory-utilization"] = UNIFIED_MEMORY_UTILIZATION
    return layer(values, Source.DEFAULT, "default")
