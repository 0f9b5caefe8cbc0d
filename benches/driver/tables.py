"""Medians, spreads, Markdown."""
import statistics

LABELS = {"public": "(a) PyTorch as the public code", "fixed": "(b) PyTorch, everything obvious fixed",
          "compiled": "(c) `torch.compile` of (b)", "convolutions": "(e) the convolutions alone"}


def label(variant):
    if variant.startswith("ours-"):
        return f"(d) ours, {variant.removeprefix('ours-')}"
    name, *options = variant.split("+")
    return LABELS[name] + "".join(f", {option}" for option in options)


def time(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def spread(values):
    return f"{time(min(values))} – {time(max(values))}"


def ratio(base, other):
    """Ratio of medians, and the lowest and highest ratio of a round."""
    each = [a / b for a, b in zip(base, other, strict=True)]
    middle = statistics.median(base) / statistics.median(other)
    return f"{middle:.2f} ({min(each):.2f} – {max(each):.2f})"


def markdown(header, rows):
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    line = lambda cells: "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"
    return "\n".join([line(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def steps(seconds, facts):
    """The table of one case: times a step, the speed of each variant over (a), memory."""
    base = seconds.get("public")
    rows = []
    for variant, values in seconds.items():
        fact = facts[variant]
        rows.append([label(variant), time(statistics.median(values)), spread(values), ratio(base, values) if base else "",
                     f"{fact['peak_mib']:.0f}", f"{fact['above_mib']:.0f}",
                     f"{fact['compile_seconds']:.0f} s" if fact["compile_seconds"] else ""])
    return markdown(["", "a step, median", "lowest – highest", "(a) ÷ this", "peak MiB", "of it not libraries", "compiling"], rows)
