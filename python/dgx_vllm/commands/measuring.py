"""Commands that measure, and that make checkpoints smaller."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dgx_vllm.commands import completion
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
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.known_models,
            help="A model as for serve; with --dummy also qwen3-next-80b-a3b.",
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=OPTIONS]",
            help="marlin, stock, dgx, dgx-fp8, dgx-nvfp4, fp8, or a name with options of serve. "
            "Repeatable; the first is the baseline.",
        ),
    ] = None,
    sequences: Annotated[
        str, typer.Option(metavar="N,N...", help="Batch sizes to measure, in sequences.")
    ] = "1,4,8",
    prompt: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Tokens in each prompt.")] = 128,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens to decode per run.")] = 256,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of runs; the median is reported.")
    ] = 3,
    dummy: Annotated[
        bool, typer.Option("--dummy", help="Use random weights; MODEL then needs only a config.json.")
    ] = False,
    layers: Annotated[
        int | None, typer.Option(metavar="N", help="Use only the first N of qwen3-next-80b-a3b's 48 layers.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="Stop a variant that takes longer.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the result to this file.")
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Keep the engines' logs and traces in this directory."),
    ] = None,
) -> None:
    """Measure how fast vLLM decodes with MODEL served in several ways, and compare them."""
    from dgx_vllm.bench_decode import command

    request = command.Request(
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
    raise typer.Exit(command.bench(request, os.environ))


@app.command(rich_help_panel=_PANEL)
def bench_kernels(
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="qwen3-next, qwen3.6-35b, awkward, o_proj, in_proj_qkvz, lm_head, or a MoE layer's "
            "HIDDEN/INTERMEDIATE/EXPERTS/TOP_K/SHARED_INTERMEDIATE; by default all named ones.",
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(metavar="N,...", help="Tokens per call, 1 to 16.")] = "1,2,4,8,16",
    peers: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="vLLM's kernels to compare with: marlin, humming, or none."),
    ] = "marlin,humming",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the rows to this file.")
    ] = None,
) -> None:
    """Time our decode kernels, vLLM's, and a plain read of the same bytes on this machine's GPU."""
    from dgx_vllm.bench_kernels import command

    command.bench_kernels(sys.argv[1:], os.environ, named=shapes, tokens=tokens, peers=peers, file=json)


@app.command(name="eval", rich_help_panel=_PANEL)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=completion.known_models,
            help="A directory, a profile or the id of a downloaded model.",
        ),
    ],
    dense_dtype: Annotated[Dtype, typer.Option(help="The option to measure, as for serve.")] = "bf16",
    against: Annotated[
        str | None,
        typer.Option(metavar="CHECKPOINT", help="Compare with this checkpoint (default: MODEL as it is)."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also compare predictions on this text; vLLM runs twice."),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=2, metavar="N", help="Evaluate this many tokens of the text.")
    ] = 8192,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure what an option costs in quality: relative error per layer; with --text, perplexity and KL."""
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
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            autocompletion=completion.known_models,
            help="A directory, a profile or the id of a downloaded model.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The directory to write, or to resume.")],
    method: Annotated[
        str,
        typer.Option(
            metavar="magnitude|activation",
            autocompletion=completion.one_of("magnitude", "activation"),
            help="How to choose the weights to zero.",
        ),
    ] = "activation",
    pattern: Annotated[
        str,
        typer.Option(
            metavar="2:4|4:8-pairs",
            autocompletion=completion.one_of("2:4", "4:8-pairs"),
            help="Zero two of every four values, or two of every four pairs.",
        ),
    ] = "2:4",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A file from `dgx-vllm calibrate`; it makes `activation` much better."
        ),
    ] = None,
    shared_expert: Annotated[
        bool, typer.Option("--shared-expert", help="Also prune shared experts, which every token passes.")
    ] = False,
) -> None:
    """Zero half of the weights of CHECKPOINT's routed experts in a pattern that kernels can skip. Lossy."""
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
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            autocompletion=completion.known_models,
            help="A directory, a profile or the id of a downloaded model.",
        ),
    ],
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="Sample text like the text the model will process.")
    ],
    out: Annotated[Path, typer.Argument(metavar="FILE.safetensors", help="The file to write.")],
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Run this many tokens of TEXT.")] = 4096,
) -> None:
    """Run TEXT through CHECKPOINT and record its experts' inputs for `prune --calibration`."""
    from dgx_vllm.prune import calibrate_command

    calibrate_command.calibrate(model, os.environ, text, out, tokens)


@app.command(rich_help_panel=_PANEL)
def eval_prune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            autocompletion=completion.known_models,
            help="The checkpoint that was pruned.",
        ),
    ],
    pruned: Annotated[
        str, typer.Argument(metavar="PRUNED", help="The directory that `dgx-vllm prune` wrote.")
    ],
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also compare predictions on this text; vLLM runs twice."),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=2, metavar="N", help="Evaluate this many tokens of the text.")
    ] = 8192,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare experts on these inputs; use others than for pruning."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure what pruning cost: output error per layer; with --text, perplexity and KL."""
    from dgx_vllm.prune import eval_command

    eval_command.evaluate(
        model, pruned, os.environ, text=text, tokens=tokens, calibration=calibration, as_json=as_json
    )
