"""Former flags: those of earlier vLLM versions that published commands still have, and what to do today."""

_LEAVE = "leave it out"
_OVERRIDE = "give --hf-overrides '{\"rope_parameters\": {...}}' instead"
_SPECULATIVE = "give {} of --speculative-config instead"

#: By name, without dashes in front.
_ADVICE = {
    "calculate-kv-scales": _LEAVE,
    "cuda-graph-sizes": "give --cudagraph-capture-sizes or --max-cudagraph-capture-size instead",
    "device": f"{_LEAVE}: the build decides",
    "disable-async-output-proc": _LEAVE,
    "disable-frontend-multiprocessing": _LEAVE,
    "disable-log-requests": f"{_LEAVE}: requests are logged with --enable-log-requests alone",
    "disable-mm-preprocessor-cache": "give --mm-processor-cache-gb 0 instead",
    "enable-reasoning": f"{_LEAVE}: --reasoning-parser is enough",
    "engine-use-ray": _LEAVE,
    "guided-decoding-backend": "give --structured-outputs-config.backend instead",
    "long-lora-scaling-factors": _LEAVE,
    "lora-extra-vocab-size": _LEAVE,
    "max-seq-len-to-capture": "give --max-cudagraph-capture-size instead",
    "multi-step-stream-outputs": _LEAVE,
    "num-lookahead-slots": _LEAVE,
    "num-redundant-experts": "give --eplb-config.num_redundant_experts instead",
    "num-scheduler-steps": _LEAVE,
    "num-speculative-tokens": "give --spec-tokens instead",
    "O": "give a level, such as -O3, or --compilation-config",
    "override-pooler-config": "give --pooler-config instead",
    "preemption-mode": _LEAVE,
    "rope-scaling": _OVERRIDE,
    "rope-theta": _OVERRIDE,
    "speculative-draft-tensor-parallel-size": _SPECULATIVE.format("draft_tensor_parallel_size"),
    "speculative-model": "give --spec-model instead",
    "swap-space": f"{_LEAVE}: requests that do not fit are computed again",
    "task": "give --runner pooling with --convert instead, or leave it out to generate",
    "use-v2-block-manager": _LEAVE,
    "worker-use-ray": "give --distributed-executor-backend ray instead",
}


def advice(name: str) -> str:
    """What to do about a flag that vLLM has no longer, empty where it never had one of that name."""
    return _ADVICE.get(name, "")
