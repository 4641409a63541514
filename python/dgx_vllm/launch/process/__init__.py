"""The running server: started, watched, registered, stopped.

| file | what it holds |
|---|---|
| server.py | `Server`: the process, from its start to its exit status |
| log_relay.py, kept_log.py | its log: passed on, searched for the cause of a crash, and kept for `logs` |
| readiness.py | whether the server has generated a token |
| watchdog.py, memory_floor.py | the engine's heartbeat, and the memory below which the server is stopped |
| control_client.py | the socket for the launcher of a server that asks for client certificates |
| progress.py, notify.py | messages for the user, for systemd and for scripts that wait |
| registry.py, registration.py | the files by which `ps` and other commands find servers |
| good_starts.py | the machine at the last good start, and what has changed since |
| draft_statistics.py | how many draft tokens were accepted |

`server` starts the process and asks the others: `log_relay` reads its output, `readiness` and the watchers
look at it, and `progress`, `notify` and `registration` tell others.
"""
