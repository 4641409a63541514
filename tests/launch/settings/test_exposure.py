"""A server that the network reaches and that asks for no key: `serve` says so."""

import pytest

from helpers.launching import Run

WARNING = "and requires no key; give --api-key-file, or put a reverse proxy with TLS in front of 127.0.0.1"


@pytest.mark.parametrize(
    ("words", "environ", "shown"),
    [
        (["--host", "0.0.0.0"], {}, "0.0.0.0"),
        (["--host", "::"], {}, "::"),
        (["--host", "spark.example.org"], {}, "spark.example.org"),
        ([], {"HOST": "0.0.0.0"}, "0.0.0.0"),
        ([], {"VLLM_EXTRA_ARGS": "--host 10.0.0.1"}, "10.0.0.1"),
        (["--host", "0.0.0.0", "--api-key", ""], {}, "0.0.0.0"),
        (["--host", "0.0.0.0"], {"VLLM_API_KEY": ""}, "0.0.0.0"),
    ],
)
def test_an_open_address_without_a_key_is_named(
    dgx_vllm: Run, words: list[str], environ: dict[str, str], shown: str
) -> None:
    outcome = dgx_vllm("serve", "--dry-run", "org/model", *words, environ=environ)
    assert outcome.status == 0, outcome.err
    assert f"note: the server listens on {shown} {WARNING}" in outcome.out


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        ([], {}),
        (["--host", "localhost"], {}),
        (["--host", "::1"], {}),
        (["--host", "127.1.2.3"], {"HOST": "0.0.0.0"}),
        (["--host", "0.0.0.0", "--api-key", "k"], {}),
        (["--host", "0.0.0.0"], {"VLLM_API_KEY": "k"}),
        (["--host", "0.0.0.0", "--uds", "/run/vllm.sock"], {}),
    ],
)
def test_a_key_or_the_loopback_address_is_enough(
    dgx_vllm: Run, words: list[str], environ: dict[str, str]
) -> None:
    outcome = dgx_vllm("serve", "--dry-run", "org/model", *words, environ=environ)
    assert outcome.status == 0, outcome.err
    assert "listens on" not in outcome.out
