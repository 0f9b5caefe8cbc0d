"""A process that runs PyTorch's steps on demand: `worker.py FOLDER CASE VARIANT THREADS`.

Prints a line of JSON when it is ready, then answers each line `N` on stdin with the seconds N steps took, and an end of input with the
peak of its memory. The Rust worker speaks the same.
"""
import ctypes
import json
import pathlib
import platform
import sys
import time

import inversion
import torch
import training
from network import ResNet
from safetensors.torch import load_file


def tune_allocator():
    """glibc's allocator told to keep its memory, as the Rust binaries' does (`src/bin/allocator/mod.rs`)."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in ((-3, 2047 << 20), (-1, -1), (-2, 64 << 20)):
            if libc.mallopt(parameter, value) != 1:
                print(f"mallopt({parameter}, {value}) was refused", file=sys.stderr)


def memory_kib(key):
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
    except (OSError, StopIteration):
        return None


def read_cases():
    return json.loads((pathlib.Path(__file__).parent.parent / "cases.json").read_text())


def network(cases, case, folder, name):
    shape = cases["networks"][case["network"]]
    made = ResNet(shape["width"], shape["blocks"], cases["image"]["channels"], cases["image"]["classes"])
    made.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return made


def subject(cases, case, folder, variant):
    """The steps to time, as a function from a count to a function that runs them; what to check; compile time."""
    data = load_file(folder / "data.safetensors")
    teacher = network(cases, case, folder, "teacher")
    if case["task"] == "training":
        made = training.make(variant, teacher, data["pixels"], data["labels"], case["batch"])
        return (made.steps if hasattr(made, "steps") else lambda count: repeated(made.step, count)), made, 0.0
    student = network(cases, case, folder, "student") if case["student"] else None
    made, seconds = inversion.make(variant, teacher, student, data["images"], data["labels"], cases["loss"])
    return (lambda count: repeated(made.step, count)), made, seconds


def repeated(step, count):
    def run():
        for _ in range(count):
            step()
    return run


def main():
    folder, name, variant, threads = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    if variant != "public":
        tune_allocator()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cases = read_cases()
    imported = memory_kib("VmHWM")
    steps, made, compile_seconds = subject(cases, cases["steps"][name], folder, variant)
    ready = {"before_kib": imported, "compile_seconds": compile_seconds}
    if hasattr(made, "check"):
        ready["loss"], gradient = made.check()
        (folder / f"gradient.{variant}.f32").write_bytes(gradient.contiguous().numpy().tobytes())
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        run = steps(int(line))
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)
    print(json.dumps({"peak_kib": memory_kib("VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
