"""Fixed outputs: one rule gives the path, whoever fetches."""

import json
import os
from pathlib import Path

import pytest

from pinning import store
from pinning.pins import read

FIXED_OUTPUTS = os.environ.get("FIXED_OUTPUTS")


def test_path_that_nix_store_gave() -> None:
    """The path that `nix-store --add-fixed sha256` gave a file `x-1.txt` that holds `hi`."""
    digest = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"
    assert store.fixed_output_path("x-1.txt", digest) == "/nix/store/z1c43f55s5vq5gr303ygxbrxigwylvmy-x-1.txt"


@pytest.mark.skipif(not FIXED_OUTPUTS, reason="needs an evaluation of the flake: run by the check `pins`")
def test_every_fetcher_gives_the_path_that_offline_fills() -> None:
    """Each pin's path in the evaluated flake is where the offline way puts the file; none is left out."""
    assert FIXED_OUTPUTS
    evaluated = json.loads(Path(FIXED_OUTPUTS).read_text())
    pins = read(Path(__file__).parents[2] / "nix/pins")
    offline = {pin.file: pin.store_path for pin in pins.files} | {
        seed.system: seed.store_path for seed in pins.seeds
    }
    assert evaluated == offline
