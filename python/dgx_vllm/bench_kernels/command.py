"""`dgx-vllm bench-kernels`."""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dgx_vllm.bench_kernels import measurements, shapes
from dgx_vllm.bench_kernels.implementation import Implementation, Unavailable
from dgx_vllm.bench_kernels.measurements import Row, Timed
from dgx_vllm.host import driver
from dgx_vllm.kernels import NoLibraryError, library
from dgx_vllm.kernels.limits import MAX_TOKENS
from dgx_vllm.util import output_files
from dgx_vllm.util.errors import FAILURE, UserError
from dgx_vllm.util.messages import say

PEERS = ("Marlin", "Humming")


def bench_kernels(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    named: str | None,
    tokens: str,
    peers: str,
    file: Path | None,
) -> None:
    """Measures, prints a table, and writes the rows.

    Args:
        arguments: the command's, for the file's head.
        environ: the process's environment.
        named: shapes, `shapes.parse` takes them; all by default.
        tokens: numbers from 1 to 16, comma-separated.
        peers: some of marlin and humming, comma-separated, or none.
        file: where to write the rows as JSON.

    Raises:
        UserError: anything that the user must fix.
    """
    measured_shapes = list(shapes.SHAPES.values()) if named is None else shapes.parse(named)
    counts, beside = _counts(tokens), _peers(peers)
    if file:
        output_files.check_file(file, "--json")
    try:
        library.find()
        library.find("bounds")
    except NoLibraryError as error:
        raise UserError(
            f"bench-kernels: {error}; the build for a GB10 includes it, or set {library.VARIABLE} to another",
            FAILURE,
        ) from error
    driver.enter(environ)
    head = {
        "date": datetime.date.today().isoformat(),
        "device": _device(),
        "command": output_files.typed(arguments, file),
    }

    def keep(read_gbps: float, rows: list[Row]) -> None:
        if file:
            measurements.write(file, {**head, "read_gbps": round(read_gbps)}, rows)

    read_gbps, rows = _measure(measured_shapes, counts, beside, keep)
    from dgx_vllm.bench_kernels import report

    report.show(rows, head["device"], read_gbps)


def _counts(text: str) -> list[int]:
    counts = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= count <= MAX_TOKENS for count in counts):
        raise UserError(f"--tokens takes numbers from 1 to {MAX_TOKENS}, such as 1,2,4, not {text!r}")
    return sorted(set(counts))


def _peers(text: str) -> list[str]:
    if text.strip() == "none":
        return []
    names = {peer.lower(): peer for peer in PEERS}
    requested = [part.strip().lower() for part in text.split(",")]
    if unknown := [name for name in requested if name not in names]:
        raise UserError(f"--peers takes {', '.join(names)} or none, not {unknown[0] or 'nothing'}")
    return [names[name] for name in names if name in requested]


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "bench-kernels needs an NVIDIA GPU, and PyTorch finds none; `dgx-vllm doctor` says why", FAILURE
        )
    return str(torch.cuda.get_device_name())


def _measure(
    chosen: Sequence[shapes.Shape],
    counts: Sequence[int],
    peers: Sequence[str],
    keep: Callable[[float, list[Row]], None],
) -> tuple[float, list[Row]]:
    """The streaming read in GB/s, and the rows.

    Peers come last, one after another, and `keep` gets what there is before each: one of them may break the
    GPU's context, or end the process.
    """
    from dgx_vllm.bench_kernels import bounds, linear, moe
    from dgx_vllm.bench_kernels.bounds import BytesOnly
    from dgx_vllm.bench_kernels.linear import LinearDecode, MarlinProduct
    from dgx_vllm.bench_kernels.moe_decode import MoeDecode
    from dgx_vllm.bench_kernels.moe_decode_24 import MoeDecode24

    kernels, limits = library.load(), library.load("bounds")
    layers = [shape for shape in chosen if isinstance(shape, shapes.Moe)]
    projections = [shape for shape in chosen if isinstance(shape, shapes.Linear)]
    timed: list[Timed] = []
    try:
        read_gbps = bounds.streaming_read(limits)
        for implementation in (BytesOnly(limits), MoeDecode(kernels), MoeDecode24(kernels)):
            for layer in layers:
                timed += moe.measure(implementation, layer, counts, read_gbps, _say)
        for projection in projections:
            timed += linear.measure(LinearDecode(kernels), projection, counts, read_gbps, _say)
    except (RuntimeError, moe.WrongError) as error:
        raise UserError(f"bench-kernels: {_first_line(error)}", FAILURE) from error
    keep(read_gbps, measurements.compare(timed, PEERS))
    for peer in filter(None, map(_peer, peers)):
        for layer in layers:
            _beside(f"{peer.name} on {layer.name}", timed, moe.measure(peer, layer, counts, read_gbps, _say))
        for projection in projections if peer.name == MarlinProduct.name else ():
            measured = linear.measure(MarlinProduct(), projection, counts, read_gbps, _say)
            _beside(f"{peer.name} on {projection.name}", timed, measured)
        keep(read_gbps, measurements.compare(timed, PEERS))
    return read_gbps, measurements.compare(timed, PEERS)


def _say(row: Row) -> None:
    from dgx_vllm.bench_kernels.report import line

    print(line(row), flush=True)


def _beside(subject: str, timed: list[Timed], measured: Iterator[Timed]) -> None:
    """Adds what a peer gives until it fails, if it does, which is said: ours is worth having without it."""
    try:
        for entry in measured:
            timed.append(entry)
    except Exception as error:
        _left_out(subject, error)


def _peer(name: str) -> Implementation | None:
    """None where it is not here, which is said."""
    from dgx_vllm.bench_kernels.humming import Humming
    from dgx_vllm.bench_kernels.marlin import Marlin

    makers: dict[str, Callable[[], Implementation]] = {"Marlin": Marlin, "Humming": Humming}
    try:
        return makers[name]()
    except Unavailable as error:
        _left_out(name, error)
        return None


def _left_out(subject: str, error: Exception) -> None:
    say(f"{subject} is skipped: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
