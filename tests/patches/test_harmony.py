"""gpt-oss's chat format needs no vocabulary from the network."""

from pathlib import Path

import pytest

pytest.importorskip("vllm")

from vllm.entrypoints.openai.parser import harmony_utils

# The discard port: a connection to it is refused.
NOWHERE = "http://127.0.0.1:9"


def test_the_harmony_encoding_loads_without_network_and_without_vocabulary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(proxy, NOWHERE)
        monkeypatch.setenv(proxy.upper(), NOWHERE)
    monkeypatch.delenv("TIKTOKEN_ENCODINGS_BASE", raising=False)
    # Where the library keeps what it has fetched, if it is not told otherwise: below TMPDIR.
    monkeypatch.setenv("TIKTOKEN_RS_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(harmony_utils, "_harmony_encoding", None)
    encoding = harmony_utils.get_encoding()
    # o200k's numbers for these words, as OpenAI publishes them.
    assert encoding.encode("hello world") == [24912, 2375]
    assert encoding.decode([24912, 2375]) == "hello world"
    assert not list(tmp_path.iterdir())
