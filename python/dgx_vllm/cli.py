"""The `dgx-vllm` command."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import dgx_vllm
from dgx_vllm.dense import Dtype
from dgx_vllm.errors import FAILURE, INTERRUPTED, UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="vLLM on NVIDIA's DGX Spark: one command, no surprises.",
)

# vLLM's flags are not Typer's to know: they pass through in order and are read by launch.flags.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

_SERVE_HELP = """Serve MODEL over the OpenAI API, by default on 127.0.0.1:8888.

MODEL is a Hugging Face id, a local checkpoint or a profile's name; without one the built-in demo is served.
Every flag of `vllm serve` is accepted. Settings come from flags, then from the file of --config, from
VLLM_EXTRA_ARGS, from the environment (MODEL, HOST, PORT, GPU_MEMORY_UTIL, MAX_MODEL_LEN, MAX_NUM_SEQS,
TENSOR_PARALLEL_SIZE), from the model's profile, and from defaults; --dry-run shows which one counts.
"""


@app.command(context_settings=_PASS_ON, help=_SERVE_HELP, options_metavar="[MODEL] [OPTIONS] [any vLLM flag]")
def serve(
    context: typer.Context,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="Apply this profile instead of the model's own."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the command, the environment and each value's source; start nothing."
        ),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the address as JSON to FILE once a token can be had."),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ask clients for the key that FILE holds."),
    ] = None,
    memory_reserve: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Memory to leave alone; 8GB by default, 1GB on the CPU backend."),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Memory that this server may take; all that is available."),
    ] = None,
    memory_shed: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Answer 503 to new requests below this much available memory; a quarter of the reserve.",
        ),
    ] = None,
    memory_floor: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="End the server below this much available memory; an eighth of the reserve, 0 for never.",
        ),
    ] = None,
    dense_dtype: Annotated[
        Dtype | None,
        typer.Option(help="What linear layers that the checkpoint left in BF16 become, lm_head among them."),
    ] = None,
    watchdog: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="End the server when its engine is silent for so long; 120 by default, 0 for never.",
        ),
    ] = None,
) -> None:
    from dgx_vllm.launch import serve as launch
    from dgx_vllm.launch.options import Options

    options = Options(
        profile=profile,
        dry_run=dry_run,
        ready_file=ready_file,
        api_key_file=api_key_file,
        memory_reserve=memory_reserve,
        memory_budget=memory_budget,
        memory_shed=memory_shed,
        memory_floor=memory_floor,
        dense_dtype=dense_dtype,
        watchdog=watchdog,
    )
    raise typer.Exit(launch.serve(context.args, os.environ, options))


@app.command()
def plan(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A directory, a config.json, a profile or a Hugging Face id."),
    ],
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT",
            help="Plan for this much, such as 119.7GB; by default MemAvailable on a GB10, else all of one.",
        ),
    ] = None,
    reserve: Annotated[
        str | None,
        typer.Option("--memory-reserve", metavar="AMOUNT", help="What to leave alone of it; 8GB by default."),
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, metavar="TOKENS", help="Tokens in each sequence while decoding.")
    ] = 1024,
    kv_cache_dtype: Annotated[
        str | None, typer.Option(metavar="DTYPE", help="As for serve; by default the profile's.")
    ] = None,
    dense_dtype: Annotated[Dtype | None, typer.Option(help="As for serve; by default the profile's.")] = None,
    moe_backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="As for serve; dgx counts in a draft's experts in NVFP4, where --dense-dtype makes them so.",
        ),
    ] = None,
    drafts: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Tokens that the MTP layer drafts; by default the profile's, else none."
        ),
    ] = None,
    acceptance: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="Weigh drafts by the share of steps that keeps the first, the second, such as 0.84,0.58.",
        ),
    ] = None,
    launches: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Take the overhead by launches of a step, as bench-decode counts them."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw the plan into this file too.")
    ] = None,
) -> None:
    """Say what MODEL takes of a GB10's memory, what fits beside it, and how fast it may decode."""
    from dgx_vllm.plan import command

    command.plan(
        model,
        os.environ,
        memory=memory,
        reserve=reserve,
        context=context,
        cache_dtype=kv_cache_dtype,
        dense_dtype=dense_dtype,
        moe_backend=moe_backend,
        drafts=drafts,
        acceptance=acceptance,
        launches=launches,
        as_json=as_json,
        plot=plot,
    )


