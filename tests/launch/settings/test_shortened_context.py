"""A profile's context on a memory that does not hold it: `serve` shortens it, as `profiles` says."""

from dataclasses import replace

import pytest

from dgx_vllm.host.machine import Machine
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.rendering.render import render
from dgx_vllm.launch.settings.memory_guard import Memory
from dgx_vllm.launch.settings.request import Request
from dgx_vllm.launch.settings.resolve import resolve
from dgx_vllm.plan import guard, model, profile_fit
from dgx_vllm.plan.guard import Subject
from dgx_vllm.profiles import profile
from dgx_vllm.profiles.profile import Profile
from dgx_vllm.profiles.sizes import model_sizes

GB = 10**9
SUPER = "nemotron-3-super-120b-a12b-nvfp4"
KNOWN = [known for known in profile.builtin() if model_sizes.by_model(known.model)]


def planned(machine: Machine, known: Profile, available: int, **flags: str) -> Launch:
    sizes = model_sizes.by_model(known.model)
    assert sizes is not None
    understood = model.published(known.model, sizes)
    request = Request(
        flags={"model": known.model, **{name.replace("_", "-"): word for name, word in flags.items()}},
        environ={},
        profile=known,
        memory=Memory(available, None, Subject(understood, known)),
    )
    return render(resolve(request, replace(machine, memory=available), frozenset()))


def shortened(machine: Machine, known: Profile) -> tuple[int, Launch]:
    """The least memory, in steps of 0.1 GB, on which a server starts."""
    amounts = (tenths * GB // 10 for tenths in range(900, 1300))
    launches = ((amount, planned(machine, known, amount)) for amount in amounts)
    return next((amount, launch) for amount, launch in launches if launch.refusal is None)


def test_a_profiles_context_is_shortened_to_what_the_memory_holds(spark: Machine) -> None:
    _, launch = shortened(spark, profile.by_name(SUPER))
    length = int(launch.settings["max-model-len"].text)
    assert 4096 <= length < 262144
    assert length % guard.LEAST_CONTEXT == 0
    note = f"memory: max-model-len is {length}, not 262144: the memory holds one sequence of that length"
    assert note in launch.notes


def test_a_users_context_is_refused_instead(spark: Machine) -> None:
    known = profile.by_name(SUPER)
    amount, _ = shortened(spark, known)
    launch = planned(spark, known, amount, max_model_len="262144")
    assert launch.refusal is not None
    assert "give --max-model-len" in launch.refusal


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_profiles_says_what_serve_does_on_every_memory(spark: Machine, known: Profile) -> None:
    """From 20 to 130 GB: fits or not, and the context."""
    seen = set()
    for amount in range(20, 131, 2):
        fit = profile_fit.of(known, amount * GB, "cuda")
        launch = planned(spark, known, amount * GB)
        assert fit.fits is (launch.refusal is None), (amount, launch.refusal)
        if fit.fits:
            assert fit.context == int(launch.settings["max-model-len"].text), amount
        seen.add(fit.fits)
    assert seen == {True, False}
