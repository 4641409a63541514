"""Two thousand requests that break the server's own OpenAPI: each is refused, and nobody else notices."""

from collections import Counter
from collections.abc import Callable

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from serving import ANSWER, Server, answer

from helpers.processes import PATIENCE

pytestmark = pytest.mark.engine

#: What README.md and docs/ send people to.
DOCUMENTED = ("/v1/chat/completions", "/v1/completions", "/v1/models")
REQUESTS = 2000


def test_malformed_requests_are_refused(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = schema.include(path=list(DOCUMENTED)).as_strategy(generation_mode=GenerationMode.NEGATIVE)
    statuses: Counter[int] = Counter()
    failures: dict[str, str] = {}

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations)
    def send(case: Case) -> None:
        response = case.call(timeout=PATIENCE)
        statuses[response.status_code] += 1
        if response.status_code >= 500:
            failures[response.text[:200]] = case.as_curl_command()[:400]

    send()
    record_property("answers by status", dict(sorted(statuses.items())))
    assert sum(statuses.values()) >= REQUESTS
    assert failures == {}
    assert answer(server.client, server.model) == ANSWER