@app.command()
def download(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face id or a profile's name.")],
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="A branch, tag or commit; main by default.")
    ] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do not look for a newer one where a whole model is here.")
    ] = False,
) -> None:
    """Download MODEL into the Hugging Face cache, or finish what was begun, and verify it."""
    from dgx_vllm.download import command

    command.download(model, os.environ, revision, if_missing)


@app.command()
def prune(
    model: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A directory, a profile or a downloaded model's id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write, or to go on with.")],
    method: Annotated[
        str, typer.Option(metavar="magnitude|activation", help="How to choose what is zeroed.")
    ] = "activation",
    pattern: Annotated[
        str, typer.Option(metavar="2:4|4:8-pairs", help="Two of four values, or two of four pairs.")
    ] = "2:4",
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `dgx-vllm calibrate` wrote; makes activation much better."),
    ] = None,
    shared_expert: Annotated[
        bool, typer.Option("--shared-expert", help="Prune shared experts too; every token passes them.")
    ] = False,
) -> None:
    """Zero half of the weights of CHECKPOINT's routed experts, in a pattern that kernels can skip. Lossy."""
    from dgx_vllm.prune import command

    command.prune(
        model,
        out,
        os.environ,
        method=method,
        pattern=pattern,
        calibration=calibration,
        shared=shared_expert,
    )


@app.command()
def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A directory, a profile or a downloaded model's id.")
    ],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Such as the model will read and write.")],
    out: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="The file to write.")],
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of TEXT to run.")] = 4096,
) -> None:
    """Run TEXT through CHECKPOINT and keep what reaches its experts, for `prune --calibration`."""
    from dgx_vllm.prune import calibrate

    calibrate.calibrate(model, os.environ, text, out, tokens)


@app.command()
def eval_prune(
    model: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The one that was pruned.")],
    pruned: Annotated[str, typer.Argument(metavar="PRUNED", help="What `dgx-vllm prune` wrote.")],
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare predictions on this text, by vLLM: two runs."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens of the text to look at.")] = 8192,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare experts on these inputs; not those that were pruned by."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what pruning cost: each layer's output error; with --text perplexity and KL."""
    from dgx_vllm.prune import evaluate

    evaluate.evaluate(
        model, pruned, os.environ, text=text, tokens=tokens, calibration=calibration, as_json=as_json
    )


@app.command(name="eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A directory, a profile or a downloaded model's id.")
    ],
    dense_dtype: Annotated[Dtype, typer.Option(help="As for serve: the option to measure.")] = "bf16",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Measure from this checkpoint; by default from MODEL as it is."
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare predictions on this text, by vLLM: two runs."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens of the text to look at.")] = 8192,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what an option costs in quality: each layer's relative error; with --text perplexity and KL."""
    from dgx_vllm.evaluation import command

    command.evaluate(
        model,
        os.environ,
        dense_dtype=dense_dtype,
        against=against,
        text=text,
        tokens=tokens,
        as_json=as_json,
    )


