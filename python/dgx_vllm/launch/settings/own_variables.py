"""Variables: all that `serve` asks of an environment by itself, whatever else is known."""

from collections.abc import Mapping

from dgx_vllm.host.machine import Vllm
from dgx_vllm.hub import import_environment
from dgx_vllm.launch.settings import environment, secret, sources


def check(environ: Mapping[str, str], vllm: Vllm) -> None:
    """Refuses variables that `serve` would refuse.

    Args:
        environ: the variables that are set.
        vllm: the one that is installed.

    Raises:
        UserError: whatever is the user's to change.
    """
    environment.check(environ, environment.known(vllm.package), vllm.version)
    sources.extra_args(environ)
    for name, value in environment.given(environ).items():
        if name in environment.SETTINGS:
            environment.check_own(name, value.strip())
    secret.check_api_keys(environ, None)
    import_environment.check(environ)
    environment.check_values(environ, vllm.package, vllm.version)
