"""A process that runs PyTorch's steps on demand: `worker.py FOLDER CASE VARIANT THREADS [DEVICE]`.

Prints a line of JSON when it is ready, then answers each line `N` on stdin with the seconds N steps
took, and an end of input with the peak of its memory. The Rust worker speaks the same.
"""

import ctypes
import json
import pathlib
import platform
import sys
import time

import inversion
import network as networks
import torch
import training
from precision import synchronize
from safetensors.torch import load_file


def tune_allocator():
    """Tells glibc's allocator to keep its memory, as the Rust binaries' does
    (`src/bin/allocator/mod.rs`)."""
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
    """`benches/cases.json`, with the cases of `make gpu-check` among the others."""
    cases = json.loads((pathlib.Path(__file__).parent.parent / "cases.json").read_text())
    return {**cases, "steps": {**cases["steps"], **cases["gpu"]}}


def network(cases, case, folder, name, device):
    made = networks.make(cases["networks"][case["network"]], cases["image"])
    made.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return made.to(device)


def subject(cases, case, folder, variant, device="cpu"):
    """The steps to time, as a function from a count to a function that runs them; what to check;
    compile time."""
    data = load_file(folder / "data.safetensors", device=device)
    teacher, labels = network(cases, case, folder, "teacher", device), data["labels"]
    if case["task"] == "training":
        batch, lr = case["batch"], case.get("lr", 0.1)
        made, seconds = training.make(variant, teacher, data["pixels"], labels, batch, lr)
    else:
        student = network(cases, case, folder, "student", device) if case["student"] else None
        images, scales = data["images"], cases["loss"]
        made, seconds = inversion.make(variant, teacher, student, images, labels, scales)
    if hasattr(made, "steps"):
        return made.steps, made, seconds
    return (lambda count: repeated(made.step, count)), made, seconds


def repeated(step, count):
    def run():
        for _ in range(count):
            step()

    return run


def peaks(device):
    """Peak of the process's memory, and of what PyTorch had of the card's."""
    known = {"peak_kib": memory_kib("VmHWM")}
    if torch.device(device).type == "cuda":
        known["allocated_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return known


def main():
    folder, name, variant, threads = sys.argv[1:5]
    folder, device = pathlib.Path(folder), sys.argv[5] if len(sys.argv) > 5 else "cpu"
    if not variant.startswith("public"):
        tune_allocator()
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    # As the public code has it; every shape stays the same here.
    torch.backends.cudnn.benchmark = True
    cases = read_cases()
    imported = memory_kib("VmHWM")
    steps, made, compile_seconds = subject(cases, cases["steps"][name], folder, variant, device)
    ready = {"before_kib": imported, "compile_seconds": compile_seconds}
    if hasattr(made, "check"):
        ready["loss"], gradient = made.check()
        values = gradient.float().contiguous().cpu().numpy()
        (folder / f"gradient.{variant}.f32").write_bytes(values.tobytes())
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        run = steps(int(line))
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        print(time.perf_counter() - start, flush=True)
    print(json.dumps(peaks(device)), flush=True)


if __name__ == "__main__":
    main()