@app.command()
def bench_kernels(
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="qwen3-next, qwen3.6-35b, awkward, o_proj, in_proj_qkvz, lm_head, or a MoE layer's "
            "HIDDEN/INTERMEDIATE/EXPERTS/TOP_K/SHARED_INTERMEDIATE; by default all that have names.",
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(metavar="N,...", help="Tokens in a call, 1 to 16.")] = "1,2,4,8,16",
    peers: Annotated[
        str, typer.Option(metavar="NAME,...", help="vLLM's own to measure beside: marlin, humming; or none.")
    ] = "marlin,humming",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows there too.")] = None,
) -> None:
    """Time the decode kernels on this machine's GPU, beside vLLM's own and beside their bytes only read."""
    from dgx_vllm.bench import command

    command.bench_kernels(sys.argv[1:], os.environ, named=shapes, tokens=tokens, peers=peers, file=json)


@app.command(context_settings=_PASS_ON, options_metavar="[OPTIONS] [any vLLM flag]")
def bench_decode(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="As for serve; with --dummy also qwen3-next-80b-a3b.")
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=OPTIONS]",
            help="marlin, stock, dgx, dgx-fp8, dgx-nvfp4, fp8, or a name with options of serve; repeat it. "
            "The others are held against the first.",
        ),
    ] = None,
    sequences: Annotated[
        str, typer.Option(metavar="N,N...", help="Sequences to decode together, one measurement each.")
    ] = "1,4,8",
    prompt: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Length of a prompt.")] = 128,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens that a run decodes.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Runs, of which the median counts.")] = 3,
    dummy: Annotated[
        bool, typer.Option("--dummy", help="Random weights; MODEL needs a config.json alone.")
    ] = False,
    layers: Annotated[
        int | None, typer.Option(metavar="N", help="Of qwen3-next-80b-a3b's 48, these.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="End a variant that takes longer.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result here too.")] = None,
    logs: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Keep the engines' logs and traces here.")
    ] = None,
) -> None:
    """Measure decoding with vLLM itself, several ways of serving MODEL one after the other, and compare."""
    from dgx_vllm.bench_decode import command

    wish = command.Wish(
        model=model,
        words=context.args,
        variants=variant or (),
        sequences=sequences,
        prompt=prompt,
        tokens=tokens,
        repeats=repeats,
        dummy=dummy,
        layers=layers,
        timeout=timeout,
        json=json,
        logs=logs,
        arguments=sys.argv[1:],
    )
    raise typer.Exit(command.bench(wish, os.environ))


@app.command()
def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="What `--config` would be given.")],
) -> None:
    """Say whether vLLM has the flags that FILE sets."""
    from dgx_vllm.launch import config_file

    print(f"{file}: {len(config_file.read(str(file)))} settings")


@app.command()
def profiles() -> None:
    """List the profiles and whether each fits this machine."""
    from dgx_vllm import machine, profile
    from dgx_vllm.launch import report

    try:
        here = machine.detect()
    except UserError:
        here = None  # the list is of use without vLLM as well
    report.profiles(profile.builtin(), here)


@app.command()
def health(
    ready_file: Annotated[
        Path, typer.Option(metavar="FILE", help="What `dgx-vllm serve --ready-file` was given.")
    ],
) -> None:
    """Say whether a running server is healthy; the exit status is what a health check asks for."""
    from dgx_vllm import health

    print(f"{health.check(ready_file)} is healthy")


@app.command(
    name="exec",
    context_settings={**_PASS_ON, "allow_interspersed_args": False},
    options_metavar="PROGRAM [ARGUMENTS]",
)
def execute(context: typer.Context) -> None:
    """Become PROGRAM, with the NVIDIA driver's libraries where it finds them."""
    from dgx_vllm import driver

    if not context.args:
        raise UserError("exec: name a program, for example: dgx-vllm exec python script.py")
    environ = driver.reaching(os.environ)
    try:
        os.execvpe(context.args[0], context.args, environ)
    except FileNotFoundError as error:
        raise UserError(f"exec: there is no program {context.args[0]} on PATH", 127) from error


