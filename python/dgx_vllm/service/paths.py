"""Paths: those that vLLM's flags name, which a unit would look for in another directory."""

from collections.abc import Mapping
from pathlib import Path

from dgx_vllm import checkpoint
from dgx_vllm.errors import UserError
from dgx_vllm.launch import places
from dgx_vllm.launch.places import Kind, Place
from dgx_vllm.launch.settings import Setting, Source


def check(settings: Mapping[str, Setting]) -> None:
    """Refuses a relative path.

    Raises:
        UserError: there is one; gives it as it should be written.
    """
    for place in places.found(settings):
        if place.setting.source >= Source.ENVIRONMENT and _is_relative(place):
            whole = Path(place.word).expanduser().absolute()
            raise UserError(
                f"{place.origin} {place.word}: the service runs in another directory; "
                f"give the whole path, {whole}"
            )


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
            return checkpoint.looks_like_path(word)
        case Kind.PLUGIN:
            return "/" in word or word.endswith(".py")
        case _:
            # What only looks like a path may be a pattern or a name: those that begin like one are paths.
            return word.startswith(("./", "../", "~/"))
