"""The demo model and its MTP head in training: one module, one loss."""

import torch
from torch import nn
from transformers import Qwen3NextForCausalLM
from transformers.models.qwen3_next.modeling_qwen3_next import load_balancing_loss_func

from dgx_vllm.demo.batches import Batch
from dgx_vllm.demo.model_config import model_config
from dgx_vllm.demo.mtp import MtpHead
from dgx_vllm.demo.quantized import checkpoint_parameters

#: How much the first and the second draft count in the loss, where the next token counts 1.
DRAFT_WEIGHTS = (0.4, 0.3)
#: How much an even use of the experts counts.
BALANCE_WEIGHT = 0.01


class DemoModel(nn.Module):
    """The model and its MTP head as one module, so that one optimizer and one functional call serve both."""

    def __init__(self) -> None:
        super().__init__()
        config = model_config()
        self.lm = Qwen3NextForCausalLM(config)
        self.mtp = MtpHead(config)
        for module in self.mtp.modules():
            self.lm._init_weights(module)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The training loss.

        Returns:
            The loss, a scalar, and the cross entropies of the next token and of each draft in nats, without
            gradients: float32 [1 + drafts].
        """
        out = self.lm.model(input_ids=batch.ids, output_router_logits=True, use_cache=False)
        hidden = out.last_hidden_state
        losses = [self._cross_entropy(hidden, batch, 1)]
        for depth in range(1, len(DRAFT_WEIGHTS) + 1):
            embeddings = self.lm.model.embed_tokens(batch.ids[:, depth:])
            hidden = self.mtp(embeddings, hidden[:, :-1], self.lm.model.rotary_emb, first_position=depth - 1)
            losses.append(self._cross_entropy(hidden, batch, depth + 1))
        config = self.lm.config
        loss = losses[0] + BALANCE_WEIGHT * load_balancing_loss_func(
            out.router_logits, config.num_experts, config.num_experts_per_tok
        )
        for weight, draft in zip(DRAFT_WEIGHTS, losses[1:], strict=True):
            loss = loss + weight * draft
        return loss, torch.stack(losses).detach()

    def _cross_entropy(self, hidden: torch.Tensor, batch: Batch, offset: int) -> torch.Tensor:
        """Mean over the scored tokens, each read from the hidden state `offset` positions before it."""
        targets = batch.ids[:, offset:].masked_fill(~batch.scored[:, offset:], -100)
        logits = self.lm.lm_head(hidden[:, : targets.shape[1]])
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)

    def parameters_as_stored(self) -> dict[str, torch.Tensor]:
        """What all parameters become once written and read back, for `torch.func.functional_call`."""
        out = {}
        for local, part, prefix in (("lm", self.lm, ""), ("mtp", self.mtp, "mtp.")):
            for name, tensor in checkpoint_parameters(part, prefix).items():
                out[f"{local}.{name}"] = tensor
        return out
