"""A user's own Python in a real server: a middleware, a logits processor, a worker extension and a parser."""

from pathlib import Path

import httpx
import pytest
from serving import QUESTION, serving

from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

MIDDLEWARE = """
class Mark:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(message):
            if message["type"] == "http.response.start":
                message["headers"].append((b"x-mine", b"yes"))
            await send(message)

        await self.app(scope, receive, marked)
"""
# Always the same token, which no model does by itself.
PROCESSOR = """
import torch
from vllm.v1.sample.logits_processor import LogitsProcessor


class Always(LogitsProcessor):
    def __init__(self, vllm_config, device, is_pin_memory):
        pass

    def apply(self, logits):
        forced = torch.full_like(logits, float("-inf"))
        forced[:, 65] = 0
        return forced

    def is_argmax_invariant(self):
        return False

    def update_state(self, batch_update):
        pass
"""


def test_a_users_modules_are_at_work(session_environment: dict[str, str], tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "mine").mkdir(parents=True)
    (own / "mine/__init__.py").touch()
    (own / "mine/web.py").write_text(MIDDLEWARE)
    (own / "mine/sampling.py").write_text(PROCESSOR)
    (own / "mine/worker.py").write_text("class Extension:\n    def mine(self):\n        return 1\n")
    words = [
        *("--python-path", str(own)),
        *("--middleware", "mine.web.Mark"),
        *("--logits-processors", "mine.sampling:Always"),
        *("--worker-extension-cls", "mine.worker.Extension"),
    ]
    with serving(session_environment, tmp_path, *words) as server:
        body = {"model": server.model, "messages": QUESTION, "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-mine"] == "yes"
        text = answer.json()["choices"][0]["message"]["content"]
        asked = httpx.post(f"{server.url}/detokenize", json={"model": server.model, "tokens": [65] * 4})
        assert text.strip() == asked.json()["prompt"].strip() != ""
