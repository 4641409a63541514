"""Train the demo model from scratch, quantize it and write its checkpoint.

    python -m dgx_vllm.demo.train OUT

Three phases with fixed seeds: float32 weights first, then quantization-aware fine-tuning, in which every
forward pass sees the weights as the checkpoint will hold them (NVFP4 or bfloat16), so that greedy text
survives quantization; last, more of the questions that take longest to learn. The MTP head is trained beside
the model throughout, drafting two tokens.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call
from transformers import Qwen3NextForCausalLM
from transformers.models.qwen3_next.modeling_qwen3_next import load_balancing_loss_func

from dgx_vllm.demo.architecture import MAX_POSITIONS, VOCAB_SIZE, config_json, model_config
from dgx_vllm.demo.batches import Batch, batches
from dgx_vllm.demo.calibrate import input_amax
from dgx_vllm.demo.corpus import documents, plain_text
from dgx_vllm.demo.export import checkpoint_tensors, quantized_modules
from dgx_vllm.demo.mtp import MtpHead
from dgx_vllm.demo.quantized import checkpoint_parameters
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, special_id, train_tokenizer, write_tokenizer
from dgx_vllm.nvfp4.checkpoint import write_checkpoint


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one learning-rate schedule."""

    steps: int
    learning_rate: float
    quantized: bool
    seed: int
    drill: float = 0.0


PHASES = (
    Phase(steps=1000, learning_rate=3e-3, quantized=False, seed=1),
    Phase(steps=250, learning_rate=6e-4, quantized=True, seed=2),
    Phase(steps=550, learning_rate=2e-3, quantized=True, seed=3, drill=0.8),
)
BATCH_SIZE = 16
WARMUP_STEPS = 50
DRAFT_WEIGHTS = (0.4, 0.3)
BALANCE_WEIGHT = 0.01
TOKENIZER_DOCUMENTS = 20_000
CALIBRATION_BATCHES = 64
CALIBRATION_SEED = 1000


class DemoModel(nn.Module):
    """The model and its MTP head as one module, so that one optimizer and one functional call serve both."""

    def __init__(self) -> None:
        super().__init__()
        config = model_config()
        self.lm = Qwen3NextForCausalLM(config)
        self.mtp = MtpHead(config)
        for module in self.mtp.modules():
            self.lm._init_weights(module)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, list[float]]:
        """The training loss, and the cross entropies of the next token and of both drafts in nats."""
        out = self.lm.model(input_ids=batch.ids, output_router_logits=True, use_cache=False)
        hidden = out.last_hidden_state
        losses = [self._cross_entropy(hidden, batch, 1)]
        for depth in range(1, len(DRAFT_WEIGHTS) + 1):
            embeddings = self.lm.model.embed_tokens(batch.ids[:, depth:])
            hidden = self.mtp(embeddings, hidden[:, :-1], self.lm.model.rotary_emb, first_position=depth - 1)
            losses.append(self._cross_entropy(hidden, batch, depth + 1))
        config = self.lm.config
        balance = load_balancing_loss_func(out.router_logits, config.num_experts, config.num_experts_per_tok)
        loss = losses[0] + BALANCE_WEIGHT * balance
        for weight, draft in zip(DRAFT_WEIGHTS, losses[1:], strict=True):
            loss = loss + weight * draft
        return loss, [x.item() for x in losses]

    def _cross_entropy(self, hidden: torch.Tensor, batch: Batch, offset: int) -> torch.Tensor:
        """Mean over the scored tokens, each read from the hidden state `offset` positions before it."""
        targets, scored = batch.ids[:, offset:], batch.scored[:, offset:]
        logits = self.lm.lm_head(hidden[:, : targets.shape[1]][scored])
        return nn.functional.cross_entropy(logits, targets[scored])


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def _parameters_as_stored(model: DemoModel) -> dict[str, torch.Tensor]:
    """What the whole module's parameters become once written and read back."""
    out = {}
    for local, part, prefix in (("lm", model.lm, ""), ("mtp", model.mtp, "mtp.")):
        for name, tensor in checkpoint_parameters(part, prefix).items():
            out[f"{local}.{name}"] = tensor
    return out


def train_phase(model: DemoModel, phase: Phase, stream: Iterator[Batch]) -> None:
    """Run one phase in place, printing the losses."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, phase.steps))
    started = time.monotonic()
    for step, batch in enumerate(itertools.islice(stream, phase.steps)):
        stored = _parameters_as_stored(model) if phase.quantized else {}
        loss, (token, *drafts) = functional_call(model, stored, (batch,))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == phase.steps - 1:
            seconds = time.monotonic() - started
            shown = " ".join(f"{draft:.4f}" for draft in drafts)
            print(f"{seconds:6.0f} s  step {step:5d}  token {token:.4f}  drafts {shown}", flush=True)


def build(directory: Path, phases: tuple[Phase, ...] = PHASES) -> None:
    """Train and write everything that a server needs into `directory`."""
    torch.manual_seed(0)
    texts = (plain_text(document) for document in itertools.islice(documents(seed=0), TOKENIZER_DOCUMENTS))
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    model = DemoModel()
    for phase in phases:
        train_phase(model, phase, batches(tokenizer, phase.seed, BATCH_SIZE, phase.drill))
    model.eval()
    tensors = checkpoint_tensors(model.lm, model.mtp)
    quantized = quantized_modules(tensors)
    held_out = itertools.islice(batches(tokenizer, CALIBRATION_SEED, BATCH_SIZE), CALIBRATION_BATCHES)
    amax = input_amax(model.lm, (batch.ids for batch in held_out), quantized)
    config = config_json(special_id(tokenizer, END_OF_TEXT), special_id(tokenizer, TURN_END))
    write_checkpoint(directory, config, tensors, quantized, amax)
    write_tokenizer(tokenizer, directory, MAX_POSITIONS)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dgx_vllm.demo.train", description="Train the demo model."
    )
    parser.add_argument("out", type=Path, help="directory of the checkpoint to write")
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
