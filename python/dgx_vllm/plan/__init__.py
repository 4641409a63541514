"""From a model's config.json to bytes, and from bytes to what fits and how fast it decodes.

Data flows one way:

| step | modules |
|---|---|
| find the config | `source` |
| name its tensors and their shapes | `families`, `layer_shapes` |
| give each tensor its precision | `quantization` |
| sum the bytes, or read them from the files' headers | `weights` |
| all of that in one object | `model` |
| what a sequence keeps; what fits; how fast it may decode | `cache`, `budget`, `decode_speed` |
| the whole plan; how it is shown | `outlook`; `report`, `chart` |
| who asks for it | `command` (`dgx-vllm plan`), `guard` (the launcher) |

`gb10` and `overheads` hold every constant, with its source.
"""
