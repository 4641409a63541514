"""Headers: what a checkpoint on disk really holds, tensor by tensor, without reading a weight."""

from pathlib import Path

from dgx_vllm.checkpoints import checkpoint, safetensors_file
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.checkpoints.safetensors_file import Stored


def present(directory: Path, reading: Reading = AUTO) -> bool:
    """Whether the weights that vLLM would load are safetensors."""
    paths = files(directory, reading)
    return bool(paths) and all(path.suffix == ".safetensors" for path in paths)


def whole(directory: Path, reading: Reading = AUTO) -> bool:
    """Whether every file that the index names is there; a download may be under way."""
    return all(path.is_file() for path in files(directory, reading))


def read(directory: Path, reading: Reading = AUTO) -> dict[str, Stored]:
    """Every tensor that vLLM would load, by name.

    Raises:
        UserError: a file is missing or damaged.
    """
    paths = files(directory, reading)
    return {name: tensor for path in paths for name, tensor in safetensors_file.header(path).tensors.items()}


def files(directory: Path, reading: Reading = AUTO) -> list[Path]:
    """The files of weights that vLLM would load, see `checkpoint.weights`."""
    return checkpoint.weights(directory, reading)
