#!/usr/bin/env python3
"""Runs this library on a GPU and compares it with PyTorch there: `make gpu-check` (docs/gpu.md).

Writes gpu-check.md and gpu-check.json into the folder --out, after each part anew, and prints the
first at the end. Each part is a process of its own with its own time limit, and may fail alone.
"""

import argparse
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import report
import setting

# In the order of their worth: module and function, and seconds at most.
PARTS = {
    "device": ("device.run", 60),
    "tests": ("tests.run", 120),
    "inversion": ("steps.inversion", 180),
    "training": ("steps.training", 110),
    "demo": ("demo.run", 100),
    "teacher": ("teacher.run", 95),
}
# A part that has less than this left is not begun.
LEAST = 10


class Context:
    """What a part is given, and where it leaves what it finds."""

    def __init__(self, options):
        self.device, self.tiny = options.device, options.size == "tiny"
        self.python, self.result = options.python or None, options.result
        self.folder = options.result.parent / options.part
        self.folder.mkdir(exist_ok=True)
        self.before = json.loads(options.before)
        self.end = time.monotonic() + options.seconds

    def seconds_left(self):
        return self.end - time.monotonic()

    def keep(self, data, problem=None):
        """Keeps what was found so far, should the part be stopped, and what is wrong with it."""
        partial = self.result.with_suffix(".partial")
        partial.write_text(json.dumps({"data": data, "problem": problem}))
        partial.replace(self.result)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda (default), cuda:N or cpu")
    parser.add_argument("--out", type=pathlib.Path, help="the folder to write to")
    parser.add_argument(
        "--size",
        choices=("full", "tiny"),
        default="full",
        help="tiny: the same code in a minute on a CPU",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        metavar="PART",
        help=f"which of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=540,
        help="seconds in all (default 540); what does not fit is named and left out",
    )
    parser.add_argument(
        "--carried",
        action="store_true",
        help="use the binaries in gpu/ (`make gpu-pack`) and this Python's torch",
    )
    # How the script calls itself.
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--python", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--before", default="{}", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.part and not options.out:
        parser.error("--out is missing: the folder to write to")
    return options


def run_part(options):
    """One part, in a process of its own."""
    module, function = PARTS[options.part][0].split(".")
    context = Context(options)
    try:
        getattr(importlib.import_module(f"parts.{module}"), function)(context)
    except Exception as error:
        traceback.print_exc()
        kept = json.loads(context.result.read_text())["data"] if context.result.exists() else {}
        context.keep(kept, f"{type(error).__name__}: {error}")
    except SystemExit as error:
        kept = json.loads(context.result.read_text())["data"] if context.result.exists() else {}
        context.keep(kept, str(error))


def start_part(name, limit, options, folder, results):
    """Runs a part and waits for it, not longer than `limit`; what came of it."""
    result, begun = folder / f"{name}.json", time.monotonic()
    command = [sys.executable, __file__, "--part", name, "--device", options.device]
    command += ["--size", options.size, "--result", result, "--seconds", limit]
    # The steps that were measured alone: an argument has no room for the messages of all tests.
    measured = {part: results[part] for part in ("training",) if part in results}
    command += ["--python", options.python or "", "--before", json.dumps(measured)]
    # A group of its own, so that what it started ends with it.
    process = subprocess.Popen(list(map(str, command)), start_new_session=True)
    late = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    outcome = json.loads(result.read_text()) if result.exists() else {"data": {}, "problem": None}
    if late:
        outcome["problem"] = f"stopped after {limit:.0f} s"
    elif process.returncode and not outcome["problem"]:
        outcome["problem"] = f"ended with {process.returncode}; its output says why"
    return outcome | {"seconds": time.monotonic() - begun}


def write(options, results):
    options.out.mkdir(parents=True, exist_ok=True)
    head = {"device": options.device, "size": options.size, "carried": options.carried}
    (options.out / "gpu-check.json").write_text(json.dumps(head | {"parts": results}, indent=1))
    (options.out / "gpu-check.md").write_text(report.markdown(head, results))


def main():
    options = arguments()
    if options.part:
        return run_part(options)
    end, results = time.monotonic() + options.budget, {}
    options.python = setting.torch_python()
    with tempfile.TemporaryDirectory(prefix="fed-distill-gpu-") as name:
        folder = pathlib.Path(name)
        if options.carried:
            setting.use_carried(setting.unpack(folder / "binaries"), options.python)
        for part in [part for part in PARTS if part in options.parts]:
            limit = min(PARTS[part][1], end - time.monotonic())
            if limit < LEAST:
                results[part] = {"data": {}, "problem": "not begun: the budget was spent"}
            else:
                print(f"gpu-check: {part}, {limit:.0f} s at most", file=sys.stderr, flush=True)
                results[part] = start_part(part, limit, options, folder, results)
            write(options, results)
    print((options.out / "gpu-check.md").read_text())
    failed = [part for part, outcome in results.items() if outcome["problem"]]
    if failed:
        print(f"gpu-check: something is wrong in {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
