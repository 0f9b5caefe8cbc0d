"""Processes that run steps on demand, and rounds in which each of them has its turn while the others wait."""
import array
import json
import math
import os
import subprocess
import time

from . import machine

RUST_WORKER = machine.ROOT / "target" / "release" / "examples" / "bench_worker"
PYTHON_WORKER = machine.ROOT / "benches" / "python" / "worker.py"
# As the numeric fixtures of this project allow for float32.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3


class Worker:
    """One case and one variant in a process of its own, so that its memory is its own too."""

    def __init__(self, folder, case, variant, options):
        engine = variant.removeprefix("ours-")
        command = [options.python, PYTHON_WORKER, folder, case, variant, str(options.threads)]
        if variant.startswith("ours-"):
            command = [RUST_WORKER, "serve", folder, case, "--engine", engine, "--threads", str(options.threads)]
        # Compiled kernels are not kept from run to run: compiling is part of what `torch.compile` costs.
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), TORCHINDUCTOR_CACHE_DIR=str(folder / "compiled"))
        self.variant, self.folder = variant, folder
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)
        self.ready = self.read()

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
        """What it left when it became ready; the next worker overwrites it."""
        values = array.array("f")
        values.frombytes((self.folder / "gradient.f32").read_bytes())
        return values

    def finish(self):
        """Ends it; peak memory in MiB, how much of it came after the libraries were loaded, and what it said of itself."""
        self.process.stdin.close()
        peak, before = self.read()["peak_kib"], self.ready["before_kib"]
        known = peak and before
        return {"peak_mib": peak / 1024 if known else math.nan, "above_mib": (peak - before) / 1024 if known else math.nan,
                "compile_seconds": self.ready.get("compile_seconds", 0.0), "version": self.ready["version"]}


def relative_difference(found, expected):
    square = sum((a - b) ** 2 for a, b in zip(found, expected, strict=True))
    return math.sqrt(square / sum(value * value for value in expected))


def check(worker, expected):
    """Fails unless the worker computes the same loss and the same gradient as the first one that said its own."""
    if "loss" not in worker.ready:
        return expected
    loss, gradient = worker.ready["loss"], worker.gradient()
    if expected is None:
        return loss, gradient
    off_loss, off_gradient = abs(loss / expected[0] - 1), relative_difference(gradient, expected[1])
    if not (off_loss <= LOSS_TOLERANCE and off_gradient <= GRADIENT_TOLERANCE):
        raise SystemExit(f"error: `{worker.variant}` computes something else: loss {loss} for {expected[0]}, "
                         f"gradient off by {off_gradient:.1e} in norm")
    return expected


def alternate(folder, case, variants, steps, rounds, options):
    """Seconds a step, {variant: [one a round]}, and the workers' facts {variant: {...}}."""
    subprocess.run([RUST_WORKER, "save", folder, case], check=True)
    workers = []
    try:
        expected = None
        for variant in variants:
            workers.append(Worker(folder, case, variant, options))
            expected = check(workers[-1], expected)
        seconds = rounds_of(workers, steps, rounds)
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
