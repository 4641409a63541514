"""`dgx-vllm serve`: the stages in order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgx_vllm.checkpoints import checkpoint, speculators
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.host import driver, machine, meminfo
from dgx_vllm.host.machine import Machine
from dgx_vllm.hub import import_environment
from dgx_vllm.launch import as_json, report
from dgx_vllm.launch.checks import hub, loadable, preflight, sockets
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings import (
    config_file,
    environment,
    python_imports,
    secret,
    sources,
    unified_memory,
)
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.protection import protection
from dgx_vllm.launch.settings.ranking import Source
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import guard
from dgx_vllm.plan.guard import Subject
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.util import amounts
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Values


def serve(
    words: Sequence[str],
    environ: Mapping[str, str],
    options: Options,
) -> int:
    """Serves, or says what it would run.

    Args:
        words: the command line without the launcher's own options.
        environ: the process's environment.
        options: the launcher's own.

    Returns:
        The exit status.

    Raises:
        UserError: anything that the user must fix.
    """
    if options.as_json and not options.dry_run:
        raise UserError("--json is for --dry-run; a running server's state is in `dgx-vllm status --json`")
    this_machine = machine.detect()
    environ = secret.with_api_key(environ, options.api_key_file)
    launch = decide(words, environ, options, this_machine)
    if this_machine.driver:
        driver.link(this_machine.driver, environ)
    if options.dry_run:
        if options.as_json:
            as_json.dry_run(launch)
        else:
            report.dry_run(launch, this_machine)
        return 0
    if options.profile is None and launch.settings["model"].source <= Source.PROFILE:
        report.suggestions(profile.builtin(), this_machine)
    with preflight.check_start(launch, this_machine, environ):
        launch = hub.check(launch, environ)
        return _run(launch, environ)


def decide(
    words: Sequence[str], environ: Mapping[str, str], options: Options, this_machine: Machine
) -> Launch:
    """What would be run, with the model looked at as far as it is here.

    Raises:
        UserError: anything that the user must fix.
    """
    request = _request(words, environ, options, this_machine)
    import_environment.check(environ)  # vLLM's own import of huggingface_hub ends in a traceback
    launch = render(resolve(request, this_machine, environment.known(this_machine.vllm.package)))
    variables = launch.environ(environ)
    environment.check_values(variables, this_machine.vllm.package, this_machine.vllm.version)
    unified_memory.check(variables, this_machine)
    sockets.check(variables, launch.settings)
    python_imports.check(launch.settings, request.python_path)
    notes = loadable.check(launch, environ)
    launch = replace(launch, notes=(*launch.notes, *notes))
    if options.api_key_file is None:
        return launch
    secret.check_alone(options.api_key_file, launch.settings.get("api-key"))
    return replace(launch, key_file=str(options.api_key_file))


def _request(
    words: Sequence[str], environ: Mapping[str, str], options: Options, this_machine: Machine
) -> Request:
    rest, values = flags.load().parse(words)
    values = _with_model(values, rest)
    path = values.get("config") or sources.extra_args(environ).get("config")
    config = config_file.read(path) if isinstance(path, str) else {}
    model = sources.requested_model(values, environ, config)
    chosen = _profile(options.profile, model)
    resolved = chosen.argument if chosen and model in (None, chosen.name, chosen.model) else model
    given = options.memory_reserve
    reserve = None if given is None else amounts.parse(given, "--memory-reserve")
    given = options.memory_budget
    budget = None if given is None else amounts.parse(given, "--memory-budget")
    if budget is not None and not guard.guards(this_machine):
        raise UserError(
            "--memory-budget is for models in the host's memory; here --gpu-memory-utilization limits the "
            "server"
        )
    own = chosen.values(this_machine.platform) if chosen else {}
    pinned = sources.requested_revision(values, environ, config, own)
    reading = sources.requested_reading(values, environ, config, own)
    model_config = checkpoint.config(resolved, environ, pinned, reading) if resolved else None
    speculator = speculators.read(resolved, model_config) if resolved else None
    if speculator:
        model_config = checkpoint.config(speculator.verifier, environ, pinned, reading)
    subject = speculator.verifier if speculator else resolved or sources.DEFAULT_MODEL
    return Request(
        flags=values,
        environ=environ,
        profile=chosen,
        config=config,
        model_config=model_config,
        place=checkpoint.place(subject, environ, pinned),
        memory=Memory(
            meminfo.available(), reserve, _survey(subject, environ, pinned, chosen, reading), budget
        )
        if guard.guards(this_machine)
        else None,
        options=options,
        python_path=python_imports.directory(options.python_path),
        speculator=speculator,
        protection=protection(this_machine, reserve, options),
    )


def _survey(
    model: str, environ: Mapping[str, str], revision: str | None, chosen: Profile | None, reading: Reading
) -> Subject:
    """What is known of the model; of a revision by what is here of it, not by what `main` has."""
    if revision is None or "://" in model:
        return guard.survey(model, environ, chosen, reading)
    directory = checkpoint.place(model, environ, revision)
    return guard.survey(str(directory), environ, chosen, reading) if directory else Subject(None, chosen)


def _with_model(values: Values, rest: Sequence[str]) -> Values:
    """The positional MODEL as the flag that it stands for."""
    if len(rest) > 1:
        raise UserError(
            f"unexpected argument {rest[1]!r}: the model is {rest[0]!r}, and a flag's name begins with --"
        )
    if rest and values.get("model", rest[0]) != rest[0]:
        raise UserError(
            f"the model is given twice, as {rest[0]!r} and as --model {values['model']!r}; keep one"
        )
    return {**values, "model": rest[0]} if rest else values


def _profile(name: str | None, model: str | None) -> Profile | None:
    if name is not None:
        return profile.by_name(name)
    return profile.by_model(model or sources.DEFAULT_MODEL)


def _run(launch: Launch, environ: Mapping[str, str]) -> int:
    # These import httpx, which a dry run has no use for.
    from dgx_vllm.launch.process.notify import Notifier
    from dgx_vllm.launch.process.progress import Progress
    from dgx_vllm.launch.process.registration import registered
    from dgx_vllm.launch.process.server import Server

    ready_file = launch.options.ready_file
    notifier = Notifier(environ, ready_file)
    for note in launch.notes:
        say(note)
    with registered(launch, environ) as (registration, log):
        notifier.tell(registration)
        return Server(launch, environ, notifier, Progress(), ready_file, log.write).run()
