"""What a server takes apart from weights and KV cache."""

from dataclasses import replace

import pytest
from shapes import QWEN3_NEXT, understood
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

from dgx_vllm.plan import overheads


def test_a_gb10s_batches_are_those_of_a_gpu_whose_memory_vllm_cannot_ask_for(
    on_gb10: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NVML on a GB10 has no memory query, and vLLM 0.32 takes what fails for no memory."""

    def unsupported(*_: object, **__: object) -> int:
        raise RuntimeError("Not Supported")

    monkeypatch.setattr(type(current_platform), "get_device_total_memory", unsupported)
    tokens, sequences = EngineArgs.get_batch_defaults(world_size=1)
    server = UsageContext.OPENAI_API_SERVER
    assert (tokens[server], sequences[server]) == (
        overheads.BATCHED_TOKENS["cuda"],
        overheads.SEQUENCES["cuda"],
    )


def test_a_cpus_batches_are_vllms() -> None:
    tokens, sequences = EngineArgs.get_batch_defaults(world_size=1)
    server = UsageContext.OPENAI_API_SERVER
    assert (tokens[server], sequences[server]) == (
        overheads.BATCHED_TOKENS["cpu"],
        overheads.SEQUENCES["cpu"],
    )


def test_activations_are_as_wide_as_the_dtype() -> None:
    def taken(dtype: str) -> int:
        shape = understood(QWEN3_NEXT, dtype="bfloat16").architecture
        found = overheads.of("cuda", replace(shape, dtype=dtype), 2048, 256)
        return next(each.bytes for each in found if each.name == "activations")

    assert taken("float32") == 2 * taken("bfloat16") == 2 * taken("float16")
