"""Markdown of what the parts found."""

import statistics

import setting  # noqa: F401  (it puts the driver where it is found)
from driver import tables


def markdown(head, results):
    carried = ", carried binaries" if head["carried"] else ""
    lines = [f"# GPU check: `device={head['device']}`, size {head['size']}{carried}", ""]
    rate = results.get("device", {}).get("data", {}).get("measured", {}).get("bf16_per_s")
    for part, outcome in results.items():
        took = f" ({outcome['seconds']:.0f} s)" if "seconds" in outcome else ""
        lines += [f"## {part}{took}", ""]
        if outcome["problem"]:
            lines += ["**Problem**:", "", "```text", outcome["problem"].strip(), "```", ""]
        if outcome["data"]:
            lines += [*SECTIONS[part](outcome["data"], rate), ""]
    return "\n".join(lines)


def device(data, _rate):
    measured = data.get("measured", {})
    lines = [f"- {data['host']}; commit {data['commit']}"]
    if data.get("driver"):
        lines.append(
            f"- nvidia-smi (name, driver, clocks of SM and memory, used): {data['driver']}"
        )
    if data.get("note"):
        lines.append(f"- {data['note']}")
    rates = {"bf16_per_s": "bf16", "tf32_per_s": "TF32", "f32_per_s": "float32"}
    if measured:
        facts = {key: value for key, value in measured.items() if not key.endswith("per_s")}
        lines.append("- " + ", ".join(f"{key} {value}" for key, value in facts.items()))
        each = [
            f"{name} {measured[key] / 1e12:.3g} TFLOP/s"
            for key, name in rates.items()
            if key in measured
        ]
        copied = f"copy {measured['copied_bytes_per_s'] / 1e9:.0f} GB/s (read and written)"
        lines.append("- measured by PyTorch: matrix products in " + ", ".join([*each, copied]))
    return lines


def tests(data, _rate):
    rows, messages = [], []
    for name, outcome in sorted(data["targets"].items()):
        failed = outcome.get("failed", {})
        seconds = f"{outcome['seconds']:.0f} s" if "seconds" in outcome else ""
        row = [f"`{name}`", outcome.get("passed", 0), len(failed), seconds]
        rows.append([*map(str, row), "error below" if outcome.get("error") else ""])
        if outcome.get("error"):
            failed = failed | {"(the executable)": outcome["error"]}
        for test, message in failed.items():
            messages += ["", f"`{name}`, `{test}`:", "", "```text", message, "```"]
    return [tables.markdown(["tests", "passed", "failed", "took", ""], rows), *messages]


def steps(data, rate):
    lines = []
    for name, case in data["cases"].items():
        settings = case["settings"]
        network = f"width {settings['network']['width']}, blocks {settings['network']['blocks']}"
        lines += [
            f"### `{name}`: {network}, batch {settings['batch']}",
            "",
            f"{case['operations'] / 1e12:.3g} TFLOP a step; blocks of {settings['steps']} "
            "steps in turns; the first of the rows is what losses and gradients are held "
            "against.",
            "",
        ]
        if case["seconds"]:
            lines += [step_table(case, rate), ""]
        for variant, why in case["failures"].items():
            lines += [f"- {tables.label(variant)}: {why}"]
    return lines


def step_table(case, rate):
    """Times, the speed over the public way with mixed precision, memory, differences."""
    mixed = [name for name in case["seconds"] if name.startswith("public+amp")]
    base = case["seconds"][mixed[0]] if mixed else None
    header = ["", "a step, median", "n", "quartiles", "public with amp ÷ this"]
    header += ["of the bf16 rate", "card MiB", "allocated MiB", "loss off", "gradient off"]
    rows = [
        step_row(case, variant, base, rate)
        for variant in case["seconds"]
        if case["seconds"][variant]
    ]
    return tables.markdown([*header, "compiling"], rows)


def step_row(case, variant, base, rate):
    values, fact = case["seconds"][variant], case["facts"].get(variant, {})
    median = statistics.median(values)
    lower, upper = tables.quartiles(values)

    def known(key, form):
        return "" if fact.get(key) is None else form.format(fact[key])

    return [
        tables.label(variant),
        f"{median * 1e3:.2f} ms",
        str(len(values)),
        f"{lower * 1e3:.2f} – {upper * 1e3:.2f}",
        f"{statistics.median(base) / median:.2f}" if base else "",
        f"{100 * case['operations'] / median / rate:.1f} %" if rate else "",
        known("card_mib", "{:.0f}"),
        known("allocated_mib", "{:.0f}"),
        known("loss_off", "{:.1e}"),
        known("gradient_off", "{:.1e}"),
        tables.compiling(fact) if "compile_seconds" in fact else "",
    ]


def demo(data, _rate):
    rows = []
    for run in data["seeds"]:
        seconds = run["seconds"]
        rows.append(
            [
                str(run["seed"]),
                *(f"{value:.1f} s" for value in seconds.values()),
                f"{sum(seconds.values()):.1f} s",
                f"{100 * run['last']:.1f} %",
                f"{100 * run['best']:.1f} %",
            ]
        )
    if not rows:
        return []
    names = [f"`{name}`" for name in data["seeds"][0]["seconds"]]
    return [tables.markdown(["seed", *names, "all", "student, last", "best"], rows)]


def teacher(data, _rate):
    speed = f"{data['images_per_s']:.0f} images a second, " if data["images_per_s"] else ""
    return [
        f"- {speed}tests included; {data['epochs']} epochs in {data['seconds']:.1f} s, of which "
        f"{data['until_first_epoch']:.1f} s to the end of the first",
        f"- test accuracy {100 * data['last']:.2f} % (best {100 * data['best']:.2f} %)",
        f"- `{' '.join(data['command'])}`",
    ]


SECTIONS = {
    "device": device,
    "tests": tests,
    "inversion": steps,
    "training": steps,
    "demo": demo,
    "teacher": teacher,
}
