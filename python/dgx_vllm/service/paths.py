"""Paths: those that vLLM's flags name, which a unit would look for in another directory."""

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

from dgx_vllm.checkpoints import checkpoint
from dgx_vllm.launch.settings import path_flags
from dgx_vllm.launch.settings.path_flags import Kind, Place
from dgx_vllm.launch.settings.ranking import Setting, Source
from dgx_vllm.service import passed_options
from dgx_vllm.service.instance import Instance, in_a_home
from dgx_vllm.service.units import shown_words
from dgx_vllm.util.errors import UserError

# Where a unit with PrivateTmp= has directories of its own.
_PRIVATE = ("/tmp/", "/var/tmp/")


def check(settings: Mapping[str, Setting]) -> None:
    """Refuses a relative path.

    Raises:
        UserError: there is one; gives it as it should be written.
    """
    for place in path_flags.found(settings):
        if place.setting.source >= Source.ENVIRONMENT and _is_relative(place):
            whole = Path(place.word).expanduser().absolute()
            raise UserError(
                f"{place.origin} {place.word}: the service runs in another directory; "
                f"give the whole path, {whole}"
            )


def check_homes(settings: Mapping[str, Setting], instance: Instance) -> None:
    """Refuses a path in a home that only a file names: of homes the system's units show what they name alone.

    Raises:
        UserError: there is one.
    """
    profiles, others = passed_options.paths(instance.options)
    own = (instance.model, *profiles, instance.settings_file, *others)
    given = (*own, instance.cache_dir, instance.state_dir)
    shown = [path for path in (*given, *shown_words(instance.extra_args)) if path]
    for place in path_flags.found(settings):
        if not in_a_home(place.word) or place.kind is Kind.OTHER:
            continue
        if not any(place.word == path or place.word.startswith(f"{path}/") for path in shown):
            raise UserError(
                f"{place.origin} {place.word}: the service sees only the parts of a home that its command "
                f"line names; give --{place.setting.name} there, or move the file"
            )


def unseen(settings: Mapping[str, Setting], instance: Instance) -> list[str]:
    """What to say of paths that are here and that the server will not see, or may not read by their modes."""
    _, others = passed_options.paths(instance.options)
    own = [path for path in (instance.model, instance.settings_file, *others) if path]
    words = [place.word for place in path_flags.found(settings) if place.kind is not Kind.OTHER]
    paths = dict.fromkeys(path for path in (*own, *words) if path.startswith("/"))
    here = [path for path in paths if os.path.exists(path)]
    private = [path for path in here if path.startswith(_PRIVATE)]
    closed = [path for path in here if path not in private and not _is_readable(Path(path), instance.user)]
    user = instance.user or "a user of its own"
    return [
        *(f"{path}: the service has a /tmp of its own and will not see it; move it" for path in private),
        *(f"{path}: the service runs as {user}, who may not read it; change its mode" for path in closed),
    ]


def _is_readable(path: Path, user: str | None) -> bool:
    """Whether a user may read a path; None is one of no group that the path could belong to."""
    # What lies in a home is shown to the server without the directories around it.
    parents = [] if in_a_home(str(path)) else list(path.parents)
    try:
        needed = [(parent, stat.S_IXOTH) for parent in parents]
        bits = stat.S_IROTH | stat.S_IXOTH if path.is_dir() else stat.S_IROTH
        return all(_allows(each, bit, user) for each, bit in [*needed, (path, bits)])
    except OSError:
        return True  # not for the caller to see


def _allows(path: Path, bits: int, user: str | None) -> bool:
    found = path.stat()
    if user is None:
        return found.st_mode & bits == bits
    account = pwd.getpwnam(user)
    if account.pw_uid == 0:
        return True
    if found.st_uid == account.pw_uid:
        bits <<= 6
    elif found.st_gid in os.getgrouplist(user, account.pw_gid):
        bits <<= 3
    return found.st_mode & bits == bits


def _is_relative(place: Place) -> bool:
    word = place.word
    if word.startswith("/") or "://" in word:
        return False
    match place.kind:
        case Kind.PATH:
            return True
        case Kind.TEMPLATE:
            return not set("{}\n") & set(word) and checkpoint.looks_like_path(word)
        case Kind.REPOSITORY:
            # No repository's name has a second slash.
            return checkpoint.looks_like_path(word) or word.count("/") > 1
        case Kind.PLUGIN:
            return "/" in word or word.endswith(".py")
        case _:
            # What only looks like a path may be a pattern or a name: those that begin like one are paths.
            return word.startswith(("./", "../", "~/"))
