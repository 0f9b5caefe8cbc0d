"""What the numbers were measured on."""

import os
import pathlib
import platform
import subprocess

INTERESTING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def binaries():
    """The folder of the release binaries: `BENCH_BINARIES`, below the checkout if relative."""
    return ROOT / (os.environ.get("BENCH_BINARIES") or "target/release")


def worker():
    """The Rust side's process: `BENCH_WORKER`, below the checkout if relative."""
    return ROOT / os.environ["BENCH_WORKER"]


def card_memory(device):
    """MiB in use on a CUDA device by all processes; None elsewhere, or where nobody can tell."""
    if not device.startswith("cuda"):
        return None
    index = device.partition(":")[2] or "0"
    query = ("--query-gpu=memory.used", "--format=csv,noheader,nounits")
    text = output_of("nvidia-smi", f"--id={index}", *query)
    return int(text) if text.isdecimal() else None


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu():
    """Model name and the vector extensions that matter."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = fields.get("flags", "").split()
    # Virtual machines hide the name of the model: family and model number say which it is.
    number = f"family {fields.get('cpu family')} model {fields.get('model')}"
    vectors = " ".join(flag for flag in INTERESTING if flag in flags)
    return f"{fields.get('model name', platform.machine())} ({number}; {vectors})"


def jiffies():
    """CPU time of all cores so far, and that part of it which a hypervisor gave to others."""
    try:
        values = list(map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
        return sum(values), values[7]
    except (OSError, ValueError, IndexError):
        return 0, 0


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def load():
    """How busy the machine is, for `describe`."""
    return jiffies(), os.getloadavg()[0]


def describe(threads, python, before):
    """Lines of a Markdown list; `python` is the interpreter of the Python side, `before` what
    `load` gave at the start."""
    (all_before, stolen_before), average = before
    (all_now, stolen_now) = jiffies()
    stolen = (stolen_now - stolen_before) / max(all_now - all_before, 1)
    torch = output_of(
        python, "-c", "import importlib.metadata as data; print(data.version('torch'))"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = output_of("git", "describe", "--always", "--dirty")
    return [
        f"- {cpu()}; {cores()} cores, {threads} threads, {memory:.0f} GiB",
        f"- {platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}, "
        f"{output_of('rustc', '--version')}, "
        f"{(output_of('g++', '--version').splitlines() or ['no g++'])[0]}",
        f"- PyTorch {torch} (Python side), libtorch 2.11.0 (ours); commit {commit}; load average "
        f"at the start: {average:.1f}; {100 * stolen:.0f} % of the CPU time went to other guests "
        "of the host",
    ]
