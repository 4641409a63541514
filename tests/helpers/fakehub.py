"""A hub on 127.0.0.1 that serves one repository and fails as it is told."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

MODEL = "org/model"
VERIFIER = "org/verifier"
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_TheSecretThatNobodyPrints"

#: Seconds between two bytes of what trickles.
PAUSE = 0.05

Refusal = tuple[int, str, str]
"""Status, X-Error-Code and X-Error-Message of an answer, as the real hub gives them."""

GATED = (403, "GatedRepo", "Access to model org/model is restricted")
NO_MODEL = (401, "RepoNotFound", "Repository not found")
NO_REVISION = (404, "RevisionNotFound", "Invalid rev id: nope")
NO_FILE = (404, "EntryNotFound", "Entry not found")
WRONG_TOKEN = (401, "", "Invalid credentials in Authorization header")
FORBIDDEN = (403, "", "Forbidden")
BUSY = (429, "", "Too many requests")
DOWN = (503, "", "Service unavailable")


@dataclass
class Behaviour:
    """How one answer with a file's content fails.

    Args:
        refusal: answered instead.
        sent: bytes after which the connection ends; None for all.
        held: whether the connection then stays open, silent.
        corrupt: whether the first byte sent is another one.
        ranges: whether a Range is honoured.
        surplus: bytes sent after the last one, with a Content-Length that covers them.
        trickles: whether the content comes a byte at a time.
    """

    refusal: Refusal | None = None
    sent: int | None = None
    held: bool = False
    corrupt: bool = False
    ranges: bool = True
    surplus: int = 0
    trickles: bool = False


@dataclass
class Request:
    """One GET of a file's content."""

    name: str
    start: int
    asked_range: bool
    encoding: str | None
    sent: int = 0


