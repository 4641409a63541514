"""Profiles: what is known to serve one model well, as data.

A profile is a TOML file; the built-in ones lie in `profiles/`. Every value there carries its reason.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any

import msgspec

import dgx_vllm
from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.host.machine import GIB
from dgx_vllm.profiles.sizes import model_sizes
from dgx_vllm.util.errors import UserError
from dgx_vllm.vllm_flags import flags
from dgx_vllm.vllm_flags.flags import Value, Values

PACKAGE = Path(dgx_vllm.__file__).resolve().parent


class Overlay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a profile sets on one platform only."""

    serve: dict[str, Any] = {}
    environment: dict[str, str] = {}


class Draft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to draft for the model, whether `serve` uses it or not: `plan` compares all of them.

    Args:
        method: as in --speculative-config, such as mtp or dflash.
        model: the checkpoint that drafts, None where the model's own MTP layers do.
        revision: the commit of that checkpoint that was looked at, if one was.
        accepted: tokens that a step yields, by what is written (code, prose, ...) and by how many are
            drafted. The counts are text, as TOML's keys are.
    """

    method: str
    model: str | None = None
    revision: str | None = None
    accepted: dict[str, dict[str, float]] = {}


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """How to serve one model.

    Args:
        model: the name that it is served under, a Hugging Face id unless `checkpoint` is given.
        summary: one line for `dgx-vllm profiles`.
        memory_gib: device memory that serving it takes, with a useful KV cache, in GiB; None where the
            model's sizes are known, or nothing is.
        download_gib: what a first start downloads, in GiB; 0 where the sizes are known, or nothing is.
        gated_delta_net: whether the model has GDN layers, known before its config is downloaded.
        checkpoint: where the checkpoint lies if it comes with the profile, relative to its file.
        dense_dtype: what the projections that the checkpoint left in BF16 become, see `dense`.
        example: a prompt that shows the model at work, for the curl line.
        serve: vLLM flags by name without dashes.
        environment: variables for the server.
        drafts: the ways to draft for it, for `plan`; `speculative-config` says which one is used.
        cuda: laid over `serve` and `environment` where vLLM is a CUDA build.
        cpu: the same for a CPU build.
    """

    model: str
    summary: str
    memory_gib: float | None = None
    download_gib: float = 0.0
    gated_delta_net: bool = False
    checkpoint: str | None = None
    dense_dtype: Dtype = "bf16"
    example: str = "Hello"
    serve: dict[str, Any] = {}
    environment: dict[str, str] = {}
    drafts: tuple[Draft, ...] = ()
    cuda: Overlay = Overlay()
    cpu: Overlay = Overlay()
    name: str = ""
    directory: str = ""

    @property
    def argument(self) -> str:
        """What vLLM is given as the model."""
        return os.path.normpath(Path(self.directory, self.checkpoint)) if self.checkpoint else self.model

    @property
    def weight_bytes(self) -> int:
        """What the model's weights take, those of MTP layers included; 0 where that is not known."""
        sizes = model_sizes.by_model(self.model)
        return sizes.bytes if sizes else int(self.download_gib * GIB)

    def values(self, platform: str) -> Values:
        """The flags' values on a platform, `cuda` or `cpu`."""
        flags = {**self.serve, **self._overlay(platform).serve}
        return {_flag_name(key): _value(value) for key, value in flags.items()}

    def variables(self, platform: str) -> dict[str, str]:
        """The environment on a platform."""
        return {**self.environment, **self._overlay(platform).environment}

    def _overlay(self, platform: str) -> Overlay:
        return self.cuda if platform == "cuda" else self.cpu


def read(path: Path, name: str) -> Profile:
    """Reads a profile and checks its flags.

    Raises:
        UserError: no such file, not TOML, an unknown or missing key, or a flag that vLLM lacks.
    """
    try:
        fields = msgspec.toml.decode(path.read_bytes())
        for reserved in ("name", "directory"):
            if reserved in fields:
                raise msgspec.ValidationError(f"Object contains unknown field `{reserved}`")
        profile = msgspec.convert({**fields, "name": name, "directory": str(path.parent)}, Profile)
    except OSError as error:
        raise UserError(f"profile {path}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise UserError(f"profile {path}: {_explain(str(error))}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"profile {path} is not valid TOML: {error}") from error
    table = flags.load()
    for section, serve in (("", profile.serve), ("cuda.", profile.cuda.serve), ("cpu.", profile.cpu.serve)):
        for key, value in serve.items():
            origin = f"profile {path}, {section}serve.{key}"
            flag = table.require(key, origin)
            if flag.name in ("model", "config", "api-key", "hf-token"):
                raise UserError(f"{origin}: a profile cannot set it; give it as a flag or in the environment")
            flag.check(_value(value), origin)
    return profile


@functools.cache
def builtin() -> tuple[Profile, ...]:
    """The profiles that come with the package, by name."""
    return tuple(read(path, path.stem) for path in sorted((PACKAGE / "profiles").glob("*.toml")))


def by_name(name: str) -> Profile:
    """The profile that `--profile` names: a built-in one's name or model, or a path to a TOML file.

    Raises:
        UserError: there is none.
    """
    if name.endswith(".toml"):
        return read(Path(name), Path(name).stem)
    profile = by_model(name)
    if profile is None:
        known = [profile.name for profile in builtin()]
        hint = flags.nearest(name, known) or f"known: {', '.join(known)}"
        raise UserError(f"there is no profile {name!r}; {hint} (a file of your own ends in .toml)")
    return profile


def by_model(model: str) -> Profile | None:
    """The built-in profile of a model, by the model's id or the profile's name."""
    return next((profile for profile in builtin() if model in (profile.name, profile.model)), None)


def _flag_name(key: str) -> str:
    return flags.load().require(key, key).name


def _value(value: Any) -> Value:
    """A TOML value as a flag's: numbers become the words one would type."""
    if isinstance(value, bool | str | dict):
        return value
    return tuple(str(item) for item in value) if isinstance(value, list) else str(value)


def _explain(message: str) -> str:
    """msgspec's message, with the known keys where one is unknown."""
    unknown = re.search(r"unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?", message)
    if not unknown:
        return message
    key, section = unknown.groups()
    struct = Overlay if section else Profile
    known = [field.encode_name for field in msgspec.structs.fields(struct)]
    known = [name for name in known if name not in ("name", "directory")]
    where = f" in [{section}]" if section else ""
    return f"unknown key {key!r}{where}; known: {', '.join(known)}"
