"""Where a PyTorch step's time goes: `operators.py FOLDER CASE VARIANT THREADS` prints a line of
JSON, {operator: seconds a step}."""

import json
import pathlib
import sys

import torch
import worker
from torch.profiler import ProfilerActivity, profile

STEPS = 4
# What libtorch's kernels are called, by what they do here.
KINDS = {
    "convolutions, forward": ("mkldnn_convolution",),
    "convolutions, backward": ("convolution_backward",),
    "batch norm": ("batch_norm",),
    "statistics": ("aten::mean", "var", "square", "pow"),
    "copies and fills": ("copy_", "fill_", "zero_", "clone", "contiguous"),
    "other element-wise work": (
        "add",
        "sub",
        "mul",
        "div",
        "relu",
        "threshold",
        "neg",
        "where",
        "roll",
        "slice",
        "sum",
    ),
}


def kind(name):
    return next(
        (kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "the rest"
    )


def main():
    folder, name, variant, threads = (
        pathlib.Path(sys.argv[1]),
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
    )
    torch.set_num_threads(threads)
    if variant != "public":
        worker.tune_allocator()
    cases = worker.read_cases()
    steps, _, _ = worker.subject(cases, cases["steps"][name], folder, variant)
    steps(2)()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        steps(STEPS)()
    sums = {}
    for event in profiler.key_averages():
        sums[kind(event.key)] = (
            sums.get(kind(event.key), 0.0) + event.self_cpu_time_total / 1e6 / STEPS
        )
    print(json.dumps(sums))


if __name__ == "__main__":
    main()
