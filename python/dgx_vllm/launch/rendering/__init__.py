"""From resolved settings to what is run.

| file | what it holds |
|---|---|
| launch.py | `Launch`: command, environment, and the shell line that shows them |
| render.py | `render()`: a `Launch` from resolved settings |
| arguments.py | the server's command |
| variables.py | the environment variables that are set or taken away |

Data flows one way: `render` takes settings from `..settings`, asks `arguments` and `variables`, and makes a
`launch`. Nothing here looks at the machine.
"""
