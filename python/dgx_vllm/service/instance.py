"""Instance: what one served model's units depend on. The options of the NixOS module have the same names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from dgx_vllm.launch.settings.options import Options
from dgx_vllm.util.errors import UserError


class Instance(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One instance.

    Args:
        name: the units are `dgx-vllm-NAME.service` and `dgx-vllm-NAME-download.service`.
        command: the absolute path of `dgx-vllm`.
        model: what `dgx-vllm serve` takes; None for the demo.
        download: whether a unit of its own downloads the model first.
        revision: the model's branch, tag or commit; None as the settings say, else `main`.
        reading: words for the download, which say how vLLM reads the model and so which files it takes, and
            which draft model.
        offline: whether the server is kept from asking the hub.
        host: the address to listen on, None as the settings say.
        port: the port to listen on, None as the settings say.
        settings_file: vLLM's settings as a YAML file, see `--config`.
        environment: variables for the server.
        environment_file: a file with more of them, read by systemd as root.
        hf_token_file: a file with a Hugging Face token; systemd passes it on as a credential.
        user: who runs it; None for a user that exists while it runs.
        group: the group, None for the user's own.
        cache_dir: where models and compiled kernels are kept, None for systemd's cache directory.
        state_dir: the home directory, None for systemd's state directory.
        mtp: tokens to draft with the model's MTP layer; None as the profile says.
        options: the launcher's own that NixOS has, too.
        extra_args: more of the command line.
        conflicts: instances that cannot run together with this one.
    """

    name: str
    command: str
    model: str | None = None
    download: bool = False
    revision: str | None = None
    reading: Sequence[str] = ()
    offline: bool = False
    host: str | None = None
    port: int | None = None
    settings_file: str | None = None
    environment: Mapping[str, str] = {}
    environment_file: str | None = None
    hf_token_file: str | None = None
    user: str | None = None
    group: str | None = None
    cache_dir: str | None = None
    state_dir: str | None = None
    mtp: int | None = None
    options: Options = Options()
    extra_args: Sequence[str] = ()
    conflicts: Sequence[str] = ()

    @property
    def unit(self) -> str:
        """The server's unit, without its suffix."""
        return f"dgx-vllm-{self.name}"


def decode(encoded: bytes) -> Instance:
    """An instance from JSON.

    Raises:
        UserError: an unknown field, or a value of the wrong type.
    """
    try:
        return msgspec.json.decode(encoded, type=Instance, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise UserError(f"the instance is not valid: {error}") from error


def _path(kind: type, value: str) -> Path:
    return Path(value)


def in_a_home(path: str) -> bool:
    """Whether a path is in a directory that ProtectHome= hides."""
    return re.fullmatch(r"/(home|root|run/user)(/.*)?", path) is not None
