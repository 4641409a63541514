"""The real server with drafts: its counters in /metrics, and what the launcher says of them at the end."""

import signal
from pathlib import Path

import httpx
import pytest
from serving import ANSWER, answer, serving

from dgx_vllm.launch.process import draft_statistics
from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

DRAFTS = ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 2}')
COUNTERS = (
    "vllm:spec_decode_num_drafts_total",
    "vllm:spec_decode_num_draft_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_total",
    "vllm:spec_decode_num_accepted_tokens_per_pos_total",
)


def test_acceptance_is_in_metrics_and_said_at_the_end(
    session_environment: dict[str, str], tmp_path: Path
) -> None:
    with serving(session_environment, tmp_path, "demo", *DRAFTS, "--shutdown-timeout", "600") as server:
        assert answer(server.client, server.model) == ANSWER
        metrics = httpx.get(f"{server.url}/metrics").raise_for_status().text
        for name in COUNTERS:
            assert f"\n{name}{{" in metrics
        found = draft_statistics.read(metrics)
        assert found is not None
        assert len(found.by_position) == 2
        assert found.proposed == 2 * found.rounds
        assert found.accepted == sum(found.by_position) > 0
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        said = [line for line in server.log.read_text(errors="replace").splitlines() if "drafted" in line]
        # Nothing was asked for in between.
        assert len(said) == 1
        assert said[0].startswith(
            f"dgx-vllm: {found} (to choose their number: dgx-vllm plan demo --acceptance "
        )
