"""From a model's config.json to bytes, and from bytes to what fits and how fast it decodes.

| file | what it holds |
|---|---|
| source.py | a model's config, from a directory, a file, the Hugging Face cache or the hub |
| defaults.py | fields that a config.json leaves to its class |
| draft_shapes.py | a drafting checkpoint's config.json to its tensors |
| families.py, nemotron_h.py, generic.py | the tensors and states of known families, and of others |
| architecture.py, layer_shapes.py, vision.py | the shapes of a model, of one layer, of a vision tower |
| quantization.py, precision.py, dtypes.py | the precision of each matrix, its bytes, the compute dtype |
| weights.py | parameters and bytes by role and precision |
| model.py | `Model`: all of the above for one model |
| cache.py | what the KV cache keeps of a sequence |
| overheads.py, gb10.py | constants of memory and of speed, each with its source |
| budget.py | the memory left for the KV cache, and what fits into it |
| decode_speed.py | tokens per second, from the bytes of a step |
| drafter.py | `Drafter`: what makes the drafts: MTP layers, or a second checkpoint |
| draft_limits.py, acceptance.py | how many tokens may be drafted, and how many are accepted |
| outlook.py | `Outlook`: the whole plan |
| report.py, chart.py | the plan as tables, JSON and pictures |
| command.py | `dgx-vllm plan` |
| guard.py | the same arithmetic for the launcher's memory guard |

Data flows one way: `source` finds the config, `families` names the tensors, `quantization` gives each its
precision, `weights` sums them, `model` holds the result. `cache`, `budget` and `decode_speed` compute from
it, `outlook` puts them together, `report` and `chart` show the plan. `guard` asks the same code for `launch`.
"""
