"""Chart: the plan as a picture, SVG from the tables themselves, PNG as bars."""

import io
from pathlib import Path

from rich.console import Console

from dgx_vllm.plan import report
from dgx_vllm.plan.outlook import Outlook
from dgx_vllm.util.amounts import GB, MB
from dgx_vllm.util.errors import FAILURE, UserError

KINDS = (".svg", ".png")

# rich's own template loads fonts from the network; the reader's monospaced font serves.
SVG_FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def check(path: Path) -> None:
    """Refuses a file that could not be drawn, before anything is computed.

    Raises:
        UserError: it is neither SVG nor PNG.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"--plot {path} is neither .svg nor .png; choose such a name")


def draw(outlook: Outlook, path: Path) -> None:
    """Writes the picture.

    Raises:
        UserError: the file cannot be written, or what a PNG shows is unknown.
    """
    if not outlook.steps and path.suffix.lower() != ".svg":
        raise UserError(
            f"--plot {path} shows what a step reads, which is unknown of {outlook.model.name}; "
            "name an .svg for the tables"
        )
    content = _svg(outlook) if path.suffix.lower() == ".svg" else _png(outlook)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"--plot {path}: {error.strerror}; name a file that can be written", FAILURE
        ) from error


def _svg(outlook: Outlook) -> bytes:
    console = Console(record=True, file=io.StringIO(), width=112, force_terminal=True, legacy_windows=False)
    report.show(outlook, console)
    return console.export_svg(title=f"dgx-vllm plan {outlook.model.name}", code_format=SVG_FORMAT).encode()


def _png(outlook: Outlook) -> bytes:
    """Two panels: bytes by part at batch 1, and tokens per second by batch."""
    from PIL import Image, ImageDraw, ImageFont

    parts = [
        (f"{part.part} {part.precision}".strip(), part.bytes, f"{part.bytes / MB:,.0f} MB")
        for part in sorted(outlook.steps[0].traffic, key=lambda part: -part.bytes)
        if part.bytes >= outlook.steps[0].bytes / 1000
    ]
    speeds = [
        (f"batch {step.batch}", step.expected(), f"{step.expected():,.0f} tok/s") for step in outlook.steps
    ]
    total = outlook.steps[0].bytes / GB
    panels = [
        (f"{outlook.model.name}: {total:.2f} GB a token, batch 1, context {outlook.steps[0].context}", parts),
        ("decode, all sequences, predicted for a GB10, not measured", speeds),
    ]
    row, label, bar, edge = 26, 300, 480, 24
    rows = sum(len(bars) + 2 for _, bars in panels)
    image = Image.new("RGB", (label + bar + 220, rows * row + 2 * edge), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=16)
    y = edge
    for title, bars in panels:
        pen.text((edge, y), title, "black", font)
        y += row
        largest = max((value for _, value, _ in bars), default=1.0)
        for name, value, text in bars:
            pen.text((label - 8, y + 2), name, "black", font, anchor="ra")
            width = max(round(bar * value / largest), 1)
            pen.rectangle((label, y + 3, label + width, y + row - 4), "#76b900")
            pen.text((label + width + 8, y + 2), text, "black", font)
            y += row
        y += row
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
