"""`dgx-vllm calibrate`: runs a text through a model and keeps what reaches its experts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from dgx_vllm.evaluation import engine, engine_environment, refusal
from dgx_vllm.prune import calibration
from dgx_vllm.prune.source import Source
from dgx_vllm.util import output_files
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say


def calibrate(model: str, environ: Mapping[str, str], text: Path, out: Path, tokens: int) -> None:
    """Writes a calibration file.

    Args:
        model: a directory, a profile's name or a Hugging Face id in the cache; vLLM must serve it on this
            machine.
        environ: the process's environment.
        text: UTF-8, of the kind that the model will be asked to read and write.
        out: the file to write.
        tokens: of the text to run.

    Raises:
        UserError: bad input, vLLM does not run the model, or it has no experts.
    """
    directory = Source(model, environ).directory
    words = engine.text(text)
    part = out.with_name(out.name + ".part")
    for path in (out, part):
        output_files.check_file(path, "FILE.safetensors")
    engine_environment.enter(environ, directory)
    inputs: dict[str, list[torch.Tensor]] = {}
    try:
        llm = engine.start(directory)
        llm.apply_model(lambda model: _listen(model, inputs))
        cut = engine.windows(llm, words, tokens)
        _run(llm, cut)
        llm.llm_engine.engine_core.shutdown()
    except Exception as error:
        raise refusal.raised(directory, error) from error
    if not inputs:
        raise UserError(f"{model} has no experts that vLLM could show; prune without a calibration")
    tensors = {name: torch.cat(parts) for name, parts in inputs.items()}
    part.write_bytes(save(tensors))
    os.replace(part, out)
    say(f"{out}: inputs of {len(tensors)} blocks of experts over {sum(map(len, cut))} tokens")


def _listen(model: torch.nn.Module, inputs: dict[str, list[torch.Tensor]]) -> None:
    modules = dict(model.named_modules())

    def listen(block: str) -> None:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            inputs.setdefault(calibration.key(block), []).append(hidden.detach().to("cpu", copy=True))

        modules[block].register_forward_pre_hook(hook, with_kwargs=True)

    for name in modules:
        if name.endswith(".experts"):
            listen(name)


def _run(llm: Any, cut: list[list[int]]) -> None:
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": window} for window in cut]
    llm.generate(prompts, SamplingParams(temperature=0, max_tokens=1), use_tqdm=False)
