"""`dgx-vllm install-service`: the units on a machine that is not NixOS, such as DGX OS, and off it again."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.profiles import profile
from dgx_vllm.service import passed_options, units
from dgx_vllm.service.instance import Instance
from dgx_vllm.util.errors import FAILURE, UserError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_FILES = ("settings_file", "environment_file", "hf_token_file", "cache_dir", "state_dir")
_DOWNLOAD = "-download.service"
_MARK = "# Written by dgx-vllm install-service, which also removes it.\n"


@dataclass(frozen=True)
class Manager:
    """A systemd manager: the system's or a user's.

    Args:
        directory: where its units lie.
        roots: where a link keeps Nix from collecting the command as garbage.
        target: what starts the server with the machine, or with the session.
        user: whether it is a user's.
    """

    directory: Path
    roots: Path
    target: str
    user: bool

    def systemctl(self, *words: str) -> list[str]:
        return ["systemctl", *(["--user"] if self.user else []), *words]

    @property
    def running(self) -> bool:
        """Whether there is a manager to talk to."""
        place = Path(f"/run/user/{os.getuid()}/systemd") if self.user else Path("/run/systemd/system")
        return place.is_dir() and shutil.which("systemctl") is not None


def system(root: Path = Path("/")) -> Manager:
    """The machine's manager; `root` is for tests."""
    roots = root / "nix/var/nix/gcroots/dgx-vllm"
    return Manager(root / "etc/systemd/system", roots, "multi-user.target", False)


def of_user(environ: Mapping[str, str]) -> Manager:
    """The caller's own manager."""
    home = Path(environ.get("HOME", "~")).expanduser()
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    state = Path(environ.get("XDG_STATE_HOME") or home / ".local/state")
    return Manager(config / "systemd/user", state / "dgx-vllm/gcroots", "default.target", True)


def prepared(instance: Instance) -> Instance:
    """The instance with its model looked at: whether it is downloaded, and paths that a unit can take.

    Raises:
        UserError: a name that is none of systemd's, a value with line breaks, or an unknown profile.
    """
    if not _NAME.fullmatch(instance.name):
        raise UserError(f"--name {instance.name!r}: give lower-case letters, digits and dashes")
    if instance.name.endswith("-download"):
        raise UserError(f"--name {instance.name}: units whose names end so fetch models; choose another name")
    model = instance.model
    known = profile.by_model(model) if model else None
    local = model is not None and not known and checkpoint.looks_like_path(model)
    fields = [*_FILES, *(["model"] if local else [])]
    paths = {field: _absolute(getattr(instance, field)) for field in fields if getattr(instance, field)}
    fetched = model is not None and not local and "://" not in model and not (known and known.checkpoint)
    found = msgspec.structs.replace(
        instance,
        **paths,
        options=passed_options.absolute(instance.options, _absolute),
        download=fetched,
        offline=fetched and instance.offline,
    )
    values = (*msgspec.structs.asdict(found).values(), *vars(found.options).values())
    for text in (*found.extra_args, *map(str, values)):
        if "\n" in text:
            raise UserError(f"{text!r} has a line break, which no unit can hold; the file of --config can")
    return found


def _absolute(path: str) -> str:
    # Of systemd's own: a file of variables that may be missing.
    optional, path = path[: path.startswith("-")], path.removeprefix("-")
    whole = str(Path(path).expanduser().absolute())
    if re.search(r"[\s:%]", whole):
        raise UserError(
            f"{whole!r}: a unit cannot name a path with blanks, colons or percent signs; "
            "move it, or link to it"
        )
    return optional + whole


def install(instance: Instance, manager: Manager) -> list[str]:
    """Writes the units, has what they name run where there is a manager, and says what was done.

    An instance of that name that runs already is stopped for it.

    Raises:
        UserError: they cannot be written, or a unit of that name is somebody else's.
    """
    made = units.units(instance, of_a_user=manager.user)
    files = {manager.directory / name: text for name, text in texts(made, manager).items()}
    for path in files:
        if path.exists() and not _is_ours(path):
            raise UserError(f"{path} is there and was not written by dgx-vllm; choose another --name")
    _check_cache(instance, made, manager)
    if manager.user and _stored(instance) and shutil.which("nix-store") is None:
        raise UserError("nix-store, which keeps the server in the store, is not on PATH; add it", FAILURE)
    before = _units(instance.name, manager)
    try:
        manager.directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            _write(path, text)
        _keep(instance, manager)
    except OSError as error:
        raise UserError(_fault(error, manager.directory), FAILURE) from error
    said = [f"wrote {path}" for path in files]
    said += _run(instance, before, set(files), manager)
    said.append(f"follow it: journalctl {'--user ' if manager.user else ''}-fu {instance.unit}")
    if manager.user:
        said.append("it starts with your first log-in; `loginctl enable-linger` starts it with the machine")
    return said


