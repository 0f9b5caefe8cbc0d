"""A minute of a real teacher: images a second and the accuracy it reaches."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

import setting
from driver import machine

CARRIED = setting.CARRIED / "data" / "cifar10_jpeg"
IMAGES, SECONDS, RESERVE = 50_000, 60, 1.25
COMMON = [
    "teacher.num_teachers=1",
    "teacher.schedule.kind=one_cycle",
    "teacher.batch_size=256",
    "overwrite=true",
    "tensorboard=false",
]
TINY = [
    "dataset=digits",
    "dataset.size=8",
    "dataset.max_train=256",
    "model=resnet_small",
    "model.width=4",
    "model.blocks=[1]",
    "teacher.epochs=2",
    "threads=1",
]


def cifar():
    """The folder of the images: what was carried here, or this machine's own."""
    own = pathlib.Path(os.environ.get("FED_DISTILL_DATASETS", "/")) / CARRIED.name
    for folder in (CARRIED, own):
        if folder.is_dir():
            return folder
    raise RuntimeError(
        f"there is no {CARRIED}: `FED_DISTILL_DATASETS=FOLDER make gpu-check` takes "
        f"FOLDER/{CARRIED.name}, and `make gpu-pack` with it carries the images elsewhere"
    )


def run(context):
    if context.tiny:
        images, overrides = 256, TINY
    else:
        images, epochs = IMAGES, epochs_for(context)
        overrides = [
            "dataset=cifar10_jpeg",
            f"dataset.root={cifar()}",
            "model=resnet18",
            f"teacher.epochs={epochs}",
        ]
    folder = context.folder / "teacher"
    command = [
        machine.binaries() / "train_teachers",
        *COMMON,
        *overrides,
        f"device={context.device}",
        f"teacher.save_folder={folder}",
    ]
    follow(context, list(map(str, command)), folder / "metrics_teacher0.jsonl", images)


def follow(context, command, metrics, images):
    """Runs a training to its end, or to that of the time there is; keeps what it has reached."""
    start, marks = time.monotonic(), []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=setting.ROOT, stdout=subprocess.DEVNULL, stderr=errors
        )
        stopped = False
        while process.poll() is None:
            lines = metrics.read_text().splitlines() if metrics.exists() else []
            if len(lines) > len(marks):
                marks += [time.monotonic()] * (len(lines) - len(marks))
                context.keep(outcome(lines, marks, images, start, command))
            if not stopped and context.seconds_left() < 8:
                process.send_signal(signal.SIGINT)
                stopped = True
            time.sleep(0.01)
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        marks += [time.monotonic()] * (len(lines) - len(marks))
        errors.seek(0)
        if not lines or process.returncode not in (0, 130):
            raise RuntimeError(errors.read().decode(errors="replace")[-1500:])
    data = outcome(lines, marks, images, start, command)
    context.keep(data, "stopped before its last epoch" if stopped else None)


def outcome(lines, marks, images, start, command):
    """An epoch's seconds contain its test; the first contains what a card sets up once."""
    epochs = [json.loads(line) for line in lines]
    lasted = [after - before for before, after in zip(marks, marks[1:])]
    accuracies = [epoch["test_accuracy"] for epoch in epochs]
    return {
        "command": command[1:],
        "epochs": len(epochs),
        "until_first_epoch": marks[0] - start,
        "seconds": marks[-1] - start,
        "epoch_seconds": lasted,
        "images_per_s": images / statistics.median(lasted) if lasted else None,
        "last": accuracies[-1],
        "best": max(accuracies),
    }


def epochs_for(context):
    """Epochs of about a minute, by the step that was measured before; ten where none was."""
    cases = context.before.get("training", {}).get("data", {}).get("cases", {})
    for case in cases.values():
        times = [
            min(values)
            for name, values in case["seconds"].items()
            if name.startswith("ours") and values
        ]
        if times:
            step = RESERVE * min(times) / case["settings"]["batch"]
            return max(2, min(60, int(SECONDS / (step * IMAGES))))
    return 10
