#!/usr/bin/env python3
"""Compares rounds of federated averaging with Flower (PyPI's `flwr`) on this machine: the CNN of
1,663,370 parameters, client processes on the loopback, TLS on both sides.

`make bench-federation` builds what it needs and runs it. Both sides take turns; Flower runs with
its stock settings and with the sleeps of its polling loops lowered. Prints Markdown.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "python")]
import certificate  # noqa: E402
import environment  # noqa: E402
import flower  # noqa: E402
import ours  # noqa: E402
from driver import machine, tables  # noqa: E402

# Seconds that a run may take.
LIMIT = 1800
SIDES = {
    "ours": "ours",
    "flower": f"Flower {flower.VERSION}, stock settings",
    "flower-short-sleeps": f"Flower {flower.VERSION}, polling every {flower.SHORT} s",
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[10], help="client processes (default: 10)"
    )
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        default=[0, 600],
        help="images of each client, one epoch in batches of 10; 0: no training (default: 0 600)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of a run (default: 5)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (default: 5)")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--save", type=pathlib.Path, help="every single measurement, as JSON")
    return parser.parse_args()


def torch_folder():
    """The folder with PyTorch that `make bench` uses."""
    code = "import torch, pathlib; print(pathlib.Path(torch.__file__).parent.parent)"
    command = [environment.interpreter(), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measure(side, settings, programs, root):
    """Runs one side once: seconds of the rounds, what was taken."""
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = pathlib.Path(name)
        certificates = certificate.make(folder)
        if side == "ours":
            each, taken = ours.rounds(folder, certificates, settings)
        else:
            is_short = side != "flower"
            each, taken = flower.rounds(programs, folder, certificates, settings, is_short)
    return {"seconds": each, **taken}


def row(side, runs, base, rounds):
    """Medians over the runs; of a run the mean of its rounds."""
    mean = [statistics.mean(run["seconds"]) for run in runs]
    middle = {
        key: statistics.median(run[key] for run in runs)
        for key in ("server", "clients", "memory", "bytes")
    }
    return [
        SIDES[side],
        tables.time(statistics.median(mean)),
        tables.spread(mean),
        f"{1 / statistics.median(mean):.2f}",
        tables.ratio(mean, base) if base else "",
        f"{middle['server'] / rounds:.2f} s",
        f"{middle['clients'] / rounds:.2f} s",
        f"{middle['memory']:.0f}",
        f"{middle['bytes'] / rounds / 1e6:.1f}",
    ]


def main():
    options = arguments()
    before = machine.load()
    programs = None
    if options.sides != ["ours"]:
        programs = flower.environment(environment.cache(), torch_folder())
    found = {}
    with tempfile.TemporaryDirectory(prefix="fed-distill-bench-") as root:
        for images in options.images:
            for clients in options.clients:
                settings = {
                    "clients": clients, "images": images, "rounds": options.rounds, "epochs": 1,
                    "limit": LIMIT,
                }  # fmt: skip
                runs = {side: [] for side in options.sides}
                for repeat in range(options.repeats):
                    for side in options.sides:
                        print(
                            f"bench: {clients} clients, {images} images, run {repeat + 1}, {side}",
                            file=sys.stderr,
                            flush=True,
                        )
                        runs[side].append(measure(side, settings, programs, root))
                found[f"{clients} clients, {images} images"] = runs
                report(clients, images, runs, options)
    print("\n" + "\n".join(machine.describe(machine.cores(), sys.executable, before)))
    if options.save:
        options.save.write_text(json.dumps(found, indent=1))


def report(clients, images, runs, options):
    what = (
        f"one epoch of {images} images each"
        if images
        else f"no training (ours: a step on {ours.FEW} images)"
    )
    print(
        f"\n### {clients} clients, {what}\n\n{options.repeats} runs of {options.rounds} rounds a "
        "side, in turns.\n"
    )
    base = [statistics.mean(run["seconds"]) for run in runs.get("ours", [])]
    header = ["", "a round, median", "quartiles", "rounds a second", "÷ ours", "CPU of the server",
              "CPU of the clients", "MiB of the server", "MB over the loopback"]  # fmt: skip
    rows = [row(side, runs[side], base, options.rounds) for side in options.sides]
    print(tables.markdown(header, rows), flush=True)


if __name__ == "__main__":
    main()