def _check_cache(instance: Instance, made: Mapping[str, units.Unit], manager: Manager) -> None:
    """Refuses to share systemd's cache directory with another user: it is the one's whose unit started last.

    Raises:
        UserError: an instance of another user has it.
    """
    user = made[f"{instance.unit}.service"].service.get("User")
    if user is None or instance.cache_dir:
        return
    for path in sorted(manager.directory.glob("dgx-vllm-*.service")):
        if path.name in made or path.name.endswith(_DOWNLOAD) or not path.is_file() or not _is_ours(path):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if "CacheDirectory=dgx-vllm" in lines and f"User={user}" not in lines:
            raise UserError(
                f"the models of {path.name}, which has another user, lie in systemd's cache directory, and "
                f"would become {user}'s; give --run-as USER with --cache-dir DIRECTORY, or the other's user"
            )


def _run(instance: Instance, before: Sequence[Path], files: AbstractSet[Path], manager: Manager) -> list[str]:
    """Has the manager run the new units; `before` are those that were there, `files` the new ones."""
    server = f"{instance.unit}.service"
    # A download that is done stays active, and would not fetch another model. It is stopped while its old
    # file is there: the manager may not know one without.
    downloads = [path.name for path in before if path.name.endswith(_DOWNLOAD)]
    said = _manage(manager, [manager.systemctl("stop", *downloads)] if downloads else [])
    # An instance that no longer downloads leaves no unit behind.
    for stale in set(before) - files:
        stale.unlink()
    said += _manage(manager, [manager.systemctl("daemon-reload"), manager.systemctl("enable", server)])
    if before and manager.running:
        # One that has given up would not start again within the hour. Where there is nothing to reset
        # this fails, as it may.
        subprocess.run(manager.systemctl("reset-failed", server), check=False, capture_output=True)
    # To start what runs would leave the old server running.
    return said + _manage(manager, [manager.systemctl("restart", "--no-block", server)])


def remove(name: str, manager: Manager) -> list[str]:
    """Stops the instance and removes what `install` wrote; models and compiled kernels stay.

    Raises:
        UserError: the instance does not exist.
    """
    found = _units(name, manager)
    if not found:
        raise UserError(
            f"there is no dgx-vllm-{name}.service in {manager.directory}; "
            "`systemctl list-unit-files 'dgx-vllm-*'` lists what there is"
        )
    said = _manage(manager, [manager.systemctl("disable", "--now", *(path.name for path in found))])
    try:
        for path in found:
            path.unlink()
            said.append(f"removed {path}")
        link = manager.roots / name
        link.unlink(missing_ok=True)
        # Of a user's own directories, those that are empty were made for this; the system's are Nix's.
        made = [manager.roots, *([manager.roots.parent, manager.directory] if manager.user else [])]
        for directory in made:
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; run it with sudo", FAILURE) from error
    return said + _manage(manager, [manager.systemctl("daemon-reload")])


def texts(made: Mapping[str, units.Unit], manager: Manager) -> dict[str, str]:
    """The text of each unit file; only the server is started by a target."""
    return {
        name: _MARK + units.render(unit, None if name.endswith(_DOWNLOAD) else manager.target)
        for name, unit in made.items()
    }


def _units(name: str, manager: Manager) -> list[Path]:
    """What `install` wrote for an instance."""
    candidates = [manager.directory / f"dgx-vllm-{name}{suffix}" for suffix in (".service", _DOWNLOAD)]
    return [path for path in candidates if path.is_file() and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    return path.read_text(encoding="utf-8").startswith(_MARK)


def _write(path: Path, text: str) -> None:
    """Writes a file as a whole, or leaves what was there."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _fault(error: OSError, directory: Path) -> str:
    """What could not be written, with the remedy where there is one to name."""
    said = f"{error.filename or directory}: {error.strerror}"
    if isinstance(error, PermissionError):
        return f"{said}; run it with sudo, or give --user"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{said}; make room"
    return f"{said}; nothing was started"


def _stored(instance: Instance) -> str | None:
    """The command's path in Nix's store, where it has one."""
    found = re.match(r"/nix/store/[^/]+", str(Path(instance.command).resolve()))
    return found[0] if found else None


def _keep(instance: Instance, manager: Manager) -> None:
    """A garbage collector's root for the command, where Nix has made it."""
    store = _stored(instance)
    if store is None:
        return
    manager.roots.mkdir(parents=True, exist_ok=True)
    link = manager.roots / instance.name
    if manager.user:
        # A user's own directory is none of the collector's: Nix notes the link.
        subprocess.run(
            ["nix-store", "--realise", store, "--add-root", str(link), "--indirect"],
            check=False,
            capture_output=True,
        )
        return
    link.unlink(missing_ok=True)
    link.symlink_to(store)


def _manage(manager: Manager, commands: list[list[str]]) -> list[str]:
    """Runs the commands where a manager runs, else says them."""
    said = []
    for command in commands:
        line = " ".join(command)
        if not manager.running:
            said.append(f"systemd does not run here; where it does: {line}")
            continue
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{line}: {done.stderr.strip()}", FAILURE)
        said.append(line)
    return said
