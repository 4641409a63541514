"""Vision: Qwen3.5's vision tower, which is loaded, and read once per image, not while decoding."""

from collections.abc import Iterator

from dgx_vllm.checkpoints.fields import Fields
from dgx_vllm.plan.architecture import Tensor
from dgx_vllm.plan.layer_shapes import linear


def tensors(fields: Fields) -> Iterator[Tensor]:
    """Its tensors, by config.json's vision_config."""
    width, inner = fields.positive("hidden_size"), fields.positive("intermediate_size")
    patch, frames = fields.positive("patch_size"), fields.positive("temporal_patch_size")
    merged = width * fields.positive("spatial_merge_size") ** 2
    root = "model.visual"
    yield Tensor(
        f"{root}.patch_embed.proj.weight", (width, fields.positive("in_channels"), frames, patch, patch)
    )
    yield Tensor(f"{root}.patch_embed.proj.bias", (width,))
    yield Tensor(f"{root}.pos_embed.weight", (fields.positive("num_position_embeddings"), width))
    for index in range(fields.positive("depth")):
        prefix = f"{root}.blocks.{index}"
        yield from _layer_norm(f"{prefix}.norm1", width)
        yield from _layer_norm(f"{prefix}.norm2", width)
        yield from linear(f"{prefix}.attn.qkv", 3 * width, width, bias=True)
        yield from linear(f"{prefix}.attn.proj", width, width, bias=True)
        yield from linear(f"{prefix}.mlp.linear_fc1", inner, width, bias=True)
        yield from linear(f"{prefix}.mlp.linear_fc2", width, inner, bias=True)
    yield from _layer_norm(f"{root}.merger.norm", width)
    yield from linear(f"{root}.merger.linear_fc1", merged, merged, bias=True)
    yield from linear(f"{root}.merger.linear_fc2", fields.positive("out_hidden_size"), merged, bias=True)


def _layer_norm(name: str, width: int) -> Iterator[Tensor]:
    yield Tensor(f"{name}.weight", (width,))
    yield Tensor(f"{name}.bias", (width,))
