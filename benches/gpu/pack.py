#!/usr/bin/env python3
"""Builds and packs what `make gpu-check` needs on another machine into the folder gpu/.

Stage binaries, the benchmarks' worker and the numeric tests, stripped; the numeric fixtures and
CIFAR-10 as JPEGs where FED_DISTILL_FIXTURES and FED_DISTILL_DATASETS name them. The other machine
needs this checkout, the folder, and a Python with torch 2.11.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import setting

LIMIT_MIB = 60
STAGES = ("split_data", "train_teachers", "generate_initial", "train_student")
RUNTIME = "libgomp.so.1"


def say(text):
    print(f"gpu-pack: {text}", file=sys.stderr, flush=True)


def build():
    """{place in the folder of binaries: executable}."""
    tests = [word for name in setting.TESTS for word in ("--test", name)]
    tests = setting.cargo_artifacts("test", "--release", "--no-run", *tests)
    built = setting.cargo_artifacts("build", "--release", "--bins", "--bench", "worker")
    chosen = {name: built["bin", name] for name in STAGES}
    chosen[setting.WORKER] = built["bench", "worker"]
    return chosen | {f"deps/{name}": tests["test", name] for name in setting.TESTS}


def stripped(executables, folder):
    for place, path in executables.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["strip", "-o", target, path], check=True)
        say(f"{place}: {target.stat().st_size / 2**20:.1f} MiB")


def runtime(executable):
    """This machine's OpenMP runtime, as the binary finds it."""
    lines = subprocess.run(["ldd", executable], capture_output=True, text=True).stdout.splitlines()
    for line in lines:
        name, _, path = line.strip().partition(" => ")
        if name == RUNTIME:
            return pathlib.Path(path.split(" (")[0])
    raise SystemExit(f"error: {executable} does not need {RUNTIME}")


def pack_binaries():
    executables = build()
    with tempfile.TemporaryDirectory(prefix="fed-distill-pack-") as name:
        folder = pathlib.Path(name)
        stripped(executables, folder)
        (folder / "lib").mkdir()
        shutil.copy(runtime(executables["train_teachers"]), folder / "lib" / RUNTIME)
        say("compressing")
        with tarfile.open(setting.ARCHIVE, "w:xz", preset=3) as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name)


def copied(source, target):
    """A copy that can be removed again, also of a tree that may only be read."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder in [target, *filter(pathlib.Path.is_dir, target.rglob("*"))]:
        folder.chmod(0o755)


def pack_data():
    data = setting.CARRIED / "data"
    fixtures = os.environ.get("FED_DISTILL_FIXTURES")
    if fixtures:
        copied(fixtures, data / "fixtures")
    cifar = pathlib.Path(os.environ.get("FED_DISTILL_DATASETS") or "nowhere") / "cifar10_jpeg"
    if cifar.is_dir():
        copied(cifar, data / "cifar10_jpeg")
    else:
        say("no CIFAR-10: FED_DISTILL_DATASETS names no folder with cifar10_jpeg")


def main():
    shutil.rmtree(setting.CARRIED, ignore_errors=True)
    setting.CARRIED.mkdir()
    pack_binaries()
    pack_data()
    (setting.CARRIED / "commit").write_text(setting.commit() + "\n")
    files = [path for path in setting.CARRIED.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    for path in sorted(files, key=lambda path: -path.stat().st_size)[:4]:
        say(f"{path.relative_to(setting.ROOT)}: {path.stat().st_size / 2**20:.1f} MiB")
    if size > LIMIT_MIB:
        raise SystemExit(f"error: gpu/ holds {size:.1f} MiB, more than {LIMIT_MIB}")
    say(f"gpu/ holds {size:.1f} MiB")


if __name__ == "__main__":
    main()
