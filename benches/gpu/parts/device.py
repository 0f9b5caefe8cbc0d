"""The device: its name and driver, versions, and the rates that PyTorch measures on it."""

import json
import platform
import subprocess

import setting
from driver import machine

# Prints a line of JSON; `sys.argv`: device, side of the square matrices, MiB to copy.
MEASURE = """
import json, platform, statistics, sys, time
import torch
device, side, mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cuda = device.startswith("cuda")

def seconds(work, count=10):
    wait = torch.cuda.synchronize if cuda else lambda: None
    for _ in range(3):
        work()
    each = []
    for _ in range(count):
        wait()
        start = time.perf_counter()
        work()
        wait()
        each.append(time.perf_counter() - start)
    return statistics.median(each)

def rate(kind):
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    return 2 * side ** 3 / seconds(lambda: a @ b)

found = {"python": platform.python_version(), "torch": torch.__version__}
if cuda:
    properties = torch.cuda.get_device_properties(device)
    found |= {"name": properties.name, "memory_gib": properties.total_memory / 2**30,
              "multiprocessors": properties.multi_processor_count,
              "capability": f"{properties.major}.{properties.minor}",
              "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
found["bf16_per_s"] = rate(torch.bfloat16)
found["f32_per_s"] = rate(torch.float32)
if cuda:
    torch.backends.cuda.matmul.allow_tf32 = True
    found["tf32_per_s"] = rate(torch.float32)
source = torch.randn(mib * 2**18, device=device)
target = torch.empty_like(source)
found["copied_bytes_per_s"] = 2 * source.nbytes / seconds(lambda: target.copy_(source))
try:
    import triton
    found["triton"] = triton.__version__
except ImportError:
    pass
print(json.dumps(found))
"""


def driver():
    query = ("nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.used")
    return machine.output_of(*query, "--format=csv,noheader")


def run(context):
    host = f"{machine.cpu()}; {machine.cores()} cores; {platform.system()} {platform.release()}"
    data = {
        "host": f"{host}, {' '.join(platform.libc_ver())}",
        "commit": setting.commit(),
        "driver": driver() if context.device != "cpu" else "",
    }
    context.keep(data)
    if context.python is None:
        missing = "no Python with PyTorch here: no rates, and nothing to compare with"
        data["note"] = missing
        context.keep(data, missing if context.device != "cpu" else None)
        return
    side, mib = ("256", "8") if context.tiny else ("8192", "4096")
    command = [context.python, "-c", MEASURE, context.device, side, mib]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr[-1500:])
    data["measured"] = json.loads(ran.stdout.splitlines()[-1])
    context.keep(data)
