"""The chart of decode speed in README.md, one SVG for light pages and one for dark ones."""

import html

import decode

#: Variants of the results from the top down, and what readers call them.
_BARS = (("marlin", "Marlin"), ("stock", "vLLM's choice"), ("dgx-fp8", "dgx-vllm, FP8"))
#: Text, faint lines, and a colour for each bar.
THEMES = {
    "light": ("#1f2328", "#d1d9e0", ("#8c959f", "#57606a", "#1a7f37")),
    "dark": ("#f0f6fc", "#3d444d", ("#6e7681", "#9198a1", "#3fb950")),
}
_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _GAP = 720, 128, 104, 44, 20, 14


def decode_speed(results: decode.Results, theme: str) -> str:
    """Tokens per second of each variant, grouped by the number of sequences; bars of a group share a scale.

    Args:
        results: decode-h100.json.
        theme: a key of THEMES.

    Returns:
        The SVG. A variant that was not measured has no bar.
    """
    text, faint, colours = THEMES[theme]
    title = f"Decode, tokens per second: Qwen3-Next-80B, {results.head['device']}"
    parts = [f'<text x="0" y="18" font-size="14" font-weight="600">{html.escape(title)}</text>']
    y = _TOP
    for sequences in results.sequences:
        rows = [
            (label, colour, results.row(variant, sequences))
            for (variant, label), colour in zip(_BARS, colours, strict=True)
        ]
        rows = [entry for entry in rows if entry[2]]
        fastest = max(row["tokens_per_second"] for *_, row in rows)
        name = "1 sequence" if sequences == 1 else f"{sequences} sequences"
        parts.append(f'<text x="0" y="{y + 14}" font-weight="600">{name}</text>')
        y += _BAR + 2
        for label, colour, row in rows:
            speed = row["tokens_per_second"]
            length = (_WIDTH - _LEFT - _RIGHT) * speed / fastest
            ratio = f" ({row['vs_marlin']:.2f}&#215;)" if label != _BARS[0][1] else ""
            parts += [
                f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{html.escape(label)}</text>',
                f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>',
                f'<text x="{_LEFT + length + 6:.1f}" y="{y + 15}">{speed:.0f}{ratio}</text>',
            ]
            y += _BAR + 4
        y += _GAP
    parts.append(f'<line x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{y - _GAP}" stroke="{faint}"/>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" '
            f'height="{y}" '
            f'font-family="system-ui, sans-serif" font-size="13" fill="{text}">',
            *parts,
            "</svg>",
            "",
        ]
    )
