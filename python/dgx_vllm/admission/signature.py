"""The signature: answers that say whose they are. At this address another server may answer the launcher."""

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from dgx_vllm.admission.names import SERVER_HEADER


def signed(send: Send, word: str) -> Send:
    """A `send` whose answer carries the launcher's word, the same one where there is no word."""
    if not word:
        return send

    async def send_signed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            headers[SERVER_HEADER] = word
            message = {**message, "headers": headers.raw}
        await send(message)

    return send_signed
