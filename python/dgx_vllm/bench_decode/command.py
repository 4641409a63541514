"""`dgx-vllm bench-decode`: variants one after the other, each in a process of its own."""

import contextlib
import datetime
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dgx_vllm.bench_decode import model_configs, report, trace
from dgx_vllm.bench_decode.job import Answer, Job
from dgx_vllm.bench_decode.result import Measured, Result
from dgx_vllm.bench_decode.variant import Variant, chosen
from dgx_vllm.host import driver, machine
from dgx_vllm.host.machine import Machine
from dgx_vllm.launch import serve
from dgx_vllm.launch.checks import preflight
from dgx_vllm.launch.rendering.launch import Launch
from dgx_vllm.launch.settings import option_table
from dgx_vllm.launch.settings.options import Options
from dgx_vllm.util import output_files, signals
from dgx_vllm.util.errors import FAILURE, INTERRUPTED, UserError
from dgx_vllm.util.messages import say
from dgx_vllm.vllm_flags import flags

#: What the profiler's run generates.
_PROFILED = 160
# What stands in a launch's command in front of the server's own words.
_HEAD = 4
_SAID = 300
_INTERRUPTED = "interrupted"
# What `serve` does not pass to vLLM.
_SERVES_OWN = {option.flag for option in option_table.load()}


@dataclass(frozen=True)
class Request:
    """What to measure.

    Args:
        model: as for `serve`; with `dummy` the name of a shape as well.
        words: vLLM's flags, for all variants.
        variants: as they were given.
        sequences: such as "1,4,8".
        prompt, tokens, repeats: see `Job`.
        dummy: random weights.
        layers: of a shape, fewer than the model has.
        timeout: seconds that one variant may take.
        json: the file to write the result to.
        logs: a directory for each variant's log and traces.
        arguments: the command's, for the result's head.
    """

    model: str
    words: Sequence[str] = ()
    variants: Sequence[str] = ()
    sequences: str = "1,4,8"
    prompt: int = 128
    tokens: int = 256
    repeats: int = 3
    dummy: bool = False
    layers: int | None = None
    timeout: float | None = None
    json: Path | None = None
    logs: Path | None = None
    arguments: Sequence[str] = ()


def bench(request: Request, environ: Mapping[str, str]) -> int:
    """Measures and prints.

    Returns:
        The exit status: 0 if every variant came to its end, 130 after Ctrl-C, SIGTERM or SIGHUP, which leave
        what was measured.

    Raises:
        UserError: anything that the user must fix.
    """
    host = machine.detect()
    variants = chosen(request.variants, host.platform)
    counts = _counts(request.sequences)
    _check_words("", request.words)
    for variant in variants:
        _check_words(f"variant {variant.name}: ", variant.words)
    if request.json:
        output_files.check_file(request.json, "--json")
    if request.logs:
        output_files.check_directory(request.logs, "--logs")
    with signals.as_interrupt(), contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dgx-vllm-bench-")))
        model = _model(request, place)
        launches = [_launch(request, model, counts, variant, environ, host) for variant in variants]
        logs = request.logs or place
        if host.driver:
            driver.link(host.driver, environ)
        devices: list[str] = []
        measured: list[Measured] = []
        for variant, launch in zip(variants, launches, strict=True):
            say(f"{variant.name}: {variant.options or 'no options'}")
            device, one = _measure(request, counts, variant, launch, environ, host, logs / variant.name)
            devices += [device] if device else []
            measured.append(one)
            result = _result(request, host, devices, measured)
            if request.json:
                request.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
            if one.error == _INTERRUPTED:
                break
    report.show(result)
    if measured[-1].error == _INTERRUPTED:
        return INTERRUPTED
    return FAILURE if any(one.error for one in measured) else 0


