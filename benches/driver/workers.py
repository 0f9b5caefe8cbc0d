"""Processes that run steps on demand, and rounds in which each of them has its turn while the others wait."""
import array
import json
import math
import os
import subprocess
import time

import environment

from . import machine

RUST_WORKER = machine.ROOT / "target" / "release" / "bench_worker"
PYTHON_WORKER = machine.ROOT / "benches" / "python" / "worker.py"
# In float32, relative (of a gradient: in norm). An inversion's gradient as the numeric fixtures of
# this project allow; that of the first layer's weights in training sums over every place of every
# image with much cancellation, behind batch statistics at every layer.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, {"inversion": 1e-3, "training": 1e-2}


class Worker:
    """One case and one variant in a process of its own, so that its memory is its own too."""

    def __init__(self, folder, case, variant, options):
        command = [options.python, PYTHON_WORKER, folder, case, variant, options.threads]
        name, _, engine = variant.partition("-")
        if name == "ours":
            command = [RUST_WORKER, "serve", folder, case, "--variant", variant, "--engine", engine or "plain", "--threads", options.threads]
        # What `torch.compile` made is kept from run to run; the table says so where its time is not
        # that of a first run.
        kept = environment.cache() / "bench-compiled" / f"{case}-{variant}"
        self.kept = kept.exists()
        variables = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
        if name.startswith("compiled"):
            variables["TORCHINDUCTOR_CACHE_DIR"] = str(kept)
        self.variant, self.folder = variant, folder
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=variables)
        self.ready = {}

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: the worker of `{self.variant}` ended (its message is above)")
        return json.loads(line)

    def run(self, steps):
        """Seconds a step."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self.read() / steps

    def gradient(self):
        values = array.array("f")
        values.frombytes((self.folder / f"gradient.{self.variant}.f32").read_bytes())
        return values

    def finish(self):
        """Ends it; peak memory in MiB, how much of it came after the libraries were loaded, and what compiling took."""
        self.process.stdin.close()
        peak, before = self.read()["peak_kib"], self.ready["before_kib"]
        known = peak and before
        return {"peak_mib": peak / 1024 if known else math.nan, "above_mib": (peak - before) / 1024 if known else math.nan,
                "compile_seconds": self.ready.get("compile_seconds", 0.0), "kept": self.kept}


def relative_difference(found, expected):
    square = sum((a - b) ** 2 for a, b in zip(found, expected, strict=True))
    return math.sqrt(square / sum(value * value for value in expected))


def check(worker, expected, tolerance):
    """Fails unless the worker computes the same loss and the same gradient as the first one that said its own."""
    if "loss" not in worker.ready:
        return expected
    loss, gradient = worker.ready["loss"], worker.gradient()
    if expected is None:
        return loss, gradient
    off_loss, off_gradient = abs(loss / expected[0] - 1), relative_difference(gradient, expected[1])
    if not (off_loss <= LOSS_TOLERANCE and off_gradient <= tolerance):
        raise SystemExit(f"error: `{worker.variant}` computes something else: loss {loss} for {expected[0]}, "
                         f"gradient off by {off_gradient:.1e} in norm")
    return expected


def alternate(folder, case, settings, variants, rounds, options):
    """Seconds a step, {variant: [one a round]}, and the workers' facts {variant: {...}}."""
    subprocess.run([RUST_WORKER, "save", folder, case], check=True)
    workers = []
    try:
        expected = None
        for variant in variants:
            workers.append(Worker(folder, case, variant, options))
        for worker in workers:
            worker.ready = worker.read()
            expected = check(worker, expected, GRADIENT_TOLERANCE[settings["task"]])
        seconds = rounds_of(workers, settings["steps"], rounds)
        return seconds, {worker.variant: worker.finish() for worker in workers}
    finally:
        for worker in workers:
            worker.process.kill()


def rounds_of(workers, steps, rounds):
    for worker in workers:
        worker.run(1 if steps == 1 else 2)  # the first steps allocate
    seconds = {worker.variant: [] for worker in workers}
    for turn in range(rounds):
        # Nobody is always first.
        for worker in workers[turn % len(workers):] + workers[:turn % len(workers)]:
            time.sleep(0.05)  # the threads of the one before stop spinning
            seconds[worker.variant].append(worker.run(steps))
    return seconds


def operators(folder, case, variant, options):
    """Seconds a step of a PyTorch variant by kind of operator."""
    subprocess.run([RUST_WORKER, "save", folder, case], check=True)
    command = [options.python, PYTHON_WORKER.with_name("operators.py"), folder, case, variant, options.threads]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.splitlines()[-1])
