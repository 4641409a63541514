"""From flags, files, environment and profile to the settings that count, without looking at the machine.

| file | what it holds |
|---|---|
| request.py | `Request`: what the user asked for, and what the model's files say |
| sources.py | the settings of each source: flags, environment, profile, defaults |
| config_file.py | the settings of the file that `--config` names |
| environment.py | the launcher's variables, and variables that vLLM would ignore |
| variable_readers.py | variables whose values vLLM cannot read |
| service_links.py | variables that Kubernetes and Docker set for a service called vllm |
| own_variables.py | every check of an environment that needs nothing else |
| ranking.py | `Setting`, `Source`, and which of several sources counts |
| conflicts.py | settings of different names for the same thing |
| additional_config.py | the dense dtype, as `--dense-dtype`, a profile or `--additional-config` gives it |
| speculation.py | drafts: how many, which model makes them, and what does not go with them |
| limits.py | values and combinations that cannot work |
| unified_memory.py | what does not work where GPU and host share one memory |
| exposure.py | a warning for a server that anybody can reach |
| secret.py | API keys in files, and flags that are never printed |
| memory_guard.py | the size of the KV cache, or a refusal |
| resolve.py, resolved.py | `resolve()`, which does all of the above in order, and its result |
| protection.py | when a running server refuses work, and when it is stopped |
| path_flags.py, python_imports.py | flags that name files, repositories or Python modules |
| option_table.py, options.py, generate_options.py | the launcher's own options, from options.toml |

Data flows one way: the sources are read, `ranking` picks one setting for each name, `conflicts` and
`speculation` settle what is left, `limits` refuses what cannot work, `memory_guard` sizes the KV cache, and
`resolve` returns a `Resolved` for `..rendering`.
"""
