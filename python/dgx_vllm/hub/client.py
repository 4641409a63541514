"""Hub: what is asked of it over HTTP; huggingface_hub knows the addresses, the token and the errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import HfApi, constants, get_session, hf_hub_download, hf_hub_url
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from dgx_vllm.checkpoints import file_formats
from dgx_vllm.checkpoints.file_formats import AUTO, Reading
from dgx_vllm.hub.cache_folder import Storage
from dgx_vllm.hub.deadline import within
from dgx_vllm.hub.faults import BrokenOffError
from dgx_vllm.hub.listing import File, Listing, wanted
from dgx_vllm.util.errors import FAILURE, UserError

# Seconds that a small answer may take in all beyond what each of its parts may.
_GRACE = 30
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def listing(model: str, revision: str, reading: Reading = AUTO, seconds: float | None = None) -> Listing:
    """The files of a revision that serving needs.

    Args:
        model: the Hugging Face id.
        revision: a branch, tag or commit.
        reading: how vLLM is told to read them.
        seconds: to wait for each part of the answer; by default as for any other.

    Raises:
        UserError: there are none, vLLM cannot load them, or the hub does not say how large they are.
        faults.REMOTE: the hub refuses, or cannot be reached.
    """
    limit = seconds or constants.HF_HUB_DOWNLOAD_TIMEOUT
    # Without a timeout of its own this request would wait for ever.
    info = within(
        limit + _GRACE,
        lambda: HfApi().model_info(model, revision=revision, files_metadata=True, timeout=limit),
    )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    names = wanted(siblings, reading)
    page = f"{constants.ENDPOINT}/{model}"
    if not names or not info.sha:
        raise UserError(f"{model} has no files at {revision!r}; see {page}")
    if file_formats.only_gguf(siblings):
        raise UserError(f"{model} has only GGUF: {file_formats.NO_GGUF}; see {page}")
    asked = " or ".join(dict.fromkeys(file_formats.patterns(siblings, reading)))
    if asked and reading.load_format != "auto" and not file_formats.weights(siblings, reading):
        raise UserError(
            f"{model} has no {asked}, which --load-format {reading.load_format} asks for; leave it out"
        )
    return Listing(model, info.sha, tuple(_file(siblings[name]) for name in sorted(names)))


@contextmanager
def content(listing: Listing, file: File, start: int) -> Iterator[Any]:
    """The response with a file's bytes from `start` on, if the server can do that: its status is then 206.

    Raises:
        faults.REMOTE: as above.
    """
    # Of a compressed answer no range can be asked.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    address = hf_hub_url(listing.model, file.name, revision=listing.commit)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    stream = get_session().stream("GET", address, headers=headers, timeout=timeout)
    response = within(timeout + _GRACE, stream.__enter__)
    try:
        hf_raise_for_status(response)
        yield response
    finally:
        stream.__exit__(None, None, None)


def place(listing: Listing, file: File, storage: Storage) -> None:
    """Puts a file into the snapshot: a link to its blob if that is here, else huggingface_hub downloads it.

    Raises:
        faults.REMOTE: as above.
    """

    def download() -> str:
        return hf_hub_download(listing.model, file.name, revision=listing.commit, cache_dir=storage.cache)

    try:
        if uses_xet() or not storage.blob(file).exists():
            download()
        else:  # a question, and a link
            within(constants.HF_HUB_DOWNLOAD_TIMEOUT + _GRACE, download)
    except RuntimeError as error:  # all that hf-xet raises
        raise BrokenOffError(f"hf-xet: {error}") from error


def uses_xet() -> bool:
    """Whether the user asked for Xet, which only huggingface_hub's own download speaks."""
    return not constants.HF_HUB_DISABLE_XET


def _file(sibling: RepoSibling) -> File:
    blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.lfs.size if sibling.lfs else sibling.size
    if size is None or not _BLOB.fullmatch(blob or ""):
        raise UserError(
            f"{constants.ENDPOINT} states neither size nor hash of {sibling.rfilename}; "
            "set HF_ENDPOINT to a hub that does, or unset it",
            FAILURE,
        )
    return File(sibling.rfilename, size, str(blob))
