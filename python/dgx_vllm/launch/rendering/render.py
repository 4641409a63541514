"""Rendering: a pure function from the settings that count to the command that is run."""

from dgx_vllm.launch.rendering import arguments, variables
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings.resolved import Resolved


def render(resolved: Resolved) -> Launch:
    """The command, its environment, and what there is to say of them."""
    return Launch(
        argv=arguments.argv(resolved.settings, resolved.machine),
        variables=variables.changes(resolved),
        settings=resolved.settings,
        overruled=resolved.overruled,
        notes=resolved.notes,
        profile=resolved.request.profile,
        refusal=resolved.refusal,
        protection=resolved.request.protection,
        options=resolved.request.options,
        speculator=resolved.request.speculator,
    )
