"""Where the demo's files lie in the installed package."""

from pathlib import Path

_HERE = Path(__file__).parent

#: The checkpoint directory, to be given to vLLM as the model.
CHECKPOINT = _HERE / "checkpoint"
#: The table that `continuations` reads.
CONTINUATIONS = _HERE / "continuations.toml"
