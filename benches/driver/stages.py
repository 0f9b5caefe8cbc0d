"""What is measured on the stage binaries as they are: a whole pipeline against PyTorch, start-up,
memory with many teachers."""

import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from . import machine, tables

STAGES = ("split_data", "train_teachers", "generate_initial", "train_student")
PIPELINE = machine.ROOT / "benches" / "python" / "pipeline.py"


def run(command, *, may_fail=False):
    """Seconds, peak memory in MiB and standard output of a command that runs in the project's
    folder."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(map(str, command)), cwd=machine.ROOT, stdout=out, stderr=errors
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and not may_fail:
            errors.seek(0)
            raise SystemExit(
                f"error: {' '.join(map(str, command))}\n"
                + errors.read().decode(errors="replace")[-2000:]
            )
        out.seek(0)
        return seconds, usage.ru_maxrss / 1024, out.read().decode()


def ours(folder, settings, engine, threads):
    """The four stages, one process each, as `make demo` runs them."""
    overrides = [
        "+experiment=demo",
        "overwrite=true",
        f"threads={threads}",
        f"split.save_path={folder}/split.json",
        f"teacher.save_folder={folder}/teachers",
        f"initial.save_path={folder}/initial.safetensors",
        f"student.save_folder={folder}/student",
        f"teacher.epochs={settings['teacher_epochs']}",
        f"deep_inv.di.grad_updates_batch={settings['inversion_steps']}",
        f"student.epochs={settings['student_epochs']}",
        f"deep_inv.engine={engine}",
    ]
    parts = {stage: run([machine.binaries() / stage, *overrides]) for stage in STAGES}
    epochs = json.loads((pathlib.Path(folder) / "student" / "metrics.json").read_text())["epochs"]
    return {
        "seconds": sum(part[0] for part in parts.values()),
        "peak_mib": max(part[1] for part in parts.values()),
        "accuracy": epochs[-1]["test_accuracy"],
        "parts": {stage: part[0] for stage, part in parts.items()},
    }


def python(folder, settings, interpreter, threads):
    seconds, peak, out = run([interpreter, PIPELINE, str(threads), json.dumps(settings)])
    said = json.loads(out.splitlines()[-1])
    return {
        "seconds": seconds,
        "peak_mib": peak,
        "accuracy": said["accuracy"],
        "parts": said["parts"],
    }


def pipeline(folder, settings, options, rounds):
    """The pipeline of `make demo`, in turns; {variant: [result a round]}."""
    engine = options.engines[-1]
    results = {"public": [], f"ours-{engine}": []}
    for _ in range(rounds):
        results["public"].append(python(folder, settings, options.python, options.threads))
        results[f"ours-{engine}"].append(ours(folder, settings, engine, options.threads))
    return results


def pipeline_table(results):
    base, rows = [result["seconds"] for result in results["public"]], []
    for variant, each in results.items():
        seconds = [result["seconds"] for result in each]
        parts = ", ".join(
            f"{name} {statistics.median(r['parts'][name] for r in each):.1f} s"
            for name in each[0]["parts"]
        )
        rows.append(
            [
                tables.label(variant),
                f"{statistics.median(seconds):.1f} s",
                tables.spread(seconds),
                tables.ratio(base, seconds),
                f"{max(r['peak_mib'] for r in each):.0f}",
                f"{100 * statistics.mean(r['accuracy'] for r in each):.1f} %",
                parts,
            ]
        )
    return tables.markdown(
        ["", "median", "quartiles", "(a) ÷ this", "peak MiB", "student", "of it"], rows
    )


def start_up(folder, rounds):
    """Seconds each binary needs for its help, for the composed configuration, and to come up and
    find its first input missing."""
    nowhere = f"{folder}/nowhere"
    kinds = {
        "--help": ["--help"],
        "--cfg job": ["+experiment=demo", "--cfg", "job"],
        "up to its first file": [
            "+experiment=demo",
            f"split.save_path={nowhere}/split.json",
            f"teacher.save_folder={nowhere}/teachers",
            f"initial.save_path={nowhere}/initial.safetensors",
            f"student.save_folder={nowhere}/student",
        ],
    }
    rows = []
    for stage in STAGES:
        row = [f"`{stage}`"]
        for kind, arguments in kinds.items():
            if kind.startswith("up to") and stage == "split_data":
                row.append("")  # it needs no file
                continue
            seconds = [
                run([machine.binaries() / stage, *arguments], may_fail=True)[0]
                for _ in range(rounds)
            ]
            row.append(f"{statistics.median(seconds):.2f} s (≤ {max(seconds):.2f})")
        rows.append(row)
    return tables.markdown(["", *kinds], rows)


def many_teachers(folder, engine, threads, counts=(5, 20, 100), sampled=3):
    """Peak memory of `generate_initial` with `sampled` of N ResNet-18 teachers a step: one
    teacher's file under N names."""
    folder = pathlib.Path(folder)
    common = [
        "dataset=digits",
        "dataset.size=16",
        "dataset.max_train=64",
        "dataset.max_test=32",
        "model=resnet18",
        f"threads={threads}",
    ]
    first = folder / "one"
    run(
        [
            machine.binaries() / "train_teachers",
            *common,
            f"teacher.save_folder={first}",
            "teacher.num_teachers=1",
            "teacher.epochs=1",
            "overwrite=true",
        ]
    )
    weights = first / "model_teacher0.safetensors"
    rows = []
    for count in counts:
        teachers = folder / f"{count}"
        teachers.mkdir()
        for node in range(count):
            os.link(weights, teachers / f"model_teacher{node}.safetensors")
        row = [str(count), f"{count * weights.stat().st_size / 2**20:.0f} MiB"]
        for held in (str(sampled), "null"):
            command = [
                machine.binaries() / "generate_initial",
                *common,
                f"teacher.save_folder={teachers}",
                f"teacher.num_teachers={count}",
                "deep_inv.teachers.mode=sample",
                f"deep_inv.teachers.n={sampled}",
                "deep_inv.batch_size=32",
                "deep_inv.di.grad_updates_batch=10",
                "initial.num_batches=1",
                f"teacher.in_memory={held}",
                f"initial.save_path={folder}/{count}_{held}.safetensors",
                f"deep_inv.engine={engine}",
            ]
            seconds, peak, _ = run(command)
            row += [f"{peak:.0f} MiB", f"{seconds:.1f} s"]
        rows.append(row)
    return tables.markdown(
        [
            "teachers",
            "their files",
            f"peak memory, {sampled} held",
            "whole stage",
            "peak memory, 2 GiB held (default)",
            "whole stage",
        ],
        rows,
    )


