"""What to say to a command that does not exist."""

from collections.abc import Iterable

from dgx_vllm.checkpoints.checkpoint import looks_like_path
from dgx_vllm.profiles import profile
from dgx_vllm.vllm_flags import flags

# Words of ollama, llama.cpp, docker, systemd and vLLM itself, and what does the same here.
_ELSEWHERE = {
    "api": "serve",
    "ask": "chat",
    "bench": "bench-decode",
    "benchmark": "bench-decode",
    "check": "doctor",
    "complete": "chat",
    "del": "rm",
    "delete": "rm",
    "disable": "install-service --remove",
    "down": "stop",
    "enable": "install-service",
    "estimate": "plan",
    "fetch": "download",
    "generate": "chat",
    "get": "download",
    "info": "plan",
    "inspect": "plan",
    "install": "install-service",
    "journal": "logs",
    "kill": "stop",
    "launch": "serve",
    "log": "logs",
    "ls": "list",
    "memory": "plan",
    "models": "list",
    "prompt": "chat",
    "pull": "download",
    "recipes": "profiles",
    "remove": "rm",
    "repl": "chat",
    "running": "ps",
    "server": "serve",
    "servers": "ps",
    "service": "install-service",
    "show": "plan",
    "start": "serve",
    "tags": "list",
    "talk": "chat",
    "top": "ps",
    "uninstall": "install-service --remove",
    "up": "serve",
    "validate": "check-config",
}
# Where one command does not say it.
_SENTENCES = {
    "run": "`dgx-vllm serve MODEL` starts a server, `dgx-vllm chat` talks to it",
    "restart": "for a service: systemctl restart dgx-vllm-NAME; else `dgx-vllm stop`, then `dgx-vllm serve`",
    "update": "`nix run .#update` in the checkout changes the pins; to upgrade, build the command again",
    "upgrade": "build the command again, then `dgx-vllm install-service` with the same options",
}


def for_command(word: str, commands: Iterable[str]) -> str:
    """What somebody who typed `dgx-vllm WORD` may have meant; empty where nothing comes close.

    Args:
        word: what stands where a command should.
        commands: the names of the commands.
    """
    known = list(commands)
    plain = word.lower()
    if plain in _SENTENCES:
        return _SENTENCES[plain]
    if plain in _ELSEWHERE:
        return f"that is `dgx-vllm {_ELSEWHERE[plain]}` here"
    if profile.by_model(word) or "/" in word or looks_like_path(word):
        return f"to serve it: dgx-vllm serve {word}"
    close = [name for name in known if _close(plain.replace("_", "-"), name)]
    return f"did you mean {' or '.join(f'`dgx-vllm {name}`' for name in close)}?" if close else ""


def for_option(word: str) -> str:
    """What to say to an option in front of the command; empty where it is not a flag of `serve`."""
    flag = flags.load().get(word.partition("=")[0])
    return f"put it after the command: dgx-vllm serve {flag.names[0]}" if flag else ""


def _close(word: str, name: str) -> bool:
    """Whether `name` was meant: its beginning or one of its parts was given, or few letters differ."""
    if len(word) >= 3 and (name.startswith(word) or word in name.split("-")):
        return True
    return _distance(word, name) <= (1 if min(len(word), len(name)) <= 4 else 2)


def _distance(left: str, right: str) -> int:
    """How many letters to add, drop, replace or swap with their neighbour to turn one into the other."""
    rows = [list(range(len(right) + 1))]
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
