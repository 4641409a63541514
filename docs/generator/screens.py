"""Pictures of what commands print, as SVG in docs/images.

    python docs/generator/screens.py DGX_VLLM

DGX_VLLM is the installed command, such as ./result/bin/dgx-vllm. It runs on this machine: `serve` starts the
demo, and `doctor` shows what is here. `bench-kernels` needs a GPU, so its picture shows the recorded run in
kernels/results/h100.json.
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from dgx_vllm.bench_decode import model_configs
from dgx_vllm.bench_kernels import report
from dgx_vllm.bench_kernels.measurements import Row
from dgx_vllm.plan.chart import SVG_FORMAT

_TREE = Path(__file__).resolve().parents[2]
_IMAGES = _TREE / "docs/images"
_COLUMNS = 110
# A table of kernels with their long names.
_WIDE = 132
_MODEL = "qwen3-next-80b-a3b"
_SHAPE = "qwen3-next"


def picture(name: str, command: str, output: str, columns: int = _COLUMNS) -> None:
    """Writes what a command printed, as a terminal of so many columns shows it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=columns, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text.from_ansi(output.rstrip()))
    text = console.export_svg(title=command, code_format=SVG_FORMAT, unique_id=name)
    (_IMAGES / f"{name}.svg").write_text(text, encoding="utf-8")
    print(f"docs/images/{name}.svg")


def main() -> None:
    program = str(Path(sys.argv[1]).resolve())
    os.environ.update(COLUMNS=str(_COLUMNS), FORCE_COLOR="1", TERM="xterm-256color")
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as directory:
        model_configs.write(Path(directory), _MODEL)
        for name, command in (
            ("plan", ["plan", "config.json", "--memory", "128GB"]),
            ("doctor", ["doctor"]),
        ):
            done = subprocess.run(
                [program, *command], cwd=directory, env=environment, stdout=subprocess.PIPE, check=False
            )
            picture(name, " ".join(["dgx-vllm", *command]), done.stdout.decode())
        picture("serve", "dgx-vllm serve", _serve(program, environment))
    command = f"dgx-vllm bench-kernels --shapes {_SHAPE} --tokens 1,8"
    picture("bench-kernels", command, _bench_kernels(), _WIDE)


def _serve(program: str, environment: dict[str, str]) -> str:
    """The launcher's own lines from the start until the demo is ready, without vLLM's log."""
    command = [program, "serve", "--port", "8888"]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("dgx-vllm: "):
            lines.append(line)
        if line.startswith("dgx-vllm: try it"):
            break
    server.send_signal(signal.SIGINT)
    for _ in server.stdout:
        pass
    server.wait()
    return "".join(lines)


def _bench_kernels() -> str:
    """The table of the recorded run, by the command's own report."""
    recorded = json.loads((_TREE / "kernels/results/h100.json").read_text(encoding="utf-8"))
    rows = msgspec.convert(recorded["rows"], list[Row])
    output = io.StringIO()
    os.environ["COLUMNS"] = str(_WIDE)
    with contextlib.redirect_stdout(output):
        shown = [row for row in rows if row.shape == _SHAPE and row.m in (1, 8)]
        report.show(shown, recorded["device"], recorded["read_gbps"])
    return output.getvalue()


if __name__ == "__main__":
    main()
