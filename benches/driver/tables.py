"""Medians, spreads, Markdown."""

import statistics

LABELS = {
    "public": "(a) PyTorch as the public code",
    "fixed": "(b) PyTorch, everything obvious fixed",
    "compiled": "(c) `torch.compile` of (b)",
    "ours": "(d) ours",
    "convolutions": "(e) the convolutions alone",
}


def label(variant):
    name, *options = variant.replace("ours-", "ours+").split("+")
    return LABELS[name] + "".join(f", {option}" for option in options)


def time(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def quartiles(values):
    """The lower and the upper one; of fewer than four values the lowest and the highest."""
    if len(values) < 4:
        return min(values), max(values)
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def spread(values):
    return " – ".join(map(time, quartiles(values)))


def ratio(base, other):
    """Ratio of medians, and the quartiles of the rounds' own ratios."""
    lower, upper = quartiles([a / b for a, b in zip(base, other, strict=True)])
    return f"{statistics.median(base) / statistics.median(other):.2f} ({lower:.2f} – {upper:.2f})"


def markdown(header, rows):
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join(
        [
            line(header),
            "|" + "|".join("-" * (width + 2) for width in widths) + "|",
            *map(line, rows),
        ]
    )


def compiling(fact):
    if not fact["compile_seconds"]:
        return ""
    return f"{fact['compile_seconds']:.0f} s" + (" (kept from before)" if fact["kept"] else "")


def steps(seconds, facts):
    """The table of one case: times a step, the speed of each variant over (a), memory."""
    base = seconds.get("public")
    rows = []
    for variant, values in seconds.items():
        fact = facts[variant]
        rows.append(
            [
                label(variant),
                time(statistics.median(values)),
                spread(values),
                time(min(values)),
                ratio(base, values) if base else "",
                f"{fact['peak_mib']:.0f}",
                f"{fact['above_mib']:.0f}",
                compiling(fact),
            ]
        )
    return markdown(
        [
            "",
            "a step, median",
            "quartiles",
            "fastest",
            "(a) ÷ this",
            "peak MiB",
            "of it not libraries",
            "compiling",
        ],
        rows,
    )
