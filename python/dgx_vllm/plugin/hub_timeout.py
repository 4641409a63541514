"""Hub: a bound for questions that huggingface_hub asks without one.

`HfApi.repo_info`, with which vLLM 0.32 begins, passes no timeout: a hub that takes the connection and stays
silent would hold a start for ever, and neither HF_HUB_ETAG_TIMEOUT nor HF_HUB_DOWNLOAD_TIMEOUT counts there.
"""

from typing import Any


def register() -> None:
    """Bounds every read that has no timeout by HF_HUB_DOWNLOAD_TIMEOUT, in this process."""
    from huggingface_hub import set_client_factory

    set_client_factory(_client)


def _client() -> Any:
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.timeout = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    unbounded = client.build_request

    def build_request(*words: Any, timeout: Any = httpx2.USE_CLIENT_DEFAULT, **fields: Any) -> Any:
        return unbounded(*words, timeout=httpx2.USE_CLIENT_DEFAULT if timeout is None else timeout, **fields)

    # An explicit None would count more than the client's own.
    setattr(client, "build_request", build_request)  # noqa: B010
    return client
