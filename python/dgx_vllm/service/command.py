"""`dgx-vllm install-service`: what was asked for, checked by the launcher itself, and done."""

import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgx_vllm import machine
from dgx_vllm.dense import Dtype
from dgx_vllm.errors import UserError
from dgx_vllm.launch import flags, preflight
from dgx_vllm.launch.options import Options
from dgx_vllm.launch.serve import decide
from dgx_vllm.service import install
from dgx_vllm.service.instance import Instance


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The command's own options; see `Instance` for those that it has too."""

    name: str
    remove: bool
    user: bool
    dry_run: bool
    run_as: str | None
    profile: str | None
    host: str
    port: int
    config: Path | None
    environment_file: Path | None
    api_key_file: Path | None
    hf_token_file: Path | None
    cache_dir: Path | None
    memory_reserve: str | None
    memory_budget: str | None
    dense_dtype: Dtype | None
    watchdog: int


def install_service(words: Sequence[str], environ: Mapping[str, str], wish: Wish) -> None:
    """Installs, removes or shows an instance.

    Args:
        words: the model and vLLM's flags.
        environ: the process's environment.
        wish: the options.

    Raises:
        UserError: whatever is the user's to mend; nothing was written then.
    """
    manager = install.of_user(environ) if wish.user else install.system()
    if wish.remove:
        _say(install.remove(wish.name, manager))
        return
    instance = install.prepared(_instance(words, environ, wish))
    _check(words, environ, wish)
    if wish.dry_run:
        for name, text in install.texts(install.units.units(instance, wish.user), manager).items():
            print(f"# {manager.directory / name}\n{text}")
        return
    _say(install.install(instance, manager))


def _check(words: Sequence[str], environ: Mapping[str, str], wish: Wish) -> None:
    """What `dgx-vllm serve` would refuse is refused now, not by a unit that fails eight times in an hour."""
    given = [
        "--host",
        wish.host,
        "--port",
        str(wish.port),
        *(["--config", str(wish.config)] if wish.config else []),
    ]
    options = Options(
        profile=wish.profile,
        memory_reserve=wish.memory_reserve,
        memory_budget=wish.memory_budget,
        dense_dtype=wish.dense_dtype,
        watchdog=wish.watchdog,
    )
    # Of the caller's environment a unit has nothing but where programs are.
    kept = {name: environ[name] for name in ("PATH", "HOME") if name in environ}
    decide([*words, *given], kept, options, machine.detect())
    preflight.check_host(wish.host)
    if wish.run_as:
        try:
            pwd.getpwnam(wish.run_as)
        except KeyError as error:
            raise UserError(f"--run-as {wish.run_as}: this machine has no such user") from error


def _instance(words: Sequence[str], environ: Mapping[str, str], wish: Wish) -> Instance:
    rest, _ = flags.load().parse(words)
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: the model is {rest[0]!r}")
    if wish.user and wish.run_as:
        raise UserError("--run-as is for the system's manager; with --user it is you")
    if wish.cache_dir and not (wish.run_as or wish.user):
        raise UserError("--cache-dir needs --run-as USER, who owns it: a user that comes and goes cannot")
    files = {
        "--api-key-file": wish.api_key_file,
        "--hf-token-file": wish.hf_token_file,
        "--environment-file": wish.environment_file,
    }
    for option, path in files.items():
        if path and not path.is_file():
            raise UserError(f"{option} {path}: there is no such file")
    extra = list(words)
    if rest:
        extra.remove(rest[0])
    return Instance(
        name=wish.name,
        command=_command(environ),
        model=rest[0] if rest else None,
        profile=wish.profile,
        host=wish.host,
        port=wish.port,
        settings_file=_text(wish.config),
        environment_file=_text(wish.environment_file),
        api_key_file=_text(wish.api_key_file),
        hf_token_file=_text(wish.hf_token_file),
        user=wish.run_as,
        cache_dir=_text(wish.cache_dir),
        memory_reserve=wish.memory_reserve,
        memory_budget=wish.memory_budget,
        dense_dtype=wish.dense_dtype,
        watchdog=wish.watchdog,
        extra_args=extra,
    )


def _command(environ: Mapping[str, str]) -> str:
    """The absolute path of `dgx-vllm`: the wrapper that Nix made, or whatever was called."""
    return environ.get("DGX_VLLM_COMMAND") or shutil.which(sys.argv[0]) or str(Path(sys.argv[0]).absolute())


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"dgx-vllm: {line}")
