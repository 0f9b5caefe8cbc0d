"""What the numbers were measured on."""
import os
import pathlib
import platform
import subprocess

INTERESTING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16")
ROOT = pathlib.Path(__file__).resolve().parents[2]


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu():
    """Model name and the vector extensions that matter."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    # Virtual machines hide the name of the model: family and model number say which it is.
    number = f"family {fields.get('cpu family')} model {fields.get('model')}"
    return f"{fields.get('model name', platform.machine())} ({number}; {' '.join(f for f in INTERESTING if f in flags)})"


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def describe(threads, versions, load):
    """Lines of a Markdown list."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = output_of("git", "describe", "--always", "--dirty")
    return [f"- {cpu()}; {cores()} cores, {threads} threads, {memory:.0f} GiB",
            f"- {platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}, {output_of('rustc', '--version')}, "
            f"{(output_of('g++', '--version').splitlines() or ['no g++'])[0]}",
            f"- {', '.join(sorted(versions))}; commit {commit}; load before: {load:.1f}"]
