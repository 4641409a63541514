"""Speculators: repositories that hold a drafter and name the model that it drafts for, the verifier.

vLLM 0.32 serves the verifier, with the repository as its drafter (`maybe_override_with_speculators` in
transformers_utils/config.py). The tokenizer is the verifier's as well, whatever --tokenizer says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dgx_vllm.util.errors import UserError

#: What vLLM calls the methods that it has under other names.
_METHODS = {"peagle": "eagle3", "dflash2": "dflash"}


@dataclass(frozen=True)
class Speculator:
    """What such a repository says.

    Args:
        model: the repository, as the user named it.
        verifier: the model that is served, a directory or a Hugging Face id.
        method: how is drafted, by vLLM's name.
        tokens: drafts for each step.
    """

    model: str
    verifier: str
    method: str
    tokens: int

    @property
    def config(self) -> dict[str, Any]:
        """The --speculative-config that it stands for."""
        return {"method": self.method, "num_speculative_tokens": self.tokens, "model": self.model}


def read(model: str, config: Mapping[str, Any] | None) -> Speculator | None:
    """What a model's config says of a verifier; None where it is a model of its own.

    Raises:
        UserError: the config has speculators_config, and lacks what vLLM asks of it.
    """
    fields = config.get("speculators_config") if config else None
    if config is None or fields is None:
        return None
    try:
        verifier = fields["verifier"]["name_or_path"]
        tokens = fields["proposal_methods"][0]["speculative_tokens"]
        method = config["speculators_model_type"]
        if not isinstance(config["transformer_layer_config"], Mapping):
            raise TypeError("transformer_layer_config")
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(
            f"{model} is a speculators repository whose config.json lacks {error}; fetch it again, "
            "or serve the model that it drafts for"
        ) from error
    if not isinstance(verifier, str) or not verifier or not isinstance(tokens, int):
        raise UserError(
            f"{model} is a speculators repository whose config.json names neither a verifier nor a number of "
            "drafts; give --speculative-config with it as the draft model, and the verifier as the model"
        )
    return Speculator(model, verifier, _METHODS.get(str(method), str(method)), tokens)
