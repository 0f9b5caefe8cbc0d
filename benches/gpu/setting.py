"""Where the check runs: which binaries, which Python with PyTorch, which libraries."""

import json
import os
import pathlib
import subprocess
import sys
import tarfile

BENCHES = pathlib.Path(__file__).resolve().parents[1]
ROOT = BENCHES.parent
sys.path[:0] = [str(BENCHES), str(BENCHES / "python")]
import environment  # noqa: E402
from driver import machine  # noqa: E402

# What `pack.py` fills, to be carried to another machine.
CARRIED = ROOT / "gpu"
ARCHIVE = CARRIED / "binaries.tar.xz"
# The name of the benchmarks' worker among them.
WORKER = "bench_worker"
# The numeric tests, which run on the device that FED_DISTILL_TEST_DEVICE names: test targets, and
# which of their tests.
TESTS = {
    "unit": ["oracle::", "model::oracle", "inversion::", "train::", "precision::"],
    "federated": [],
}
TINY_TESTS = {"unit": ["oracle::"]}


def commit():
    """What the binaries were built from: this checkout's commit, or that of the carried ones."""
    if os.environ.get("FED_DISTILL_CHECKOUT"):
        return (CARRIED / "commit").read_text().strip()
    return machine.output_of("git", "describe", "--always", "--dirty")


def torch_python():
    """A Python with PyTorch; None where there is none: nothing is installed for a check."""
    made = environment.cache() / f"bench-python-{environment.TORCH.split('==')[1]}" / "bin/python"
    for python in (os.environ.get("BENCH_PYTHON"), sys.executable, str(made)):
        if python and environment.problem(python) is None:
            return python
    return None


def library_folders(python):
    """The folders of that Python's torch libraries and of NVIDIA's wheels beside it."""
    code = "import torch, os; print(os.path.dirname(torch.__file__))"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    torch = pathlib.Path(ran.stdout.splitlines()[-1])
    nvidia = sorted(torch.parent.glob("nvidia/*/lib"))
    return [torch / "lib", *nvidia]


def unpack(folder):
    """Unpacks the carried binaries into `folder`, laid out as cargo's release folder."""
    if not ARCHIVE.exists():
        raise SystemExit(
            f"error: there is no {ARCHIVE}\nhint: `make gpu-pack` on the machine that builds, then "
            "carry the folder gpu/ here; without --carried this checkout's own build is used"
        )
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def use_carried(folder, python):
    """Points this process's children at carried binaries and at the libraries of `python`.

    The binaries' own run path names the machine that built them. torch/lib comes first and has an
    OpenMP runtime of its own (libgomp.so.1); the copy that was carried comes last, for a torch
    without one. Two runtimes in one process are two pools of threads, which costs CPU time and
    nothing else.
    """
    if python is None:
        raise SystemExit("error: no Python with torch 2.11 here\nhint: set BENCH_PYTHON to one")
    folders = [*library_folders(python), folder / "lib"]
    os.environ["LD_LIBRARY_PATH"] = ":".join(map(str, folders))
    os.environ["BENCH_BINARIES"] = str(folder)
    os.environ["BENCH_WORKER"] = str(folder / WORKER)
    os.environ["FED_DISTILL_CHECKOUT"] = str(ROOT)
    fixtures = CARRIED / "data" / "fixtures"
    if fixtures.is_dir():
        os.environ["FED_DISTILL_FIXTURES"] = str(fixtures)


def cargo_artifacts(*arguments):
    """Builds, and returns {(kind, name): path} of the executables, by cargo's own messages."""
    command = [os.environ.get("CARGO", "cargo"), *arguments, "--message-format=json"]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"error: `{' '.join(command)}` failed (its message is above)")
    found = {}
    for line in ran.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable"):
            target = message["target"]
            found[target["kind"][0], target["name"]] = pathlib.Path(message["executable"])
    return found


def test_executables(names):
    """{name: path} of test executables: the carried ones, or this checkout's, built if need be."""
    carried = os.environ.get("FED_DISTILL_CHECKOUT")
    if carried:
        folder = pathlib.Path(os.environ["BENCH_BINARIES"]) / "deps"
        return {name: folder / name for name in names if (folder / name).exists()}
    targets = [word for name in names for word in ("--test", name)]
    # With the features of `make test`, which has built them.
    features = os.environ.get("FEATURES", "net")
    built = cargo_artifacts("test", "--release", "--no-run", "--features", features, *targets)
    return {name: built["test", name] for name in names}