def distillation(folder, threads, rounds, counts=(3, 10, 20)):
    """Seconds of `train_student` from N teachers, one teacher's file under N names, in turns:
    without asking them (cross-entropy), asking them for every image, and keeping the logits of the
    views that come again. 1,280 images in batches of 128, crops of 2 pixels, 60 epochs."""
    folder = pathlib.Path(folder)
    common = [
        "dataset=digits",
        "dataset.size=32",
        "model=lenet5_unpadded",
        f"threads={threads}",
        "overwrite=true",
        "deep_inv.batch_size=128",
        "deep_inv.di.grad_updates_batch=1",
        "initial.num_batches=10",
        "student.new_batches_per_epoch=0",
        "student.batch_size=128",
        "student.epochs=60",
        "student.eval_every=60",
        "student.optimizer.lr=0.01",
        "student.augment={crop: 2, flip: false}",
        "student.distill.temperature=4",
        "tensorboard=false",
    ]
    first = folder / "one"
    train = ["train_teachers", *common, f"teacher.save_folder={first}", "teacher.epochs=1"]
    run([machine.binaries() / train[0], *train[1:], "teacher.num_teachers=1"])
    weights = first / "model_teacher0.safetensors"
    ways = {
        "cross-entropy": ["student.objective=cross_entropy"],
        "every image": ["student.objective=distill", "student.distill.cache_mib=0"],
        "kept": ["student.objective=distill"],
    }
    rows = []
    for count in counts:
        teachers = folder / f"{count}"
        teachers.mkdir()
        for node in range(count):
            os.link(weights, teachers / f"model_teacher{node}.safetensors")
        given = [
            *common,
            f"teacher.save_folder={teachers}",
            f"teacher.num_teachers={count}",
            f"initial.save_path={folder}/{count}.safetensors",
            f"student.save_folder={folder}/student",
        ]
        run([machine.binaries() / "generate_initial", *given])
        took, peaks, students = {way: [] for way in ways}, {way: 0 for way in ways}, {}
        for _ in range(rounds):
            for way, more in ways.items():
                command = [machine.binaries() / "train_student", *given, *more]
                seconds, peak, _ = run(command)
                took[way].append(seconds)
                peaks[way] = max(peaks[way], peak)
                students[way] = (folder / "student" / "student.safetensors").read_bytes()
        if students["every image"] != students["kept"]:
            raise SystemExit("error: the student depends on what is kept")
        alone, asked, kept = (statistics.median(took[way]) for way in ways)
        rows.append(
            [
                str(count),
                f"{alone:.1f} s",
                f"{asked:.1f} s ({tables.spread(took['every image'])})",
                f"{100 * (1 - alone / asked):.0f} %",
                f"{kept:.1f} s ({tables.spread(took['kept'])})",
                f"{100 * (1 - alone / kept):.0f} %",
                f"{asked / kept:.2f}",
                f"{peaks['every image']:.0f} MiB",
                f"{peaks['kept']:.0f} MiB",
            ]
        )
    return tables.markdown(
        [
            "teachers",
            "cross-entropy",
            "all logits computed",
            "teachers' share",
            "logits kept",
            "teachers' share",
            "times as fast",
            "peak memory",
            "with logits kept",
        ],
        rows,
    )
