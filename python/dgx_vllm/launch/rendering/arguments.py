"""Arguments: the server's command, from the settings that count."""

from collections.abc import Sequence

from dgx_vllm.admission.names import HEARTBEAT
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.settings.ranking import Layer, Setting, Source

# In front of vLLM's API, outside of what the user may name with the same flag.
_MIDDLEWARE = "dgx_vllm.admission.Admission"
_UNLOGGED = "disable-access-log-for-endpoints"


def argv(settings: Layer, machine: Machine) -> tuple[str, ...]:
    """The command's words.

    Args:
        settings: every setting that counts, by name.
        machine: what it runs on.
    """
    # -P keeps the current directory off the module path, where a stray vllm/ or test.py would be imported.
    python = [machine.python, "-P", "-m"]
    model = settings["model"].text
    if machine.vllm.has_command:
        head = [*python, "vllm.entrypoints.cli.main", "serve", model]
    else:
        head = [*python, "vllm.entrypoints.launchers.api_server.entry", "--model", model]
    tail = [
        word
        for name, setting in sorted(settings.items())
        if name not in ("model", _UNLOGGED) and not _left_to_config_file(setting, machine)
        for word in setting.words
    ]
    return (*head, *tail, *_unlogged_endpoints(settings), "--middleware", _MIDDLEWARE)


def _left_to_config_file(setting: Setting, machine: Machine) -> bool:
    """Whether vLLM takes the setting from the file of --config.

    `vllm serve` 0.32.0 ignores `false` there: the remedy for vllm#51401 reaches the module's parser alone.
    So the command says it once more.
    """
    return setting.source is Source.CONFIG_FILE and not (machine.vllm.has_command and setting.value is False)


def _unlogged_endpoints(settings: Layer) -> Sequence[str]:
    """Keeps the heartbeat, every few seconds, out of the access log."""
    setting = settings.get(_UNLOGGED)
    if setting and setting.source is Source.CONFIG_FILE:
        return ()  # one of the two would count, and it is the user's
    return (f"--{_UNLOGGED}", ",".join([*([setting.text] if setting else []), HEARTBEAT]))
