"""Instance: what one served model's units depend on. The options of the NixOS module have the same names."""

import re
from collections.abc import Mapping, Sequence

import msgspec

from dgx_vllm.formats.dense_dtype import Dtype
from dgx_vllm.util.errors import UserError

DEFAULT_WATCHDOG = 120


class Instance(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One instance.

    Args:
        name: the units are `dgx-vllm-NAME.service` and `dgx-vllm-NAME-download.service`.
        command: the absolute path of `dgx-vllm`.
        model: what `dgx-vllm serve` takes; None for the demo.
        download: whether a unit of its own downloads the model first.
        profile: the profile to apply instead of the model's own.
        revision: the model's branch, tag or commit; None as the settings say, else `main`.
        reading: words for the download, which say how vLLM reads the model and so which files it takes.
        offline: whether the server is kept from asking the hub.
        host: the address to listen on, None as the settings say.
        port: the port to listen on, likewise.
        settings_file: vLLM's settings as a YAML file, see `--config`.
        environment: variables for the server.
        environment_file: a file with more of them, read by systemd as root.
        api_key_file: a file with the key that clients must give; systemd hands it on as a credential.
        python_path: a directory of Python modules for the server.
        open_metrics: whether /metrics answers without the key.
        hf_token_file: a file with a Hugging Face token, likewise.
        user: who runs it; None for a user that exists while it runs.
        group: the group, None for the user's own.
        cache_dir: where models and compiled kernels are kept, None for systemd's cache directory.
        state_dir: the home directory, None for systemd's state directory.
        memory_reserve: memory that is left alone.
        memory_budget: memory that this instance may take.
        memory_shed: available memory below which new requests are refused.
        memory_floor: available memory below which the server is ended.
        dense_dtype: what the projections that the checkpoint left in BF16 become; None as the profile says.
        mtp: tokens to draft with the model's MTP layer; None as the profile says.
        watchdog: seconds of silence after which the server is restarted; 0 for never.
        extra_args: more of the command line.
        conflicts: instances that cannot run beside this one.
    """

    name: str
    command: str
    model: str | None = None
    download: bool = False
    revision: str | None = None
    reading: Sequence[str] = ()
    offline: bool = False
    profile: str | None = None
    host: str | None = None
    port: int | None = None
    settings_file: str | None = None
    environment: Mapping[str, str] = {}
    environment_file: str | None = None
    api_key_file: str | None = None
    python_path: str | None = None
    open_metrics: bool = False
    hf_token_file: str | None = None
    user: str | None = None
    group: str | None = None
    cache_dir: str | None = None
    state_dir: str | None = None
    memory_reserve: str | None = None
    memory_budget: str | None = None
    memory_shed: str | None = None
    memory_floor: str | None = None
    dense_dtype: Dtype | None = None
    mtp: int | None = None
    watchdog: int = DEFAULT_WATCHDOG
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
        return msgspec.json.decode(encoded, type=Instance)
    except msgspec.ValidationError as error:
        raise UserError(f"the instance is not valid: {error}") from error


def in_a_home(path: str) -> bool:
    """Whether a path is in a directory that ProtectHome= hides."""
    return re.fullmatch(r"/(home|root|run/user)(/.*)?", path) is not None