@dataclass
class Hub:
    """What the server serves and what it was asked."""

    files: dict[str, bytes]
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    listing: list[Refusal | str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    listings: int = 0
    tokens: set[str | None] = field(default_factory=set)
    head: list[Refusal] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    mirror: str = ""
    mirror_tokens: set[str | None] = field(default_factory=set)
    verifier: dict[str, bytes] = field(default_factory=dict)
    verifier_revisions: list[str] = field(default_factory=list)

    def fails(self, name: str, *behaviours: Behaviour) -> None:
        """The next answers with this file's content, one behaviour for each; then it is served."""
        self.behaviours.setdefault(name, []).extend(behaviours)

    def asked(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.name == name]

    def sent(self) -> int:
        """Bytes of content that left the server."""
        return sum(request.sent for request in self.requests)

    def blob(self, name: str) -> str:
        """A blob's name in the cache: files of weights are in Git LFS, the others in git."""
        content = self.content(name)
        if is_lfs(name):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def content(self, name: str) -> bytes:
        """A file's content; files of the verifier have its name before theirs."""
        return (
            self.verifier[name.removeprefix(f"{VERIFIER}/")] if name not in self.files else self.files[name]
        )

    def description(self, model: str = MODEL) -> dict[str, Any]:
        names = self.files if model == MODEL else self.verifier
        return {"id": model, "sha": COMMIT, "siblings": [self._sibling(model, name) for name in names]}

    def tree(self) -> list[dict[str, Any]]:
        """The same as huggingface_hub's snapshot_download asks for it."""
        return [
            {
                "type": "file",
                "path": each["rfilename"],
                "size": each["size"],
                "oid": each["blobId"],
                **({"lfs": {"oid": each["lfs"]["sha256"], **each["lfs"]}} if "lfs" in each else {}),
            }
            for each in self.description()["siblings"]
        ]

    def _sibling(self, model: str, plain: str) -> dict[str, Any]:
        name = plain if model == MODEL else f"{model}/{plain}"
        size = len(self.content(name))
        sibling: dict[str, Any] = {"rfilename": plain, "size": size, "blobId": self.blob(name)}
        if is_lfs(name):
            sibling |= {
                "blobId": "0" * 40,
                "lfs": {"sha256": self.blob(name), "size": size, "pointerSize": 134},
            }
        return sibling


def is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


class Server(ThreadingHTTPServer):
    """The hub's server; handlers that hold a connection do not keep it from closing."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    @property
    def is_mirror(self) -> bool:
        return self.hub.mirror.endswith(f":{self.server_port}")


class Handler(BaseHTTPRequestHandler):
    """Answers as the real hub does, as far as a download sees it."""

    server: Server

    def do_HEAD(self) -> None:
        name = self._name()
        hub = self.server.hub
        if hub.head:
            self._refuse(hub.head.pop(0))
        elif name is None:
            self._refuse(NO_FILE)
        elif hub.mirror and is_lfs(name) and not self.server.is_mirror:
            self._redirect(name)
        else:
            self._headers(200, name, len(hub.content(name)))

    def do_GET(self) -> None:
        hub = self.server.hub
        address = urlsplit(self.path)
        if address.path in (f"/api/models/{MODEL}/tree/{COMMIT}", f"/api/models/{MODEL}/tree/main"):
            self._json(hub.tree())
        elif address.path.startswith(f"/api/models/{VERIFIER}/revision/"):
            hub.verifier_revisions.append(address.path.partition("/revision/")[2])
            self._json(hub.description(VERIFIER))
        elif address.path.startswith(f"/api/models/{MODEL}"):
            hub.listings += 1
            hub.tokens.add(self.headers.get("Authorization"))
            self._list(address.path)
        elif (name := self._name()) is not None:
            tokens = hub.mirror_tokens if self.server.is_mirror else hub.tokens
            tokens.add(self.headers.get("Authorization"))
            if hub.mirror and is_lfs(name) and not self.server.is_mirror:
                self._redirect(name)
            else:
                self._content(name)
        else:
            self._refuse(NO_MODEL)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def _list(self, path: str) -> None:
        hub = self.server.hub
        if hub.listing:
            answer = hub.listing.pop(0)
            if not isinstance(answer, str):
                self._refuse(answer)
                return
            body = answer.encode()
        elif path.endswith(("/revision/main", f"/revision/{COMMIT}", MODEL)):
            body = json.dumps(hub.description()).encode()
        else:
            self._refuse(NO_REVISION)
            return
        self._send(body)

    def _json(self, answer: Any) -> None:
        self._send(json.dumps(answer).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self, name: str) -> None:
        hub = self.server.hub
        planned = hub.behaviours.get(name)
        behaviour = planned.pop(0) if planned else Behaviour()
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and behaviour.ranges else 0
        request = Request(name, start, asked is not None, self.headers.get("Accept-Encoding"))
        hub.requests.append(request)
        if behaviour.refusal:
            self._refuse(behaviour.refusal)
            return
        content = hub.content(name)[start:] + b"+" * behaviour.surplus
        self._headers(206 if start else 200, name, len(content))
        if behaviour.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        body = content if behaviour.sent is None else content[: behaviour.sent]
        for place in range(0, len(body), 1) if behaviour.trickles else ():
            self.wfile.write(body[place : place + 1])
            request.sent += 1
            if hub.released.wait(PAUSE):
                return
        if not behaviour.trickles:
            self.wfile.write(body)
            request.sent = len(body)
        if behaviour.held:
            hub.holding.set()
            hub.released.wait(3600)

    def _redirect(self, name: str) -> None:
        self._headers(302, name, 0, f"{self.server.hub.mirror}{self.path}?Signature=secret")

    def _headers(self, status: int, name: str, length: int, location: str | None = None) -> None:
        hub = self.server.hub
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(length))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hub.blob(name)}"')
        if is_lfs(name):
            self.send_header("X-Linked-Etag", f'"{hub.blob(name)}"')
            self.send_header("X-Linked-Size", str(len(hub.content(name))))
        self.end_headers()

    def _refuse(self, refusal: Refusal) -> None:
        status, code, message = refusal
        self.send_response(status, HTTPStatus(status).phrase)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _name(self) -> str | None:
        path = unquote(urlsplit(self.path).path)
        for model, files, before in (
            (MODEL, self.server.hub.files, ""),
            (VERIFIER, self.server.hub.verifier, f"{VERIFIER}/"),
        ):
            for revision in (COMMIT, "main"):
                prefix = f"/{model}/resolve/{revision}/"
                name = path.removeprefix(prefix)
                if path.startswith(prefix) and name in files:
                    return before + name
        return None


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serves the hub on a port of its own until the block ends."""
    server = Server(hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
