"""Qwen3-Next's multi-token-prediction head, for training (transformers ships the model without it)."""

import torch
from torch import nn
from transformers import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import (
    Qwen3NextDecoderLayer,
    Qwen3NextRMSNorm,
    Qwen3NextRotaryEmbedding,
)


class MtpHead(nn.Module):
    """One full-attention decoder layer that drafts the token after next.

    At position t it takes the embedding of token t + 1 and the hidden state at t (the model's output after
    its final norm, or this head's own output when it drafts further), and gives a hidden state from which the
    model's lm_head reads token t + 2. Parameter names match the checkpoint's under `mtp.`.
    """

    def __init__(self, config: Qwen3NextConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.fc = nn.Linear(2 * hidden, hidden, bias=False)
        assert config.layer_types is not None
        like = config.layer_types.index("full_attention")
        self.layers = nn.ModuleList([Qwen3NextDecoderLayer(config, like)])
        self.norm = Qwen3NextRMSNorm(hidden, eps=config.rms_norm_eps)
        self.pre_fc_norm_hidden = Qwen3NextRMSNorm(hidden, eps=config.rms_norm_eps)
        self.pre_fc_norm_embedding = Qwen3NextRMSNorm(hidden, eps=config.rms_norm_eps)

    def forward(
        self,
        embeddings: torch.Tensor,
        hidden: torch.Tensor,
        rotary: Qwen3NextRotaryEmbedding,
        first_position: int,
    ) -> torch.Tensor:
        """Draft one token at every position of a batch.

        Args:
            embeddings: [batch, length, hidden], of the tokens one position further on.
            hidden: [batch, length, hidden].
            rotary: the model's position embedding.
            first_position: the position of index 0.

        Returns:
            Hidden states [batch, length, hidden], normed.
        """
        parts = (self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(hidden))
        x = self.fc(torch.cat(parts, dim=-1))
        length = x.shape[1]
        positions = torch.arange(first_position, first_position + length, device=x.device)[None]
        mask = torch.full((length, length), float("-inf"), device=x.device).triu(1)[None, None]
        return self.norm(self.layers[0](x, position_embeddings=rotary(x, positions), attention_mask=mask))
