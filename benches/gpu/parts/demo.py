"""The pipeline of `make demo` on the device: seconds a stage, accuracies, three seeds."""

import json
import pathlib

from driver import stages

# `seed` and `student.seed`, as in the README.
SEEDS = [(42, 43), (7, 8), (123, 124)]
TINY = ["teacher.epochs=1", "student.epochs=1", "deep_inv.di.grad_updates_batch=2", "threads=1"]


def run(context):
    data = {"seeds": []}
    for seed, student in SEEDS[:1] if context.tiny else SEEDS:
        folder = context.folder / f"demo-{seed}"
        data["seeds"].append(pipeline(context, folder, seed, student))
        context.keep(data)


def pipeline(context, folder, seed, student):
    overrides = [
        "+experiment=demo",
        "overwrite=true",
        "tensorboard=false",
        f"device={context.device}",
        f"seed={seed}",
        f"student.seed={student}",
        f"split.save_path={folder}/split.json",
        f"teacher.save_folder={folder}/teachers",
        f"initial.save_path={folder}/initial.safetensors",
        f"student.save_folder={folder}/student",
        *(TINY if context.tiny else []),
    ]
    seconds = {}
    for stage in stages.STAGES:
        binary = stages.machine.binaries() / stage
        seconds[stage] = stages.run([binary, *overrides])[0]
    epochs = json.loads((pathlib.Path(folder) / "student" / "metrics.json").read_text())["epochs"]
    accuracies = [epoch["test_accuracy"] for epoch in epochs]
    return {"seed": seed, "seconds": seconds, "last": accuracies[-1], "best": max(accuracies)}
