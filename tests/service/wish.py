"""What `install-service` is asked for in the tests, and the machine that it is asked on."""

from dgx_vllm.host.machine import Machine, Vllm
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.service.command import Wish
from helpers.launching import FAKE

WISH = Wish(
    name="main",
    remove=False,
    user=False,
    dry_run=True,
    run_as=None,
    revision=None,
    host=None,
    port=None,
    config=None,
    environment_file=None,
    hf_token_file=None,
    cache_dir=None,
    options=Options(),
)
LAPTOP = Machine(
    vllm=Vllm(
        version="0.32.0",
        platform="cpu",
        package=FAKE / "vllm",
        has_command=False,
    ),
    gpus=(),
    memory=24 * 10**9,
    cpus=8,
    python="/env/bin/python",
)
