"""Which files of a checkpoint count, held against vLLM's own loader, config and tokenizer code."""

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgx_vllm.checkpoints import checkpoint, file_formats
from dgx_vllm.checkpoints.file_formats import Reading
from dgx_vllm.util.errors import UserError

HEADER = b'{"weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + b"\0"

SAFETENSORS = [
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "consolidated.safetensors",
    "consolidated-00001-of-00002.safetensors",
    "adapter_model.safetensors",
    "._model.safetensors",
    "original/consolidated.00.safetensors",
    "original/model.safetensors",
]
OTHERS = [
    *("pytorch_model.bin", "training_args.bin", "optimizer.pt", "model.pt", "consolidated.00.pth"),
    *("config.json", "params.json", "model.gguf", "README.md"),
]
INDEXES = ["model.safetensors.index.json", "consolidated.safetensors.index.json"]
NAMED = st.lists(st.sampled_from([*SAFETENSORS, "model-00003-of-00003.safetensors"]), max_size=3)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """vLLM logs each error that it retries."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@contextmanager
def directory(
    names: set[str], indexes: dict[str, list[str]], dangling: set[str] = frozenset()
) -> Iterator[Path]:
    """A checkpoint with these files, indexes that name these, and links that lead nowhere."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in names:
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(WEIGHTS if name.endswith(".safetensors") else b"{}")
        for name in dangling - names:
            (root / name).symlink_to("gone")
        for name, named in indexes.items():
            weights = {f"tensor{number}": file for number, file in enumerate(named)}
            (root / name).write_text(json.dumps({"weight_map": weights}))
        yield root


def by_vllm(root: Path, load_format: str) -> set[str] | None:
    """The files that vLLM loads, None where it raises."""
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    loader = DefaultModelLoader(LoadConfig(load_format=load_format))
    try:
        found = loader._prepare_weights(str(root), None, None, True, None)[1]
    except (RuntimeError, FileNotFoundError):
        return None
    # It would find out about a link that leads nowhere when it opens it.
    return {Path(path).name for path in found} if all(Path(path).exists() for path in found) else None


DEFAULT_LOADER = ["auto", "hf", "safetensors", "fastsafetensors", "instanttensor", "mistral", "pt", "npcache"]


@settings(max_examples=400, deadline=None)
@given(
    names=st.sets(st.sampled_from([*SAFETENSORS, *OTHERS])),
    indexes=st.dictionaries(st.sampled_from(INDEXES), NAMED),
    dangling=st.sets(st.sampled_from([name for name in SAFETENSORS if "/" not in name]), max_size=1),
    load_format=st.sampled_from(DEFAULT_LOADER),
)
def test_the_weights_are_those_that_vllm_loads(
    names: set[str], indexes: dict[str, list[str]], dangling: set[str], load_format: str
) -> None:
    with directory(names | {"config.json", "params.json"}, indexes, dangling) as root:
        reading = Reading(load_format)
        theirs = by_vllm(root, load_format)
        try:
            checkpoint.check(str(root), reading=reading)
        except UserError:
            assert theirs is None
        else:
            assert {path.name for path in checkpoint.weights(root, reading)} == theirs


@settings(max_examples=200, deadline=None)
@given(
    names=st.sets(st.sampled_from([*SAFETENSORS, *OTHERS])),
    config_format=st.sampled_from(["auto", "hf", "mistral"]),
)
def test_the_config_is_the_one_that_vllm_reads(names: set[str], config_format: str) -> None:
    from vllm.transformers_utils import config as theirs

    read = []

    def parser(name: str) -> Any:
        read.append({"hf": "config.json", "mistral": "params.json"}[name])
        raise InterruptedError

    with directory(names, {}) as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "get_config_parser", parser)
        try:
            theirs.get_config(str(root), False, config_format=config_format)
        except ValueError:
            assert checkpoint.config_file(root, Reading(config_format=config_format)) is None
        except InterruptedError:
            name = file_formats.config_name(checkpoint.names(root), Reading(config_format=config_format))
            assert [name] == read


def test_the_load_formats_are_those_of_vllm() -> None:
    from vllm.model_executor import model_loader

    from dgx_vllm.bench_decode.random_weights import LOAD_FORMAT

    # A test of bench-decode may have registered ours before.
    assert model_loader._LOAD_FORMAT_TO_MODEL_LOADER.keys() - {LOAD_FORMAT} == file_formats.LOAD_FORMATS


# --- tokenizers -----------------------------------------------------------------------------------------


def vocabularies() -> dict[str, set[str]]:
    """What transformers' own tokenizers read their vocabulary from, by class."""
    import transformers
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    pairs = TOKENIZER_MAPPING_NAMES.values()
    named = {name for pair in pairs for name in (pair if isinstance(pair, list | tuple) else [pair]) if name}
    found = {}
    for name in named:
        files = getattr(getattr(transformers, name), "vocab_files_names", None) or {}
        # A list of merges or a config is no vocabulary.
        found[name] = {
            file for key, file in files.items() if "vocab" in key or "spm" in key or "tokenizer_file" in key
        }
    return found


