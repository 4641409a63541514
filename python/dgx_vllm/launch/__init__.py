"""From flags, environment and profile to a running vLLM server.

| file | what it holds |
|---|---|
| serve.py | `dgx-vllm serve`: the stages in order |
| settings/ | which settings count, from flags, files, environment and profile |
| rendering/ | the command and its environment, from those settings |
| endpoint.py | where the server answers, and a request that shows it at work |
| checks/ | what only the machine can tell, before vLLM starts |
| process/ | the running server: started, watched, registered, stopped |
| report.py | the dry run, the profiles and what fits this machine, for people |
| as_json.py | the same for programs |

Data flows one way: `vllm_flags` reads the command line, `settings` resolves what counts, `rendering` makes a
`Launch` of it, `checks` asks the machine whether it can run, and `process` runs it.
"""
