"""Processes that run steps on demand, and rounds in which each of them has its turn while the
others wait."""

import array
import dataclasses
import json
import math
import os
import select
import subprocess
import time

import environment

from . import machine, variants

PYTHON_WORKER = machine.ROOT / "benches" / "python" / "worker.py"
# How far a loss and a gradient (in norm) may be from the first variant's.
#
# In float32: an inversion's gradient as the numeric fixtures of this project allow; that of the
# first layer's weights in training sums over every place of every image with much cancellation,
# behind batch statistics at every layer.
#
# With fewer bits a rounding is off by u = 2^-11 (TF32) or 2^-9 (bfloat16) at most, by u/√3 in
# norm; some sixty of them (three a convolution, twenty convolutions) add up to √60 u/√3 = 4.5 u
# of the activations: 0.2 and 0.9 %, five times which is allowed of the loss. ReLU then turns a
# share p ≈ 4.5 u · 0.8 of signs (near zero a standard normal has 0.4 of its mass a unit, on either
# side), which is √p of a gradient's norm a layer and √(17 p) of ResNet-18's seventeen: 0.17 and
# 0.35, twice which is allowed. Training's first layer cancels on top, so that its gradient is only
# told.
TOLERANCES = {
    "f32": (1e-4, {"inversion": 1e-3, "training": 1e-2}),
    "tf32": (1e-2, {"inversion": 0.35, "training": math.inf}),
    "half": (5e-2, {"inversion": 0.7, "training": math.inf}),
}


@dataclasses.dataclass
class Limits:
    """Points of `time.monotonic()` until which workers start, rounds begin, and anything runs."""

    start: float
    rounds: float
    end: float


class Failed(Exception):
    """A variant that cannot be run, or that computes something else."""


class Unavailable(Failed):
    """A variant that this build does not have."""


class Worker:
    """One case and one variant in a process of its own, so that its memory is its own too."""

    def __init__(self, folder, case, variant, options):
        name, engine, more = variants.split(variant)
        command = [options.python, PYTHON_WORKER, folder, case, variant, options.threads]
        command.append(options.device)
        if name == "ours":
            command = [machine.worker(), "serve", folder, case, "--variant", variant]
            command += ["--engine", engine or "plain", "--threads", options.threads]
            command += ["--device", options.device]
            command += ["--precision", "bf16"] if "bf16" in more else []
        # What `torch.compile` made is kept from run to run; the table says so where its time is not
        # that of a first run.
        kept = environment.cache() / "bench-compiled" / f"{options.device}-{case}-{variant}"
        self.kept = kept.exists()
        variables = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
        if name == "compiled":
            variables["TORCHINDUCTOR_CACHE_DIR"] = str(kept)
        self.variant, self.folder, self.device = variant, folder, options.device
        self.limits = getattr(options, "limits", None)
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        self.ready = {}

    def read(self):
        if self.limits:
            self.wait_for_line(self.limits.end if self.ready else self.limits.start)
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"the worker of `{self.variant}` ended (its message is above)")
        return json.loads(line)

    def wait_for_line(self, until):
        """One line is read at a time, so that nothing waits in Python's own buffer."""
        left = max(0.0, until - time.monotonic())
        if not select.select([self.process.stdout], [], [], left)[0]:
            raise Failed(f"the worker of `{self.variant}` gave no answer in the time there was")

    def start(self):
        """Waits until it can run steps."""
        self.ready = self.read()
        if reason := self.ready.get("unavailable"):
            raise Unavailable(reason)

    def run(self, steps):
        """Seconds a step."""
        try:
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the worker of `{self.variant}` ended (its message is above)") from None
        return self.read() / steps

    def gradient(self):
        values = array.array("f")
        values.frombytes((self.folder / f"gradient.{self.variant}.f32").read_bytes())
        return values

    def finish(self, may_fail=False):
        """Ends it; peak memory in MiB, how much of it came after the libraries were loaded, what it
        held of the card's, and what compiling took. With `may_fail` nothing of these where it does
        not end in time: what it measured counts."""
        held = machine.card_memory(self.device)
        self.process.stdin.close()
        try:
            last = self.read()
            self.process.wait(30)
        except (Failed, subprocess.TimeoutExpired):
            if not may_fail:
                raise
            return {}
        freed = machine.card_memory(self.device)
        peak, before = last["peak_kib"], self.ready["before_kib"]
        known = peak and before
        return {
            "peak_mib": peak / 1024 if known else math.nan,
            "above_mib": (peak - before) / 1024 if known else math.nan,
            "card_mib": held - freed if held and freed else None,
            "allocated_mib": last.get("allocated_mib"),
            "compile_seconds": self.ready.get("compile_seconds", 0.0),
            "kept": self.kept,
        }


