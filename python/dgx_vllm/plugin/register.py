"""The entry point of the group `vllm.general_plugins`."""

_registered = False


def register() -> None:
    """Give vLLM bounds for what it asks the hub, layers for `--dense-dtype`, runners and drafts' experts for
    `--moe-backend dgx` and, on its CPU backend, NVFP4.

    vLLM calls this once in every process that it starts, possibly more than once: later calls do nothing.
    """
    global _registered
    if _registered:
        return
    _registered = True

    from vllm.platforms import current_platform

    from dgx_vllm.plugin import hub_timeout
    from dgx_vllm.plugin.dense import dense_layers
    from dgx_vllm.plugin.draft_experts import offer
    from dgx_vllm.plugin.moe import runner

    hub_timeout.register()
    dense_layers.register()
    runner.register()
    offer.register()
    if current_platform.is_cpu():
        _register_nvfp4()


def _register_nvfp4() -> None:
    from vllm.model_executor.kernels.linear import register_linear_kernel
    from vllm.model_executor.layers.quantization import register_quantization_config
    from vllm.platforms import PlatformEnum

    from dgx_vllm.plugin.cpu.linear import CpuNvFp4LinearKernel
    from dgx_vllm.plugin.cpu.mixed import CpuModelOptMixedConfig
    from dgx_vllm.plugin.cpu.moe import CpuModelOptNvFp4Config
    from dgx_vllm.plugin.log import logger

    register_linear_kernel(CpuNvFp4LinearKernel, PlatformEnum.CPU, "nvfp4")
    register_quantization_config("modelopt_fp4")(CpuModelOptNvFp4Config)
    register_quantization_config("modelopt_mixed")(CpuModelOptMixedConfig)
    logger.info(
        "dgx-vllm: registered NVFP4 linear and MoE layers for the CPU "
        "(weights are dequantized, activations not quantized)"
    )
