"""Descriptors: how many files and sockets the server may have open (`ulimit -n`)."""

import resource

from dgx_vllm.util.errors import FAILURE, UserError

#: What vLLM itself asks for, without saying so where it gets less.
WANTED = 65535
#: An engine of the CPU build held 81 at most in its start, and came up with 96. A GPU's driver, compilers and
#: clients come on top. With 64 gloo fails, a minute after the start.
LEAST = 256


def ensure() -> None:
    """Raises this process's limit, which the server inherits, as far as it may be.

    Raises:
        UserError: the hard limit is too low for any engine.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if most < LEAST:
        raise UserError(
            f"this process may have {most} files open (ulimit -n), and vLLM needs at least {LEAST}; raise "
            "the hard limit, by `ulimit -Hn`, LimitNOFILE= or the container's --ulimit nofile",
            FAILURE,
        )
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
