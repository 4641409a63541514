"""The demo by the backend that we bring: the same text, and no layer left to others."""

from pathlib import Path

import pytest
from serving import serving

from dgx_vllm import demo

pytestmark = pytest.mark.engine


def test_the_dgx_backend_continues_every_sequence(
    session_environment: dict[str, str], tmp_path: Path
) -> None:
    """On the CPU the reference path serves the name of the kernels."""
    with serving(session_environment, tmp_path, "--moe-backend", "dgx") as server:
        for row in demo.completions():
            done = server.client.completions.create(
                model=server.model, prompt=row.prompt, temperature=0, max_tokens=64
            )
            text = done.choices[0].text
            assert text == row.text if row.stops else text.startswith(row.text)
        log = server.log.read_text(errors="replace")
    assert "moe_backend" in log  # among the arguments that differ from vLLM's defaults
    assert "moe_backend='dgx' is for NVFP4 experts" not in log
