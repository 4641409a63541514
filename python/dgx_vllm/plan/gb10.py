"""GB10, as far as decode speed depends on it. None of this was measured by this project.

What is fitted is fitted to figures published for Qwen3-Next-80B-A3B-Instruct in NVFP4 on one GB10 (vLLM 0.16
with Marlin, 1024 tokens in and out). How well all of them are met: tests/plan/test_decode.py.
"""

#: Bytes per second of its LPDDR5X by the data sheet.
NOMINAL_BANDWIDTH = 273e9
#: Bytes per second that reading kernels reached on a GB10; reports lie between 231 and 234 GB/s.
READ_PEAK = 232e9

#: Operations per second of matrix products in BF16, a product and a sum counted as two. GEMMs on a GB10
#: reached 54 to 85 x 10^12 (blake-snc/sm121-kernels, Atlas); those of a step have few rows, hence the lower
#: end. Marlin multiplies quantized weights in BF16, too.
GEMM_RATE = 54e12

#: Decode at batch 1 without drafts, as published.
PUBLISHED_TOKENS_PER_SECOND = 42.0
#: What such a step reads: weights, KV cache in FP8 and recurrent state in BF16.
PUBLISHED_BYTES = 4249e6
PUBLISHED_LAYERS = 48

#: Seconds per layer and step besides reading at the peak: launches, sampling, kernels that stay below it.
#: One figure determines it: a calibration and no law; other models and newer kernels may need less.
OVERHEAD_PER_LAYER = (1 / PUBLISHED_TOKENS_PER_SECOND - PUBLISHED_BYTES / READ_PEAK) / PUBLISHED_LAYERS

#: Kernels, copies and fills of such a step with Marlin in vLLM 0.32, as `dgx-vllm bench-decode` counted them
#: on an H100 (kernels/results/decode-h100.json); the published system's own were not counted.
STOCK_LAUNCHES = 1250

#: The same overhead, if all of it came with launches: the other end of what is known of it.
OVERHEAD_PER_LAUNCH = OVERHEAD_PER_LAYER * PUBLISHED_LAYERS / STOCK_LAUNCHES

#: Tokens that one step yields with 1, 2 and 3 drafts of Qwen3-Next's MTP layer, as published.
PUBLISHED_ACCEPTANCE = {1: 1.84, 2: 2.42, 3: 2.76}

#: The part of the expert reads, which independent routing would add for further tokens, that is spared as
#: tokens pick alike. Fitted to published aggregates, 237 and 487 tokens/s at 8 and 32 streams with two
#: drafts; the 658 at 64 streams come out 12% too high.
SHARED_ROUTING = 0.35

#: Operations per second, products and sums apart, that prompts reach: of experts and of weights in BF16, and
#: of other layers in FP4 or FP8. Fitted to published prompts of 8K tokens of five models;
#: tests/plan/test_prefill.py says how well each is met.
PREFILL_RATE = 33e12
PREFILL_RATE_NARROW = 100e12
