"""Which files of a repository are downloaded."""

import pytest

from dgx_vllm.download.listing import File, Listing, wanted

SERVED = {"config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"}


@pytest.mark.parametrize(
    "other",
    [
        "pytorch_model.bin",
        "model.pt",
        "consolidated.00.pth",
        "model-Q4_K_M.gguf",
        "tf_model.h5",
        "flax_model.msgpack",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "consolidated.safetensors",
        "consolidated.safetensors.index.json",
        "original/params.json",
    ],
)
def test_other_formats_of_the_weights_are_left_out(other: str) -> None:
    assert wanted(SERVED | {other}) == SERVED


def test_without_safetensors_everything_is_wanted() -> None:
    names = {"config.json", "pytorch_model.bin", "original/consolidated.00.pth"}
    assert wanted(names) == names


@pytest.mark.parametrize(
    "only", ["consolidated.safetensors", "original/model.safetensors", "adapter/model.safetensors"]
)
def test_safetensors_that_do_not_hold_the_model_displace_nothing(only: str) -> None:
    names = {"params.json", "pytorch_model.bin", only}
    assert wanted(names) == names


def test_a_content_counts_once_and_the_small_come_first() -> None:
    files = (File("a", 30, "0a"), File("b", 7, "0b"), File("c", 30, "0a"))
    listing = Listing("org/model", "0", files)
    assert [file.blob for file in listing.blobs] == ["0b", "0a"]
    assert listing.size == 37
