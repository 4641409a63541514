"""`dgx-vllm doctor`: whether this machine can serve, how well, and what to fix.

Data flows one way. A `Place` says where to look. One module for each area looks, and returns `Finding`s.
`examination` gathers them, and `report` prints them. Only `selection` imports torch and vLLM; it runs in a
process of its own, on request.

The JSON of `--json` is one object:

    schema    int, 1. It grows when a field goes away or changes its meaning, not when one is added.
    serves    bool, whether no finding failed. The exit status is 0 if so, else 1.
    gpu       bool, whether the driver shows a GPU.
    versions  object: `dgx-vllm`, `vllm`, `python`; null if it is not installed.
    findings  array of objects:
        area     str: gpu, kernels, backends, memory, clocks, storage, network, settings, history
        subject  str, what was examined; together with the area it names the finding
        status   str: ok; warn, it serves worse than it could; fail, it cannot serve; unknown, not visible
        value    str, what was seen, in words
        remedy   str or null; never null unless the status is ok
        data     object, what was seen, for programs: sizes in bytes, clocks in MHz, power in W,
                 temperatures in degrees Celsius
"""
