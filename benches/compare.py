#!/usr/bin/env python3
"""Compares this library with PyTorch on this machine: `make bench`, or this script once the workers
are built.

Both sides run in alternation, a few steps at a time, one at a time: a machine that slows down slows
all of them down. Prints Markdown.
"""

import argparse
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent / "python"))
import environment  # noqa: E402
from driver import machine, stages, tables, variants, workers  # noqa: E402

CASES = json.loads((pathlib.Path(__file__).parent / "cases.json").read_text())
EXTRA = ["start-up", "many-teachers", "distillation", "operators"]
USUAL = [*CASES["steps"], "pipeline", *EXTRA]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*CASES["steps"], *CASES["pipelines"], *EXTRA]
    parser.add_argument(
        "cases", nargs="*", help=f"which (default: all but pipeline-full): {', '.join(known)}"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=min(2, machine.cores()),
        help="default: the machine's cores, at most 2",
    )
    parser.add_argument(
        "--engines", nargs="+", default=["plain", "fused"], help="our inversion engines to compare"
    )
    parser.add_argument("--variants", nargs="+", help=variants.HELP)
    parser.add_argument(
        "--device", default="cpu", help="cpu (default), cuda or cuda:N: where steps are computed"
    )
    parser.add_argument("--rounds", type=int, help="instead of each case's own number")
    parser.add_argument("--save", type=pathlib.Path, help="every single measurement, as JSON")
    options = parser.parse_args()
    options.cases = options.cases or USUAL
    if unknown := [case for case in options.cases if case not in known]:
        parser.error(f"no case {', '.join(unknown)}; available: {', '.join(known)}")
    for why in filter(None, map(variants.problem, options.variants or [])):
        parser.error(why)
    return options


def say(title, text):
    print(f"\n### {title}\n\n{text}", flush=True)


def described(network):
    """What a title calls an entry of `networks`."""
    if "width" not in network:
        return network["kind"]
    return f"width {network['width']}, blocks {network['blocks']}"


def step_case(name, folder, options):
    case = CASES["steps"][name]
    rounds = options.rounds or case["rounds"]
    chosen, left_out = variants.of_case(case["task"], options.variants, options.engines)
    if left_out:
        print(
            f"bench: {name} leaves out {', '.join(left_out)}: {case['task']} has no such variant",
            file=sys.stderr,
            flush=True,
        )
    if not chosen:
        return None
    seconds, facts = workers.alternate(folder, name, case, chosen, rounds, options)
    network = CASES["networks"][case["network"]]
    what = (
        "an inversion step" + (" with a student" if case["student"] else "")
        if case["task"] == "inversion"
        else "a training step"
    )
    say(
        f"`{name}`: {what}, {described(network)}, batch {case['batch']}",
        f"{rounds} rounds of {case['steps']} steps.\n\n" + tables.steps(seconds, facts),
    )
    return {"seconds": seconds, "facts": facts}


def pipeline_case(name, folder, options):
    settings = CASES["pipelines"][name]
    rounds = options.rounds or settings["rounds"]
    results = stages.pipeline(folder, settings, options, rounds)
    say(
        f"`{name}`: `make demo` with {settings['teacher_epochs']} teacher epochs, "
        f"{settings['inversion_steps']} inversion steps, "
        f"{settings['student_epochs']} student epochs",
        f"{rounds} rounds.\n\n" + stages.pipeline_table(results),
    )
    return results


def operators(folder, options):
    columns = [
        (case, variant) for case in ("resnet18-di", "small-di") for variant in ("public", "fixed")
    ]
    sums = [workers.operators(folder, *column, options) for column in columns]
    kinds = sorted({kind for each in sums for kind in each}, key=lambda kind: -sums[0].get(kind, 0))
    rows = [[kind, *(tables.time(each.get(kind, 0)) for each in sums)] for kind in kinds]
    return tables.markdown(
        ["", *(f"`{case}` {'(a)' if variant == 'public' else '(b)'}" for case, variant in columns)],
        rows,
    )


def measure(name, folder, options):
    if name in CASES["steps"]:
        return step_case(name, folder, options)
    if name in CASES["pipelines"]:
        return pipeline_case(name, folder, options)
    if name == "start-up":
        return say("`start-up`: the stage binaries", stages.start_up(folder, options.rounds or 5))
    if name == "operators":
        return say(
            "`operators`: where a PyTorch step's time goes, by its own profiler",
            operators(folder, options),
        )
    if name == "distillation":
        return say(
            "`distillation`: `train_student` from N LeNet-5 teachers",
            stages.distillation(folder, options.threads, options.rounds or 3),
        )
    say(
        "`many-teachers`: `generate_initial`, 3 of N ResNet-18 teachers a step",
        stages.many_teachers(folder, options.engines[-1], options.threads),
    )


def main():
    options = arguments()
    options.python = environment.interpreter()
    before = machine.load()
    results = {}
    print(
        "Medians and quartiles over rounds (of fewer than four: lowest and highest). "
        f"{options.threads} threads, device {options.device}."
    )
    for name in options.cases:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="fed-distill-bench-") as folder:
            results[name] = measure(name, pathlib.Path(folder), options)
        # What was measured is kept, whatever becomes of the next case.
        if options.save:
            options.save.write_text(json.dumps(results, indent=1))
    say("Machine", "\n".join(machine.describe(options.threads, options.python, before)))


if __name__ == "__main__":
    main()
