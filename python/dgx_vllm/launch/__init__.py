"""From flags, environment and profile to a running vLLM server.

Data flows one way: `flags` reads words, `settings` ranks them, `command` turns them into what to run,
`preflight` looks at the machine, `server` runs it, `readiness` tells when it answers, `log` why it died.
"""
