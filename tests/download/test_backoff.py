"""The schedule of attempts."""

from hypothesis import given
from hypothesis import strategies as st

from dgx_vllm.download.backoff import ATTEMPTS, FIRST, LONGEST, Patience, delay


def test_the_schedule_as_promised() -> None:
    assert [delay(failures) for failures in range(1, 10)] == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@given(st.integers(1, 10**9))
def test_waits_grow_and_are_bounded(failures: int) -> None:
    assert FIRST <= delay(failures) <= delay(failures + 1) <= LONGEST
    assert delay(failures + 1) in (2 * delay(failures), LONGEST)


@given(st.lists(st.booleans(), max_size=60))
def test_it_gives_up_after_ten_in_a_row_without_a_byte_and_never_before(attempts: list[bool]) -> None:
    patience = Patience()
    fruitless = 0
    for progressed in attempts:
        fruitless = 0 if progressed else fruitless + 1
        wait = patience.after(progressed)
        assert (wait is None) == (fruitless >= ATTEMPTS)
        if wait is None:
            return
        assert wait == (FIRST if progressed else delay(fruitless))


def test_a_success_starts_the_count_again() -> None:
    patience = Patience()
    for _ in range(ATTEMPTS - 1):
        patience.after(False)
    patience.restore()
    assert patience.after(False) == FIRST
