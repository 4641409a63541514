"""The keys that clients must give, and whether a request gives one."""

import hashlib
import hmac
import os
from argparse import Namespace
from collections.abc import Iterable

from starlette.datastructures import Headers


class Keys:
    """Keys of the server, kept as digests.

    Args:
        keys: any of them opens the server; empty ones count for nothing. Without any everything is open.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys if key]

    @classmethod
    def of_server(cls, args: Namespace) -> "Keys":
        """The keys that vLLM itself takes from its command line, else from its environment."""
        return cls(args.api_key or [os.environ.get("VLLM_API_KEY", "")])

    def __bool__(self) -> bool:
        return bool(self._digests)

    def given(self, headers: Headers) -> str | None:
        """The key that a request gives, None where it gives none that counts.

        OpenAI's clients send `Authorization: Bearer KEY`, Anthropic's `x-api-key: KEY`.
        """
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = [bearer] if scheme.lower() == "bearer" else []
        offered += [headers["x-api-key"]] if "x-api-key" in headers else []
        return next((key for key in offered if self._holds(key)), None)

    def _holds(self, key: str) -> bool:
        """Compares with every key, each in a time that does not depend on what is alike."""
        digest = _digest(key)
        return any([hmac.compare_digest(digest, known) for known in self._digests])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
