"""Commands that measure, and that make checkpoints smaller."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dgx_vllm.commands.parsing import PASS_ON, PassOn
from dgx_vllm.formats.dense_dtype import Dtype

app = typer.Typer()
_PANEL = "Measure and prune"


@app.command(
    cls=PassOn, context_settings=PASS_ON, rich_help_panel=_PANEL, options_metavar="[OPTIONS] [any vLLM flag]"
)
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


@app.command(rich_help_panel=_PANEL)
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
        str,
        typer.Option(metavar="NAME,...", help="vLLM's own kernels to measure too: marlin, humming; or none."),
    ] = "marlin,humming",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows there too.")] = None,
) -> None:
    """Time the decode kernels on this machine's GPU, vLLM's own, and reading the same bytes alone."""
    from dgx_vllm.bench_kernels import command

    command.bench_kernels(sys.argv[1:], os.environ, named=shapes, tokens=tokens, peers=peers, file=json)


@app.command(name="eval", rich_help_panel=_PANEL)
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


@app.command(rich_help_panel=_PANEL)
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


@app.command(rich_help_panel=_PANEL)
def calibrate(
    model: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A directory, a profile or a downloaded model's id.")
    ],
    text: Annotated[Path, typer.Argument(metavar="TEXT", help="Such as the model will read and write.")],
    out: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="The file to write.")],
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of TEXT to run.")] = 4096,
) -> None:
    """Run TEXT through CHECKPOINT and keep what reaches its experts, for `prune --calibration`."""
    from dgx_vllm.prune import calibrate_command

    calibrate_command.calibrate(model, os.environ, text, out, tokens)


@app.command(rich_help_panel=_PANEL)
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
    from dgx_vllm.prune import eval_command

    eval_command.evaluate(
        model, pruned, os.environ, text=text, tokens=tokens, calibration=calibration, as_json=as_json
    )
