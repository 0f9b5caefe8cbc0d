#!/usr/bin/env python3
"""Sets up the Python that PyTorch is benchmarked with: a virtual environment in the user's cache,
shared by all checkouts.

Prints the path of its interpreter. Needs Python 3.10+ with pip and venv.

  BENCH_PYTHON     an interpreter that can import torch, numpy, safetensors and PIL already: used
                     as it is
  XDG_CACHE_HOME   where the cache lives (default ~/.cache)
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

# The libtorch that this project links against.
TORCH = "torch==2.11.0"
OTHERS = ["numpy==2.2.6", "safetensors==0.6.2", "pillow==12.0.0", "packaging"]
# A tenth of the download, where it can be reached: PyPI's wheel is the CUDA build, and imports only
# with all of CUDA beside it.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE = "import torch, numpy, safetensors.torch, PIL.Image"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def fail(text, hint):
    print(f"error: {text}\nhint: {hint}", file=sys.stderr)
    sys.exit(1)


def cache():
    """The user's folder for what is made once for all checkouts."""
    return (
        pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
        / "fed-distill"
    )


def problem(python):
    """Why this interpreter will not do; None where it will."""
    if not pathlib.Path(python).exists():
        return "there is no such file"
    ran = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
    return None if ran.returncode == 0 else (ran.stderr.strip().splitlines() or ["no message"])[-1]


def pip(python, *arguments):
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, stdout=sys.stderr).returncode == 0


def install(root):
    """Everything happens in `root`; a half-finished environment fails the probe and is made
    again."""
    shutil.rmtree(root, ignore_errors=True)
    if subprocess.run([sys.executable, "-m", "venv", str(root)], stdout=sys.stderr).returncode:
        fail(
            "python3 could not make a virtual environment (its own message is above)",
            "on Debian install python3-venv, or set BENCH_PYTHON to an interpreter with torch",
        )
    python = str(root / "bin" / "python")
    say(
        f"installing {TORCH} in {root}, once for all checkouts "
        "(190 MB; 2.7 GB where only PyPI can be reached)"
    )
    small = pip(python, "--retries", "0", "--timeout", "20", "--index-url", CPU_INDEX, TORCH)
    if not (small or pip(python, TORCH)) or not pip(python, *OTHERS):
        fail(
            "pip could not install the Python side of the benchmark (its own message is above)",
            "check the network and run `make bench` again, or set BENCH_PYTHON to an interpreter "
            "with torch",
        )


def interpreter():
    """Path of a Python with everything installed."""
    chosen = os.environ.get("BENCH_PYTHON")
    if chosen:
        if why := problem(chosen):
            fail(
                f"BENCH_PYTHON is `{chosen}`, which cannot run `{PROBE}`: {why}",
                "unset it to have an environment made",
            )
        return chosen
    if sys.version_info < (3, 10):
        fail(
            f"PyTorch 2.11 needs Python 3.10 or later, this is {sys.version.split()[0]}",
            "set BENCH_PYTHON",
        )
    root = cache() / f"bench-python-{TORCH.split('==')[1]}"
    python = str(root / "bin" / "python")
    cache().mkdir(parents=True, exist_ok=True)
    with open(
        cache() / "lock-bench", "w"
    ) as lock:  # two checkouts at once: one installs, the other waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        if problem(python):
            install(root)
            if why := problem(python):
                fail(
                    f"{python} was set up and still cannot run `{PROBE}`: {why}",
                    f"remove {root} and try again",
                )
    return python


if __name__ == "__main__":
    print(interpreter())