def _counts(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise UserError(f"--sequences must be whole numbers above 0 such as 1,4,8, not {text!r}")
    return tuple(dict.fromkeys(int(word) for word in words))


def _check_words(where: str, words: Sequence[str]) -> None:
    """Refuses the launcher's own options; --dense-dtype, which is measured, a variant has taken out."""
    for name in (word.partition("=")[0] for word in words):
        if name == "--dense-dtype":
            raise UserError(
                f"{name} belongs to a variant; give it there, such as --variant mine='{name} fp8'"
            )
        if name in _SERVES_OWN:
            raise UserError(f"{where}{name} is only for serve; leave it out")


def _model(request: Request, place: Path) -> str:
    """What `serve` is given as the model."""
    if request.model in model_configs.NAMES:
        if not request.dummy:
            raise UserError(f"{request.model} is a shape without weights; add --dummy")
        directory = place / request.model
        directory.mkdir()
        return str(model_configs.write(directory, request.model, request.layers))
    if request.layers is not None:
        raise UserError(
            f"--layers is for shapes ({', '.join(model_configs.NAMES)}), "
            f"and {request.model} is not one of them"
        )
    return request.model


def _launch(
    request: Request,
    model: str,
    counts: Sequence[int],
    variant: Variant,
    environ: Mapping[str, str],
    host: Machine,
) -> Launch:
    """What `serve` would run for a variant."""
    needed, most = request.prompt + max(request.tokens, _PROFILED), max(counts)
    dummy = ("--load-format", "dummy", "--skip-tokenizer-init") if request.dummy else ()
    options = Options(dense_dtype=variant.dense_dtype)
    try:
        words = (model, *request.words, *variant.words, *dummy)
        launch = serve.decide(words, environ, options, host)
        lower_bounds = {"max-model-len": needed, "max-num-seqs": most}
        more = [
            word
            for name, value in lower_bounds.items()
            if name not in launch.settings
            for word in (f"--{name}", str(value))
        ]
        launch = serve.decide((*words, *more), environ, options, host) if more else launch
        preflight.check_engine(launch, host, environ)
    except UserError as error:
        raise UserError(f"variant {variant.name}: {error}", error.status) from error
    length = flags.size(launch.settings["max-model-len"].text, auto=True)
    if 0 < length < needed:
        raise UserError(
            f"variant {variant.name}: {needed} tokens do not fit into --max-model-len {length}; "
            "raise it, or lower --prompt and --tokens"
        )
    if int(launch.settings["max-num-seqs"].text) < most:
        raise UserError(
            f"variant {variant.name}: {most} sequences are more than --max-num-seqs "
            f"{launch.settings['max-num-seqs'].text}; raise it, or lower --sequences"
        )
    return launch


def _measure(
    request: Request,
    counts: tuple[int, ...],
    variant: Variant,
    launch: Launch,
    environ: Mapping[str, str],
    host: Machine,
    directory: Path,
) -> tuple[str, Measured]:
    directory.mkdir(parents=True, exist_ok=True)
    out, log, job = directory / "rates.json", directory / "log", directory / "job.json"
    out.unlink(missing_ok=True)
    for old in trace.files(directory):  # a second run's are not the first's
        old.unlink()
    traces = str(directory.resolve()) if host.platform == "cuda" else None
    words = tuple(word for word in launch.argv[_HEAD:] if word != "serve")
    sizes = (counts, request.prompt, request.tokens, request.repeats)
    job.write_bytes(msgspec.json.encode(Job(words, *sizes, request.dummy, traces, str(out))))
    command = [host.python, "-P", "-m", "dgx_vllm.bench_decode.run", str(job)]
    try:
        error = _run(command, launch.environ(environ), log, request.timeout)
    except KeyboardInterrupt:
        error = _INTERRUPTED
    answer = msgspec.json.decode(out.read_bytes(), type=Answer) if out.is_file() else Answer("", 0.0, ())
    started = answer.start_seconds or None
    one = Measured(variant.name, variant.options, launch.command_line(), error, started, answer.rates)
    return answer.device, one


def _run(command: Sequence[str], environ: Mapping[str, str], log: Path, timeout: float | None) -> str | None:
    """Runs the engine's process and all that it starts; why it failed, None if it did not."""
    # Workers outlive an engine that died; they would keep the GPU from the next variant.
    with (
        log.open("wb") as file,
        signals.child(command, stdout=file, stderr=subprocess.STDOUT, env=dict(environ)) as child,
    ):
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return f"took more than {timeout:g} s: {_last(log)}"
    return f"ended with status {status}: {_last(log)}" if status else None


def _last(log: Path) -> str:
    """What an engine said last that tells why: its last error, or its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0] or "Error: " in line]
    return (errors or lines or ["nothing"])[-1][-_SAID:]


def _result(request: Request, host: Machine, devices: Sequence[str], measured: Sequence[Measured]) -> Result:
    return Result(
        request.model,
        request.dummy,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        devices[0] if devices else "",
        host.vllm.version,
        output_files.typed(request.arguments, request.json, request.logs),
        request.prompt,
        request.tokens,
        request.repeats,
        tuple(measured),
    )
