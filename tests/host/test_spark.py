"""Which Spark: by its label, and by how much memory the kernel reports."""

import pytest

from dgx_vllm.host import spark
from dgx_vllm.host.machine import GIB
from dgx_vllm.util import amounts

# MemTotal in kB, as published in reports of Sparks with 128 GB.
REPORTED = [125_511_740, 125_513_944, 127_600_524, 127_600_816, 127_601_452, 127_608_704]
# What a Spark with 64 GB may report, in GiB; none has been published.
INFERRED = [55.7, 57.7, 58.7, 59.8, 60.8]


def test_there_are_two_sizes() -> None:
    assert [size.label for size in spark.sizes()] == ["128 GB", "64 GB"]
    assert (spark.large(), spark.small()) == spark.sizes()


def test_a_size_says_how_much_is_visible_and_whether_that_is_inferred() -> None:
    assert [str(size) for size in spark.sizes()] == [
        "a Spark of 128 GB, of which 119.7 GiB are visible",
        "a Spark of 64 GB, of which about 55.7 GiB are visible; inferred, not measured",
    ]


def test_128_gb_are_what_a_spark_reported() -> None:
    assert spark.large().visible == 125_513_944 * 1024
    assert not spark.large().inferred


def test_64_gb_lack_as_much_as_the_large_one_does() -> None:
    assert 64 * GIB - spark.small().visible == 128 * GIB - spark.large().visible
    assert spark.small().inferred


@pytest.mark.parametrize("kilobytes", REPORTED)
def test_a_reported_total_is_that_of_a_large_spark(kilobytes: int) -> None:
    assert spark.of(kilobytes * 1024) == spark.large()


@pytest.mark.parametrize("gib", INFERRED)
def test_every_inferred_total_is_that_of_a_small_spark(gib: float) -> None:
    assert spark.of(int(gib * GIB)) == spark.small()


def test_sizes_part_at_the_threshold() -> None:
    assert spark.THRESHOLD == 80 * GIB
    assert spark.of(spark.THRESHOLD - 1) == spark.small()
    assert spark.of(spark.THRESHOLD) == spark.large()
    assert [spark.of(size.visible) for size in spark.sizes()] == list(spark.sizes())


@pytest.mark.parametrize("unit", ["GB", "Gb", "gB", "gb", "G", "g"])
@pytest.mark.parametrize("space", ["", " ", "  "])
def test_only_64_and_128_are_labels(space: str, unit: str) -> None:
    for gb in range(1, 300):
        text = f"{gb}{space}{unit}"
        assert amounts.parse(text, "--memory") == gb * 10**9
        assert spark.labelled(text) == {64: spark.small(), 128: spark.large()}.get(gb)


@pytest.mark.parametrize(
    "text",
    ["64GiB", "128GiB", "64Gi", "64MB", "64TB", "64", "128", "64.0GB", "64000000000", "", "GB", "64 GBs"],
)
def test_any_other_text_is_no_label(text: str) -> None:
    assert spark.labelled(text) is None
