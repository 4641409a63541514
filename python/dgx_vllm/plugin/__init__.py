"""What we put into vLLM.

| package | what vLLM gets |
|---|---|
| moe/ | decode kernels for NVFP4 experts on GPUs; the shared expert joins them (runner.py, shared_slot.py) |
| dense/ | decode kernels for NVFP4 linear layers (linear_backend.py); FP8 or NVFP4 for layers left in BF16 |
| draft_experts/ | a draft's BF16 experts, made NVFP4 for the experts above |
| cpu/ | NVFP4 layers on the CPU backend, and FP8 layers of mixed checkpoints (mixed.py) |
| hub_timeout.py | a time limit for what vLLM asks the hub without one |

Experts and linear kernel come in by entry points of their own. vLLM as we patch it asks them when
`--moe-backend dgx` or `--linear-backend dgx` is given; docs/dev/kernels.md says why. The other layers use
vLLM's registry for layers from outside. They are vLLM's own until a flag or `--dense-dtype` asks for them.
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
