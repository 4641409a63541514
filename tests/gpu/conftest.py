"""The session's engines, for a GPU that our kernels are compiled for."""

from collections.abc import Iterator

import pytest
import torch
from engines import Engines

from dgx_vllm import kernels

_CAPABILITIES = ((9, 0), (12, 1))


@pytest.fixture(scope="session")
def kernels_run() -> None:
    """Skips where they cannot."""
    found = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if found not in _CAPABILITIES:
        pytest.skip(f"the kernels are for a CUDA device of compute capability 9.0 or 12.1, not {found}")
    try:
        kernels.find()
    except kernels.NoLibraryError as error:
        pytest.skip(f"{error}; DGX_VLLM_KERNELS_LIBRARY names one that is elsewhere")


@pytest.fixture(scope="session")
def engines(
    kernels_run: None,
    request: pytest.FixtureRequest,
    session_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engines]:
    """Those that the session's tests name in their mark `engines`."""
    marks = [mark for item in request.session.items for mark in item.iter_markers("engines")]
    names = dict.fromkeys(name for mark in marks for name in mark.args)
    made = Engines(names, tmp_path_factory.mktemp("engines"), session_environment)
    yield made
    made.close()