@app.command()
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs instead of a screen for people.")
    ] = False,
    ask_vllm: Annotated[
        bool,
        typer.Option("--ask-vllm", help="Have vLLM itself say which backends it selects; takes longer."),
    ] = False,
) -> None:
    """Say whether this machine can serve, how well, and what to do; the exit status is 1 if it cannot."""
    from dgx_vllm.doctor import examination, place, report

    examined = examination.examine(place.here(os.environ), ask_vllm)
    (report.dump if as_json else report.show)(examined)
    raise typer.Exit(0 if examined.serves else FAILURE)


@app.command(context_settings=_PASS_ON, options_metavar="[MODEL] [OPTIONS] [any vLLM flag]")
def install_service(
    context: typer.Context,
    name: Annotated[str, typer.Option(metavar="NAME", help="The unit is dgx-vllm-NAME.service.")] = "default",
    remove: Annotated[
        bool, typer.Option("--remove", help="Stop it and remove what was written; models stay.")
    ] = False,
    user: Annotated[
        bool, typer.Option("--user", help="For your own service manager, not the system's.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the units; write nothing.")] = False,
    run_as: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Who runs it; by default a user that exists while it runs."),
    ] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME|FILE.toml", help="As for serve.")] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="REVISION", help="A branch, tag or commit; main by default.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="As for serve; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="As for serve; 8888 by default.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="vLLM's settings.")] = None,
    environment_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Variables, one NAME=VALUE a line.")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option(metavar="FILE", help="As for serve.")] = None,
    hf_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A Hugging Face token.")] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="For models; systemd's cache directory by default."),
    ] = None,
    memory_reserve: Annotated[str | None, typer.Option(metavar="AMOUNT", help="As for serve.")] = None,
    memory_budget: Annotated[str | None, typer.Option(metavar="AMOUNT", help="As for serve.")] = None,
    memory_shed: Annotated[str | None, typer.Option(metavar="AMOUNT", help="As for serve.")] = None,
    memory_floor: Annotated[str | None, typer.Option(metavar="AMOUNT", help="As for serve.")] = None,
    dense_dtype: Annotated[Dtype | None, typer.Option(help="As for serve.")] = None,
    watchdog: Annotated[int, typer.Option(min=0, metavar="SECONDS", help="As for serve.")] = 120,
) -> None:
    """Keep a server running by systemd, from now on and after each start of this machine.

    Flags that are not its own are vLLM's and go to `dgx-vllm serve`.
    """
    from dgx_vllm.service import command
    from dgx_vllm.service.command import Wish

    command.install_service(
        context.args,
        os.environ,
        Wish(
            name=name,
            remove=remove,
            user=user,
            dry_run=dry_run,
            run_as=run_as,
            profile=profile,
            revision=revision,
            host=host,
            port=port,
            config=config,
            environment_file=environment_file,
            api_key_file=api_key_file,
            hf_token_file=hf_token_file,
            cache_dir=cache_dir,
            memory_reserve=memory_reserve,
            memory_budget=memory_budget,
            memory_shed=memory_shed,
            memory_floor=memory_floor,
            dense_dtype=dense_dtype,
            watchdog=watchdog,
        ),
    )


def _print_version(wanted: bool) -> None:
    if wanted:
        from dgx_vllm import machine

        try:
            vllm = machine.detect().vllm
            print(f"dgx-vllm {dgx_vllm.__version__} (vLLM {vllm.version}, {vllm.platform} build)")
        except UserError:
            print(f"dgx-vllm {dgx_vllm.__version__} (vLLM is not installed)")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show versions and exit."),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Runs the command line; whatever is the user's to mend is one line on standard error."""
    try:
        status: Any = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error), error.status)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        if not message:  # the help that stands for a missing command was printed
            sys.exit(2)
        context = getattr(error, "ctx", None)
        command = f"dgx-vllm {context.info_name}" if context and context.parent else "dgx-vllm"
        _fail(f"{message} (see `{command} --help`)", getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _fail(str(error), FAILURE)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print(f"dgx-vllm: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
