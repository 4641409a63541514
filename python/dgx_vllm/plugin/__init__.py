"""What we put into vLLM: decode kernels for NVFP4 experts (moe/) and linear layers (dense/linear_backend.py) on
GPUs, FP8 or NVFP4 for linear layers that a checkpoint left in BF16 (dense/), and NVFP4 on
the CPU backend.

Experts and linear kernel come in by entry points of their own, which vLLM as we patch it asks when
`--moe-backend dgx` or `--linear-backend dgx` is given; docs/kernels.md says why so. The shared expert comes
to the experts by a runner (moe/runner.py, moe/shared_slot.py), and a draft's experts that were left in BF16 are made NVFP4
for them (draft_experts/). These and the layers that were left in BF16 come in by vLLM's registry
for layers from outside, and are vLLM's own until a flag, or `--dense-dtype` (docs/decode.md), asks for them.
The rest of this page is about the CPU, where the reference path serves every NVFP4 layer.

What vLLM asks the hub without a timeout gets one (hub_timeout.py).

vLLM 0.32 reads ModelOpt NVFP4 checkpoints on GPUs only: on its CPU backend no linear kernel is listed for
NVFP4 and the table of NVFP4 MoE backends is closed. This plugin adds both, so that the checkpoint that a
GB10 serves also runs on a development machine.

The arithmetic is W4A16: weights are dequantized once, after loading, to the compute dtype and multiplied by
vLLM's own unquantized CPU kernels. Activations are not quantized, although the checkpoint's `quant_algo`
(NVFP4, W4A4) allows it: this is the more exact of the two readings, the one that the weight-only kernels on
GPUs take, and the one that a float32 reference can be held against. It costs 16 bits a weight in memory.

The way in is vLLM's two public registries, and nothing is monkey-patched:

- `register_linear_kernel` for linear layers;
- `register_quantization_config("modelopt_fp4")` for MoE layers, with a subclass of vLLM's own config that
  differs only in the class of its MoE method. The alternatives were wrapping the private
  `oracle.nvfp4.backend_to_kernel_cls`, which binds the plugin to a module's internals and to the emulation
  backend's scale handling, and a source patch, which the GPU's experts need and the CPU's do not.

Both act on the CPU platform only.
"""

from dgx_vllm.plugin.register import register

__all__ = ["register"]
