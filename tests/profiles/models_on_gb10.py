"""Run as a program: what vLLM makes of commands on a GB10: its parser, its config classes and its layers.

sys.argv[1] is a JSON file: an object of the words behind `vllm serve`, by any name. The last line of the
output is an object of answers by the same names, see `_answer`. Models are built on the meta device, without
a byte of weights. vLLM chooses the kernels of every layer, of the target and of what drafts.

helpers/gb10_platform.py makes vLLM's CPU build answer as the CUDA build. This program replaces more:
- Triton's search for a driver, which decides between vLLM's two model runners: a GB10 has one. Where no
  device is visible, vLLM expects one later, unless its version says that it is the CPU build.
- The operators of the CUDA extension, which layers and the compiler's passes name. None is called.
- Streams, and the device that tensors are made on.
- The process in which vLLM inspects a model's class. There the CPU build would answer, and it takes half a
  minute for each class.
- The loader of what drafts, which would look for weights.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from helpers import gb10_platform


def main(path: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch
    import vllm.platforms

    vllm.platforms.vllm_version_matches_substr = lambda text: False
    gb10_platform.install(flashinfer=True)
    vllm.platforms.current_platform.current_device = lambda: torch.device("meta")
    torch.ops._C = MagicMock()
    torch.cuda.Stream = MagicMock

    from vllm.model_executor import model_loader
    from vllm.model_executor.models import registry

    def here(function: Callable[[], Any]) -> Any:
        return function()

    registry._run_in_subprocess = here
    model_loader.get_model = _Built()

    from vllm.entrypoints.launchers.cli_args import create_parser_for_docs

    torch.set_default_dtype(torch.bfloat16)
    _form_group()
    parser = create_parser_for_docs()
    cases: dict[str, list[str]] = json.loads(path.read_text())
    print(json.dumps({name: _answer(parser, words) for name, words in cases.items()}))


def _form_group() -> None:
    """The groups of one process that layers look for."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    with tempfile.TemporaryDirectory() as directory, set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, f"file://{directory}/meeting", 0, "gloo")
        initialize_model_parallel()


class _Built:
    """In place of vLLM's `get_model`: builds a model without weights and keeps the last one."""

    def __init__(self) -> None:
        self.last: Any = None

    def __call__(self, *, vllm_config: Any, model_config: Any = None, **_: Any) -> Any:
        import torch
        from vllm.model_executor.model_loader.utils import initialize_model

        with torch.device("meta"):
            self.last = initialize_model(vllm_config, model_config=model_config)
        return self.last


def _answer(parser: Any, words: list[str]) -> dict[str, Any]:
    """What vLLM makes of one command: `refused`, or what its configs hold and its layers chose.

    Of a model that is not a directory only the words are looked at.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.launcher import validate_api_server_args
    from vllm.model_executor import model_loader
    from vllm.reasoning import ReasoningParserManager
    from vllm.usage.usage_lib import UsageContext

    try:
        # As `vllm serve` does: entrypoints/cli/serve.py and launchers/launcher.py.
        arguments = parser.parse_args(words)
        arguments.model = arguments.model_tag
        validate_api_server_args(arguments)
        if arguments.reasoning_parser:
            ReasoningParserManager.get_reasoning_parser(arguments.reasoning_parser)
        if not Path(arguments.model).is_dir():
            return {"refused": None}
        engine = AsyncEngineArgs.from_cli_args(arguments)
        config = engine.create_engine_config(UsageContext.OPENAI_API_SERVER)
        target = model_loader.get_model(vllm_config=config)
        drafter = _drafter(target, config) if config.speculative_config else None
    except (Exception, SystemExit) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    backend = config.attention_config.backend
    answer: dict[str, Any] = {
        "refused": None,
        "max-num-batched-tokens": config.scheduler_config.max_num_batched_tokens,
        "max-num-seqs": config.scheduler_config.max_num_seqs,
        "max-model-len": config.model_config.max_model_len,
        "kv-cache-dtype": config.cache_config.cache_dtype,
        "kv-cache-memory-bytes": config.cache_config.kv_cache_memory_bytes,
        "enable-prefix-caching": config.cache_config.enable_prefix_caching,
        "attention-backend": backend.name.lower() if backend else "auto",
        "moe-backend": config.kernel_config.moe_backend,
        "linear-backend": config.kernel_config.linear_backend,
        "load-format": config.load_config.load_format,
        "quantization": config.model_config.quantization,
        "layers": _chosen(target),
        "drafts": None,
    }
    if drafts := config.speculative_config:
        answer["drafts"] = {
            "method": drafts.method,
            "count": drafts.num_speculative_tokens,
            "architectures": drafts.draft_model_config.architectures,
            "layers": _chosen(drafter),
        }
    return answer


def _drafter(target: Any, config: Any) -> Any:
    """What drafts, built as vLLM's second model runner does (v1/worker/gpu/spec_decode/__init__.py)."""
    from vllm.model_executor import model_loader
    from vllm.v1.worker.gpu.spec_decode.dflash.utils import load_dflash_model
    from vllm.v1.worker.gpu.spec_decode.dspark.utils import load_dspark_model
    from vllm.v1.worker.gpu.spec_decode.eagle.utils import load_eagle_model
    from vllm.v1.worker.gpu.spec_decode.gemma4.speculator import Gemma4Speculator

    assert config.use_v2_model_runner
    drafts = config.speculative_config
    if drafts.use_gemma4_mtp():
        speculator = object.__new__(Gemma4Speculator)
        speculator.vllm_config, speculator.speculative_config = config, drafts
        own = speculator._create_draft_vllm_config()
        return model_loader.get_model(vllm_config=own, model_config=drafts.draft_model_config)
    load = {"dflash": load_dflash_model, "dspark": load_dspark_model}.get(drafts.method, load_eagle_model)
    load(target, config)
    return model_loader.get_model.last


def _chosen(model: Any) -> dict[str, dict[str, int]]:
    """The backends of a model's layers, by what they are for, and how many layers have each."""
    from vllm.model_executor.layers.attention import Attention

    counts: dict[str, Counter[str]] = {"attention": Counter(), "experts": Counter(), "linear": Counter()}
    for module in model.modules():
        if isinstance(module, Attention):
            counts["attention"][module.attn_backend.get_name().lower()] += 1
        method = getattr(module, "quant_method", None)
        for name in ("nvfp4_backend", "mxfp4_backend", "unquantized_backend"):
            if hasattr(method, name):
                backend = getattr(method, name).name.lower()
                counts["experts"]["dgx" if _is_ours(method.experts_cls) else backend] += 1
        if hasattr(method, "kernel"):
            kernel = type(method.kernel)
            counts["linear"]["dgx" if _is_ours(kernel) else kernel.__name__] += 1
    return {kind: dict(count) for kind, count in counts.items()}


def _is_ours(kind: type | None) -> bool:
    return kind is not None and kind.__module__.startswith("dgx_vllm.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
