"""One unpacked image for all of the session's containers."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from container import unpack


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image of IMAGE, unpacked."""
    image = os.environ.get("IMAGE")
    if not image:
        pytest.skip("IMAGE does not name an OCI layout")
    directory = tmp_path_factory.mktemp("image") / "bundle"
    unpack(Path(image), directory)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
