"""Train the demo model from scratch, quantize it and write its checkpoint.

    python -m dgx_vllm.demo.train OUT

Two phases with fixed seeds: float32 weights first, then quantization-aware fine-tuning, in which every
forward pass sees the weights as the checkpoint will hold them (NVFP4 or bfloat16), so that greedy text
survives quantization. The MTP head is trained with the model throughout, drafting two tokens. At the end
stands the accuracy of each task before and after quantization.

The committed checkpoint is one such run: 395 s on one H100 with torch 2.11. The seed fixes the data and the
initial weights; another device or another torch rounds differently and gives other weights.
"""

import argparse
import itertools
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call

from dgx_vllm.demo.accuracy import measure, questions
from dgx_vllm.demo.activation_scales import input_amax
from dgx_vllm.demo.batches import Batch, batches
from dgx_vllm.demo.corpus import documents, plain_text
from dgx_vllm.demo.export import checkpoint_tensors, quantized_modules
from dgx_vllm.demo.model_config import MAX_POSITIONS, VOCAB_SIZE, config_json
from dgx_vllm.demo.quantized import checkpoint_parameters
from dgx_vllm.demo.tokenizer import END_OF_TEXT, TURN_END, special_id, train_tokenizer, write_tokenizer
from dgx_vllm.demo.training_module import DemoModel
from dgx_vllm.formats.nvfp4.modelopt import write_checkpoint


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one learning-rate schedule."""

    steps: int
    learning_rate: float
    quantized: bool
    seed: int


PHASES = (
    Phase(steps=1400, learning_rate=3e-3, quantized=False, seed=1),
    Phase(steps=500, learning_rate=1e-3, quantized=True, seed=2),
)
BATCH_SIZE = 256
WARMUP_STEPS = 100
REPORT_STEPS = 100
TOKENIZER_DOCUMENTS = 20_000
CALIBRATION_BATCHES = 4
CALIBRATION_SEED = 1000
QUESTIONS = 400


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to a hundredth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def train_phase(model: DemoModel, phase: Phase, stream: Iterator[Batch]) -> None:
    """Run one phase in place, printing the losses."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, phase.steps))
    started = time.monotonic()
    for step, batch in enumerate(itertools.islice(stream, phase.steps)):
        stored = model.parameters_as_stored() if phase.quantized else {}
        loss, entropies = functional_call(model, stored, (batch,))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % REPORT_STEPS == 0 or step == phase.steps - 1:
            token, *drafts = entropies.tolist()
            shown = " ".join(f"{draft:.4f}" for draft in drafts)
            seconds = time.monotonic() - started
            print(f"{seconds:6.0f} s  step {step:5d}  token {token:.4f}  drafts {shown}", flush=True)


def _print_accuracy(before: Mapping[str, float], after: Mapping[str, float]) -> None:
    print(f"{'answers right':16}{'float32':>10}{'NVFP4':>10}")
    for task in before:
        print(f"{task:16}{before[task]:10.1%}{after[task]:10.1%}")


def build(directory: Path, device: torch.device, phases: tuple[Phase, ...] = PHASES) -> None:
    """Train and write everything that a server needs into `directory`.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    torch.manual_seed(0)
    texts = (plain_text(document) for document in itertools.islice(documents(seed=0), TOKENIZER_DOCUMENTS))
    tokenizer = train_tokenizer(texts, VOCAB_SIZE)
    model = DemoModel().to(device)
    for phase in phases:
        train_phase(model, phase, batches(tokenizer, phase.seed, BATCH_SIZE, device))
    model.eval()
    rows = questions(tokenizer, QUESTIONS)
    before = measure(model.lm, {}, rows)
    after = measure(model.lm, checkpoint_parameters(model.lm), rows)
    calibration = itertools.islice(
        batches(tokenizer, CALIBRATION_SEED, BATCH_SIZE, device), CALIBRATION_BATCHES
    )
    tensors = checkpoint_tensors(model.lm, model.mtp)
    quantized = quantized_modules(tensors)
    amax = input_amax(model.lm, (batch.ids for batch in calibration), quantized)
    config = config_json(special_id(tokenizer, END_OF_TEXT), special_id(tokenizer, TURN_END))
    write_checkpoint(directory, config, tensors, quantized, amax)
    write_tokenizer(tokenizer, directory, MAX_POSITIONS)
    _print_accuracy(before, after)
    print(f"{directory} written after {time.monotonic() - started:.0f} s on {device}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dgx_vllm.demo.train", description="Train the demo model."
    )
    parser.add_argument("out", type=Path, help="directory of the checkpoint to write")
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", type=torch.device, default=torch.device(default_device), help="torch's name for it"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's condition for determinism
    # Where an operation has no such algorithm, torch warns.
    torch.use_deterministic_algorithms(True, warn_only=True)
    build(arguments.out, arguments.device)


if __name__ == "__main__":
    main()
