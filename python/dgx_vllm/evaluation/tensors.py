"""Tensors: a checkpoint on disk, read one tensor, or some rows of one, at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from dgx_vllm.checkpoints import checkpoint, headers, safetensors_file
from dgx_vllm.checkpoints.fields import language_part
from dgx_vllm.checkpoints.safetensors_file import Header
from dgx_vllm.plan import source
from dgx_vllm.util.errors import UserError

_HALF_BYTES = ("F4",)


class Tensors:
    """A checkpoint in a directory.

    Args:
        model: a directory, a profile's name or a Hugging Face id in the cache.
        environ: the process's environment, which says where the cache is.

    Raises:
        UserError: it is nowhere, not whole, or not in safetensors.
    """

    def __init__(self, model: str, environ: Mapping[str, str]) -> None:
        located = source.find(model, environ, fetch=False)
        if located.directory is None:
            raise UserError(f"{model} is a file; give the directory that holds the weights too")
        checkpoint.check(str(located.directory))
        if not headers.present(located.directory):
            raise UserError(f"{model} has no *.safetensors; give a checkpoint that has")
        self.model = model
        self.directory: Path = located.directory
        self.config: Mapping[str, Any] = located.config
        self.beside: Mapping[str, Any] | None = located.beside
        self.shards: dict[Path, Header] = {
            path: safetensors_file.header(path) for path in headers.files(located.directory)
        }
        self.tensors = {
            name: stored for shard in self.shards.values() for name, stored in shard.tensors.items()
        }
        self._where = {name: path for path, shard in self.shards.items() for name in shard.tensors}
        self._open: dict[Path, Any] = {}

    @property
    def text(self) -> Mapping[str, Any]:
        """What the config says of the language model."""
        return language_part(self.config)

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor, by name.

        Raises:
            UserError: its file cannot be read.
        """
        path = self._where[name]
        try:
            values: torch.Tensor = self._file(path).get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error
        return values

    def rows(self, name: str, begin: int, end: int) -> torch.Tensor:
        """The rows from `begin` to before `end` of a tensor of one or more dimensions.

        Raises:
            UserError: its file cannot be read.
        """
        path = self._where[name]
        if self.tensors[name].dtype in _HALF_BYTES:
            # safetensors 0.8.0 cannot slice what holds two values a byte.
            return self.tensor(name)[begin:end]
        try:
            values: torch.Tensor = self._file(path).get_slice(name)[begin:end]
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error
        return values

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        return self._open[path]


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({error}); fetch the checkpoint again")
