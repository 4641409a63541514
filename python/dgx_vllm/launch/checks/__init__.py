"""What only the machine can tell, checked before vLLM starts.

| file | what it holds |
|---|---|
| preflight.py | `check_start()`: all checks of a start in order |
| address_hold.py | the server's address: free, and kept for this server |
| sockets.py, descriptors.py | limits of the system for sockets and open files |
| certificates.py | TLS certificates, loaded once |
| loadable.py | whether the model on this machine is a checkpoint that vLLM can load |
| draft_pair.py | whether a draft model fits the model |
| needed_models.py | the models that a server needs, and whether they are downloaded |
| hub.py | whether the hub has the model |

`serve` calls these checks for a `Launch`. They refuse it, or let it pass.
"""