def test_every_tokenizer_of_transformers_is_found_by_its_files() -> None:
    without = set()
    for name, files in vocabularies().items():
        if not files:
            without.add(name)
        for file in files - {"dict.txt", "entity_vocab.json", "target_vocab.json", "emoji.json"}:
            assert file_formats.has_tokenizer({file}, lambda _: {}), (name, file)
    # RagTokenizer is two others in folders, and Mistral's has names of its own.
    assert without - {"RagTokenizer", "MistralCommonBackend"} == set(file_formats._WITHOUT_FILES)


@pytest.mark.parametrize(
    "names",
    [
        {"tekken.json"},
        {"tokenizer.model.v3"},
        {"tokenizer.model.v11m1"},
        {"tiktoken.model"},
        {"qwen.tiktoken"},
        {"tokenization_kimi.py"},
    ],
    ids=str,
)
def test_other_tokenizers_are_found(names: set[str]) -> None:
    assert file_formats.has_tokenizer(names | {"config.json"}, lambda _: {})


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"auto_map": {"AutoTokenizer": ["other/repo--tokenization_x.X", None]}}, True),
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, False),
        ({"auto_map": {"AutoTokenizer": None}}, False),
        ({"auto_map": ["tokenization_x.X", None]}, True),  # as transformers 4.2 wrote it
        ({"auto_map": [None, None]}, False),
        ({"tokenizer_class": "ByT5Tokenizer"}, True),
        ({"tokenizer_class": "PerceiverTokenizerFast"}, True),
        ({"tokenizer_class": "Qwen2Tokenizer"}, False),
        ({"model_type": "canine"}, True),
        ({}, False),
    ],
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_a_tokenizer_without_a_vocabulary(config: dict[str, Any], found: bool, name: str) -> None:
    assert file_formats.has_tokenizer({name}, lambda _: config) is found


# --- what is downloaded -----------------------------------------------------------------------------------

SMALL = {"config.json", "tokenizer.json", "README.md", "model.safetensors.index.json"}
SHARDS = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
OWN = {"params.json", "tekken.json", "consolidated.safetensors"}


@pytest.mark.parametrize(
    "other",
    [
        *("pytorch_model.bin", "model.pt", "consolidated.00.pth", "model-Q4_K_M.gguf", "tf_model.h5"),
        *("flax_model.msgpack", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/decoder.bin"),
        "original/model.safetensors",
    ],
)
def test_other_formats_of_the_weights_are_left_out(other: str) -> None:
    assert file_formats.wanted(SMALL | SHARDS | {other}) == SMALL | SHARDS


@pytest.mark.parametrize("small", ["consolidated.safetensors.index.json", "original/params.json", "LICENSE"])
def test_small_files_come_along_for_vllm_asks_for_them(small: str) -> None:
    assert small in file_formats.wanted(SMALL | SHARDS | {small})


@pytest.mark.parametrize(
    ("reading", "weights"),
    [
        (Reading(), {"consolidated.safetensors"}),
        (Reading("mistral", "mistral"), {"consolidated.safetensors"}),
        (Reading("hf"), SHARDS),
        (Reading("safetensors", "hf"), SHARDS),
        (Reading("fastsafetensors"), SHARDS),
        (Reading("dummy"), set()),
        (Reading("MISTRAL"), {"consolidated.safetensors"}),
    ],
    ids=str,
)
def test_one_of_two_formats_is_wanted(reading: Reading, weights: set[str]) -> None:
    everything = SMALL | SHARDS | OWN
    assert (
        file_formats.wanted(everything, reading)
        == everything - SHARDS - OWN | (OWN - {"consolidated.safetensors"}) | weights
    )


def test_pickled_weights_where_there_are_no_others() -> None:
    names = {"config.json", "pytorch_model.bin", "original/consolidated.00.pth", "tf_model.h5"}
    assert file_formats.wanted(names) == {"config.json", "pytorch_model.bin"}


@pytest.mark.parametrize("names", [{"tokenizer.json"}, {"config.json", "model.gguf"}, {"a/b.safetensors"}])
def test_without_weights_that_vllm_loads_everything_is_wanted(names: set[str]) -> None:
    assert file_formats.wanted(names) == names


def test_parts_of_a_sentence_transformers_model() -> None:
    parts = {"1_Pooling/config.json", "2_Dense/model.safetensors", "3_Dense/pytorch_model.bin"}
    left = {"2_Dense/pytorch_model.bin"}
    assert file_formats.wanted(SMALL | SHARDS | parts | left) == SMALL | SHARDS | parts


@settings(max_examples=200, deadline=None)
@given(
    names=st.sets(st.sampled_from([*SAFETENSORS, *OTHERS, "tokenizer.json"])),
    indexes=st.dictionaries(st.sampled_from(INDEXES), NAMED),
    load_format=st.sampled_from(DEFAULT_LOADER),
)
def test_what_is_downloaded_is_what_vllm_then_loads(
    names: set[str], indexes: dict[str, list[str]], load_format: str
) -> None:
    """From the whole repository and from what was downloaded of it vLLM loads the same."""
    names = names | {"config.json", "params.json"}
    fetched = file_formats.wanted(names | indexes.keys(), Reading(load_format))
    with directory(names, indexes) as whole:
        theirs = by_vllm(whole, load_format)
    if theirs is None:
        return
    with directory(fetched - indexes.keys(), indexes) as part:
        found = by_vllm(part, load_format)
    mistral = {name for name in theirs if name.startswith("consolidated")}
    if load_format not in ("auto", "mistral") and mistral:
        return  # the model twice, each tensor under two names: it is downloaded once
    assert found == theirs
