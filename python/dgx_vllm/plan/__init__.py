"""From a model's config.json to bytes, and from bytes to what fits and how fast it decodes.

Data flows one way: `source` finds the config, `families` names its tensors by `layers`, `quantization` gives
each its precision, `weights` sums them by `parts` or takes them from `headers`; `model` is all of that.
`cache` holds what a sequence keeps, `memory` says what fits, `decode` how fast it may go; `gb10` and
`overheads` hold every constant with its source. `outlook` is the whole plan, `report` and `chart` show it,
`command` is `dgx-vllm plan`, `guard` is the launcher's.
"""
