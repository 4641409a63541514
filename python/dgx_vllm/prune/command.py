"""`dgx-vllm prune`: from words to a pruned checkpoint."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from dgx_vllm import __version__
from dgx_vllm.checkpoints import sparsity
from dgx_vllm.checkpoints.sparsity import Sparsity
from dgx_vllm.formats.nvfp4.sparsity_pattern import PATTERNS
from dgx_vllm.host import disk_space
from dgx_vllm.prune import blocks, shard
from dgx_vllm.prune.blocks import Block
from dgx_vllm.prune.calibration import Calibration
from dgx_vllm.prune.destination import Destination, Record
from dgx_vllm.prune.method import ACTIVATION, MAGNITUDE, Method
from dgx_vllm.prune.source import Source
from dgx_vllm.util import progress_bar, sigterm
from dgx_vllm.util.amounts import gb
from dgx_vllm.util.errors import UserError
from dgx_vllm.util.messages import say

#: They say how the weights are stored, and are written when the weights are.
_LAST = ("hf_quant_config.json", "config.json")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_PURPOSE = disk_space.Purpose("pruned", "OUT")
_STOPPED = "dgx-vllm: stopped by SIGTERM; complete files are kept, and the same command resumes from there"


def prune(
    model: str,
    out: Path,
    environ: Mapping[str, str],
    *,
    method: str,
    pattern: str,
    calibration: Path | None,
    shared: bool,
) -> None:
    """Writes a pruned checkpoint, or what is missing of one.

    Args:
        model: a directory, a profile's name or a Hugging Face id in the cache.
        out: the directory to write.
        environ: the process's environment.
        method: `magnitude` or `activation`.
        pattern: `2:4` or `4:8-pairs`.
        calibration: a file of `dgx-vllm calibrate`, for `activation`.
        shared: whether shared experts are pruned too.

    Raises:
        UserError: anything that the user must fix.
    """
    _check_words(method, pattern, calibration)
    source = Source(model, environ)
    if source.sparsity:
        raise UserError(
            f"{model} is pruned to {source.sparsity.pattern} already; give the unpruned checkpoint"
        )
    _check_place(source.directory, out)
    selected = blocks.find(model, source.tensors, shared)
    targets = (sparsity.ROUTED, *((sparsity.SHARED,) if any(b.indices == (None,) for b in selected) else ()))
    inputs = Calibration(calibration) if calibration else None
    files = _files(source)
    record = Record(
        method=method,
        pattern=pattern,
        targets=targets,
        calibration=_digest(calibration) if calibration else None,
        files={name: (path.stat().st_size, path.stat().st_mtime_ns) for name, path in files.items()},
        version=__version__,
    )
    destination = Destination(out, record)
    if destination.finished:
        print(f"dgx-vllm: {out} is finished: {model}, {pattern} by {method}")
        return
    missing = {name: path for name, path in files.items() if not destination.has(name)}
    size = sum(path.stat().st_size for path in files.values())
    needed = sum(path.stat().st_size for path in missing.values())
    disk_space.check(out, needed, f"pruning {model}", _PURPOSE.place, disk_space.MARGIN)
    try:
        with (
            sigterm.on_sigterm(_STOPPED),
            destination.locked(),
            progress_bar.shown(size, size - needed, f"{model}, {pattern}") as tell,
        ):
            way = Method(method, PATTERNS[pattern], source, inputs)
            for name, path in missing.items():
                if path in source.shards:
                    shard.write(path, source.shards[path], selected, way, destination, tell)
                elif name not in _LAST:
                    destination.copy(path, name)
                    tell(path.stat().st_size)
            _describe(source, destination, Sparsity(pattern, targets, method))
    except OSError as error:
        raise disk_space.fault(error, out, model, _PURPOSE) from error
    print(f"dgx-vllm: {out} is written: {gb(size)}, {_summary(selected)} {pattern} by {method}")


def _check_words(method: str, pattern: str, calibration: Path | None) -> None:
    if method not in (MAGNITUDE, ACTIVATION):
        raise UserError(f"--method {method!r} is unknown; choose {MAGNITUDE} or {ACTIVATION}")
    if pattern not in PATTERNS:
        raise UserError(f"--pattern {pattern!r} is unknown; choose one of {', '.join(PATTERNS)}")
    if calibration and method != ACTIVATION:
        raise UserError("--calibration is for --method activation; leave one of them out")


def _check_place(directory: Path, out: Path) -> None:
    """Neither may lie in the other: what is in the checkpoint's directory is copied, OUT's own parts too."""
    place, to = directory.resolve(), out.resolve()
    if to.is_relative_to(place):
        raise UserError(f"OUT is the checkpoint itself or in it; give an OUT outside of {directory}")
    if place.is_relative_to(to):
        raise UserError(f"the checkpoint {directory} lies in OUT; give a separate OUT")


def _files(source: Source) -> dict[str, Path]:
    """What must be written, by its name in the destination: the shards first, config.json last."""
    shards = {path.name: path for path in source.shards}
    others: dict[str, Path] = {}
    for path in sorted(source.directory.rglob("*")):
        name = path.relative_to(source.directory)
        hidden = any(part.startswith(".") for part in name.parts)
        if not path.is_file() or hidden or str(name) in shards:
            continue
        if path.suffix in _WEIGHTS:
            say(f"{name} is left out: it holds weights that are not the checkpoint's own")
            continue
        others[str(name)] = path
    last = {name: others.pop(name) for name in _LAST if name in others}
    return {**shards, **others, **last}


def _describe(source: Source, destination: Destination, declaration: Sparsity) -> None:
    config = copy.deepcopy(dict(source.config))
    beside = copy.deepcopy(dict(source.beside)) if source.beside is not None else None
    sparsity.declare(declaration, config, beside)
    if beside is not None:
        destination.json(_LAST[0], beside)
    destination.json(_LAST[1], config)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _summary(selected: Sequence[Block]) -> str:
    routed = [block for block in selected if block.indices != (None,)]
    experts = sum(len(block.indices) for block in routed)
    shared = f" and {len(selected) - len(routed)} shared" if len(selected) > len(routed) else ""
    return f"{experts} experts in {len(routed)} layers{shared}"
