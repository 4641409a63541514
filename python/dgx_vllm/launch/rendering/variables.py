"""Variables: how the server's environment differs from the launcher's."""

import os

from dgx_vllm.admission.names import OPEN_METRICS, SHED
from dgx_vllm.host import driver
from dgx_vllm.launch.rendering.launch import Variable
from dgx_vllm.launch.settings import environment, python_imports
from dgx_vllm.launch.settings.resolved import Resolved

# Flags that spread a server over several machines.
_OTHER_MACHINES = (
    "nnodes",
    "headless",
    "distributed-executor-backend",
    "data-parallel-address",
    "data-parallel-backend",
    "kv-transfer-config",
    "ec-transfer-config",
)


def changes(resolved: Resolved) -> tuple[Variable, ...]:
    """The variables that are set or taken away, each with the reason."""
    request, machine, settings = resolved.request, resolved.machine, resolved.settings
    environ = request.environ
    variables: dict[str, Variable] = {}

    def put(name: str, value: str | None, why: str) -> None:
        variables[name] = Variable(name, value, why)

    # A server for one's own machine has no reason to report home; either spelling of consent keeps it on.
    if not {"VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"} & set(environ):
        put("VLLM_NO_USAGE_STATS", "1", "default")
    # Downloads through hf-xet are known to stall without an error, and leave no part that can be resumed.
    if "HF_HUB_DISABLE_XET" not in environ:
        put("HF_HUB_DISABLE_XET", "1", "default")
    # vLLM's processes talk to each other over the first outward address otherwise: open to the network, and
    # missing on a machine without one.
    if not any(name in settings for name in _OTHER_MACHINES):
        for name, value in (("VLLM_HOST_IP", "127.0.0.1"), ("GLOO_SOCKET_IFNAME", "lo")):
            if name not in environ:
                put(name, value, "default for one machine")
    if resolved.compile_jobs and "MAX_JOBS" not in environ:
        count, why = resolved.compile_jobs
        put("MAX_JOBS", str(count), why)
    if request.protection.shed:
        put(SHED, str(request.protection.shed), "refuses new requests below this much available memory")
    if request.python_path:
        paths = filter(None, (request.python_path, environ.get("PYTHONPATH")))
        put("PYTHONPATH", os.pathsep.join(paths), python_imports.OPTION)
    if request.options.open_metrics:
        put(OPEN_METRICS, "1", "--open-metrics")
    if machine.driver:
        for name, value in driver.variables(machine.driver, environ).items():
            put(name, value, "the driver's libraries")
    if request.profile:
        for name, value in sorted(request.profile.variables(machine.platform).items()):
            if name not in environ:
                put(name, value, f"profile {request.profile.name}")
    # vLLM would warn about the launcher's own variable, and its CPU one would beat the flag in the command.
    if environment.EXTRA_ARGS in environ:
        put(environment.EXTRA_ARGS, None, "its flags are in the command")
    if machine.platform == "cpu" and environment.CPU_KV_CACHE in environ:
        put(environment.CPU_KV_CACHE, None, "--kv-cache-memory-bytes in the command takes its place")
    strict = settings.get("fail-on-environ-validation")
    if strict and strict.value is True:
        for name in resolved.unread_links:
            put(name, None, f"{strict.origin} would stop at it")
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        if name in environ:
            put(name, None, "the launcher speaks to the service manager")
    return tuple(variables.values())
