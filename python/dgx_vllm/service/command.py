"""`dgx-vllm install-service`: what was asked for, checked by the launcher itself, and done."""

import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgx_vllm.host import machine
from dgx_vllm.launch.checks import preflight
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.serve import decide
from dgx_vllm.launch.settings import config_file, exposure, python_imports, secret, unified_memory
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.launch.settings.ranking import Source
from dgx_vllm.service import command_line, environment_file, hub_access, install, passed_options, paths
from dgx_vllm.service.command_line import Line
from dgx_vllm.service.instance import Instance
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The command's own options, and those of `serve`; see `Instance` for those that it has too."""

    name: str
    remove: bool
    user: bool
    dry_run: bool
    run_as: str | None
    revision: str | None
    host: str | None
    port: int | None
    config: Path | None
    environment_file: Path | None
    hf_token_file: Path | None
    cache_dir: Path | None
    options: Options


def install_service(words: Sequence[str], environ: Mapping[str, str], wish: Wish) -> None:
    """Installs, removes or shows an instance.

    Args:
        words: the model and vLLM's flags.
        environ: the process's environment.
        wish: the options.

    Raises:
        UserError: anything that the user must fix; nothing was written then.
    """
    manager = install.of_user(environ) if wish.user else install.system()
    if wish.remove:
        _say(install.remove(wish.name, manager))
        return
    _check_wish(wish)
    given = command_line.read(words)
    file = environment_file.load(str(wish.environment_file)) if wish.environment_file else None
    variables = dict(file.variables) if file else {}
    launch = _decided(words, environ, variables, wish)
    paths.check(launch.settings)
    instance = install.prepared(_instance(given, launch, environ, wish))
    if not wish.user:
        paths.check_homes(launch.settings, instance)
        for said in paths.unseen(launch.settings, instance):
            say(said)
    if instance.download:
        hub_access.check(launch.settings)
        draft = hub_access.drafter(launch.settings)
        hub_access.check_offline(instance, draft, variables, _cache(instance, environ, wish.user))
    for ignored in file.ignored if file else ():
        marked = ignored.startswith("\ufeff")
        remedy = "save the file without a byte order mark" if marked else "it accepts only NAME=VALUE"
        say(f"--environment-file {wish.environment_file}: systemd ignores {ignored!r}; {remedy}")
    if "PYTHONPATH" in variables:
        say(
            f"--environment-file {wish.environment_file}: PYTHONPATH does not reach the server; "
            f"give {python_imports.OPTION} DIRECTORY"
        )
    for note in unified_memory.notes(dict(launch.settings), machine.detect()):
        say(note)
    exposed = exposure.warning(launch.settings, variables)
    if exposed and wish.options.api_key_file is None:
        say(exposed)
    if wish.dry_run:
        for name, text in install.texts(install.units.units(instance, wish.user), manager).items():
            print(f"# {manager.directory / name}\n{text}")
        return
    _say(install.install(instance, manager))


def _check_wish(wish: Wish) -> None:
    """Refuses options that do not go together, and files and users that are not there."""
    if wish.user and wish.run_as:
        raise UserError("--run-as is for the system's manager; with --user it is you")
    if wish.cache_dir and not (wish.run_as or wish.user):
        raise UserError("--cache-dir needs --run-as USER, who owns it: a temporary user cannot")
    if wish.cache_dir and not wish.user and not wish.cache_dir.expanduser().is_dir():
        raise UserError(
            f"--cache-dir {wish.cache_dir}: there is no such directory, and the unit cannot make one; "
            f"make it, and give it to {wish.run_as}"
        )
    secrets = passed_options.credentials(wish.options)
    if wish.hf_token_file:
        secrets["hf-token"] = str(wish.hf_token_file)
    for name, path in secrets.items():
        if not Path(path).is_file():
            raise UserError(f"--{name}-file {path}: there is no such file")
    if wish.run_as:
        try:
            pwd.getpwnam(wish.run_as)
        except KeyError as error:
            raise UserError(f"--run-as {wish.run_as}: this machine has no such user") from error


def _decided(
    words: Sequence[str], environ: Mapping[str, str], variables: Mapping[str, str], wish: Wish
) -> Launch:
    """What `dgx-vllm serve` would refuse is refused now, not by a unit that fails eight times in an hour."""
    given = {
        "--host": wish.host,
        "--port": wish.port,
        "--revision": wish.revision,
        "--config": wish.config,
    }
    if wish.config:
        command_line.check_secrets(config_file.read(str(wish.config)), f"--config {wish.config}")
    # Of the caller's environment a unit has nothing but where programs are. Whether the hub may be asked is
    # a question of the service's own cache.
    kept = {**{name: environ[name] for name in ("PATH", "HOME") if name in environ}, **variables}
    kept.pop(hub_access.OFFLINE, None)
    if kept.get(secret.API_KEY):
        secret.with_api_key(kept, wish.options.api_key_file)
    more = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    try:
        launch = decide([*words, *more], kept, wish.options, machine.detect())
    except UserError as error:
        named = [name for name in variables if name in str(error)]
        if named:
            commented = any(" #" in variables[name] for name in named)
            hint = "; there, a comment needs its own line" if commented else ""
            raise UserError(
                f"--environment-file {wish.environment_file}: {error}{hint}", error.status
            ) from error
        raise
    preflight.check_host(launch.host)
    return launch


def _instance(given: Line, launch: Launch, environ: Mapping[str, str], wish: Wish) -> Instance:
    return Instance(
        name=wish.name,
        command=_command(environ),
        model=given.model or _configured(launch),
        revision=hub_access.revision(launch.settings),
        reading=hub_access.reading(launch.settings),
        offline=not hub_access.is_needed(launch.settings),
        host=wish.host,
        port=wish.port,
        settings_file=_text(wish.config),
        environment_file=_text(wish.environment_file),
        hf_token_file=_text(wish.hf_token_file),
        user=wish.run_as,
        cache_dir=_text(wish.cache_dir),
        options=wish.options,
        extra_args=(*given.extra, *passed_options.other_words(wish.options)),
    )


def _configured(launch: Launch) -> str | None:
    """The model that a file names, of --config or --environment-file, which must be downloaded, too."""
    model = launch.settings["model"]
    return model.text if Source.ENVIRONMENT <= model.source < Source.FLAG else None


def _cache(instance: Instance, environ: Mapping[str, str], of_a_user: bool) -> Path:
    """The directory that the unit names for models and compiled kernels."""
    if instance.cache_dir:
        return Path(instance.cache_dir)
    if not of_a_user:
        return Path("/var/cache/dgx-vllm")
    home = Path(environ.get("HOME", "~")).expanduser()
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "dgx-vllm"


def _command(environ: Mapping[str, str]) -> str:
    """The absolute path of `dgx-vllm`: the wrapper that Nix made, or whatever was called."""
    return environ.get("DGX_VLLM_COMMAND") or shutil.which(sys.argv[0]) or str(Path(sys.argv[0]).absolute())


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _say(lines: Sequence[str]) -> None:
    for each in lines:
        print(f"dgx-vllm: {each}")
