"""One safetensors file: every reader refuses the same damage in the same words."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dgx_vllm.checkpoints import safetensors_file
from dgx_vllm.checkpoints.safetensors_file import Stored
from dgx_vllm.util.errors import UserError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.arange(4, dtype=np.uint8)}, path, {"format": "np"})
    return path


def test_header_says_where_the_bytes_of_a_tensor_are(path: Path) -> None:
    header = safetensors_file.header(path)
    assert header.tensors["a"] == Stored("F32", (2, 3), (0, 24))
    tensor = header.tensors["b"]
    content = path.read_bytes()[header.begin :]
    assert content[slice(*tensor.data_offsets)] == bytes(range(4))
    assert tensor.size == tensor.elements == 4


def _with_header(fields: dict[str, object], data: bytes) -> bytes:
    head = json.dumps(fields).encode()
    return len(head).to_bytes(8, "little") + head + data


_HOLE = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}
_WRONG_SHAPE = {"a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 2]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"truncated or damaged \(0 bytes; "),
        (b"\xff" * 8, r"truncated or damaged \(8 bytes; "),
        (_with_header(_HOLE, b"12"), "truncated or damaged"),
        (_with_header(_WRONG_SHAPE, b"12"), "truncated or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer.*git lfs pull"),
    ],
)
@pytest.mark.parametrize("read", [safetensors_file.check, safetensors_file.header])
def test_damaged_file_is_refused(
    path: Path, content: bytes, message: str, read: Callable[[Path], object]
) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)


@pytest.mark.parametrize("read", [safetensors_file.check, safetensors_file.header])
def test_file_that_is_cut_short_or_gone_is_refused(path: Path, read: Callable[[Path], object]) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"truncated or damaged.*fetch the checkpoint again"):
        read(path)
    path.unlink()
    with pytest.raises(UserError, match="is not there; fetch the checkpoint again"):
        read(path)
