"""From flags, environment and profile to a running vLLM server.

| package | what it does |
|---|---|
| settings | ranks and resolves flags, environment and profile, without looking at the machine |
| rendering | makes the command and the environment from the resolved settings |
| checks | asks the machine before vLLM starts |
| process | starts vLLM, watches it, tells when it answers and why it died |

`serve` runs these stages in order; `report` and `as_json` show what they decided.
"""