def relative_difference(found, expected):
    square = sum((a - b) ** 2 for a, b in zip(found, expected, strict=True))
    return math.sqrt(square / sum(value * value for value in expected))


def check(worker, expected, task):
    """Loss and gradient of the first worker that told its own, and how far this one is from them.

    Raises `Failed` where it is further than rounding explains.
    """
    if "loss" not in worker.ready:
        return expected, {}
    loss, gradient = worker.ready["loss"], worker.gradient()
    if expected is None:
        return (loss, gradient), {}
    off = {
        "loss_off": abs(loss / expected[0] - 1),
        "gradient_off": relative_difference(gradient, expected[1]),
    }
    of_loss, of_gradient = TOLERANCES[variants.precision(worker.variant, worker.device)]
    if not (off["loss_off"] <= of_loss and off["gradient_off"] <= of_gradient[task]):
        raise Failed(
            f"`{worker.variant}` computes something else: loss {loss} for {expected[0]}, "
            f"gradient off by {off['gradient_off']:.1e} in norm"
        )
    return expected, off


def alternate(folder, case, settings, chosen, rounds, options, failures=None):
    """Seconds a step, {variant: [one a round]}, and the workers' facts {variant: {...}}.

    A variant that fails ends it all, or is noted in `failures` {variant: Failed} and left out. Of
    `options`, `limits` may be left out.
    """
    subprocess.run([machine.worker(), "save", folder, case], check=True)
    workers, facts, expected = [], {}, None
    try:
        for variant in chosen:
            workers.append(Worker(folder, case, variant, options))
        for worker in workers:
            try:
                worker.start()
                expected, facts[worker.variant] = check(worker, expected, settings["task"])
            except Failed as error:
                fail(worker, error, failures)
        running = [worker for worker in workers if worker.variant in facts]
        limits = getattr(options, "limits", None)
        seconds = rounds_of(running, settings["steps"], rounds, limits, failures)
        for worker in running:
            if worker.variant in seconds:
                facts[worker.variant].update(worker.finish(failures is not None))
        return seconds, facts
    finally:
        for worker in workers:
            worker.process.kill()


def fail(worker, error, failures):
    if failures is None:
        raise SystemExit(f"error: {error}")
    failures[worker.variant] = error
    worker.process.kill()


def rounds_of(workers, steps, rounds, limits=None, failures=None):
    """Turns of `steps` steps; a worker that fails has no more turns, and no times."""
    seconds = {worker.variant: [] for worker in workers}

    def turn(worker):
        if worker.variant not in seconds:
            return
        time.sleep(0.05)  # the threads of the one before stop spinning
        try:
            seconds[worker.variant].append(worker.run(steps))
        except Failed as error:
            # What it did before counts, if the time alone ran out.
            if not (limits and time.monotonic() >= limits.end and seconds[worker.variant]):
                del seconds[worker.variant]
            fail(worker, error, failures)

    for worker in workers:
        turn(worker)
    for values in seconds.values():
        values.clear()  # the first steps allocate
    for index in range(rounds):
        if limits and index and time.monotonic() > limits.rounds:
            break
        # Nobody is always first.
        first = index % max(len(workers), 1)
        for worker in workers[first:] + workers[:first]:
            turn(worker)
    return seconds


def operators(folder, case, variant, options):
    """Seconds a step of a PyTorch variant by kind of operator."""
    subprocess.run([machine.worker(), "save", folder, case], check=True)
    script = PYTHON_WORKER.with_name("operators.py")
    command = [options.python, script, folder, case, variant, options.threads]
    ran = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(ran.stdout.splitlines()[-1])
