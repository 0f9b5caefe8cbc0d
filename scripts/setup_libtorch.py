#!/usr/bin/env python3
"""Puts libtorch where `cargo build` finds it: `.libtorch/` here, a link into the user's cache.

Called by `make setup` (and so by every target that builds). Needs Python 3.8+ and pip, nothing
else. It unpacks PyPI's torch wheel: for a CPU three wheels without their dependencies (530 MB to
download, 500 MB kept), for a machine with an NVIDIA GPU the wheel and its CUDA libraries (2.7 GB).
The cache is shared by all checkouts; an incomplete one is noticed and repaired.

  LIBTORCH, LIBTORCH_USE_PYTORCH     already set: that libtorch is used, nothing is downloaded
  FED_DISTILL_LIBTORCH=cpu|cuda      choose instead of looking for a GPU
  XDG_CACHE_HOME                     where the cache lives (default ~/.cache)
"""
import fcntl
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import zipfile

VERSION = "2.11.0"
CPU_WHEELS = [f"torch=={VERSION}", "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
# What a CPU build needs of those wheels: headers, the CPU libraries, and the two CUDA libraries
# that libtorch_cpu.so names.
CPU_KEEP = ("torch/include/", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so",
            "torch/lib/libgomp", "torch/version.py", "nvidia/cu13/lib/libcudart.so",
            "nvidia/cu13/lib/libcupti.so")
CUDA_KEEP = ("torch/include/", "torch/lib/", "torch/version.py", "nvidia/")
CUDA_DROP = ("torch/bin/", "torch/test/", "torch/distributed/", "torch/_inductor/",
             "torch/testing/", "triton/")
LINKED = ("libtorch_cpu.so", "libc10.so")
CHECKOUT = pathlib.Path(__file__).resolve().parent.parent


def report(text):
    print(f"libtorch: {text}", file=sys.stderr, flush=True)


def fail(text, hint):
    print(f"error: {text}\nhint: {hint}", file=sys.stderr)
    sys.exit(1)


def check_target_folder():
    """Refuses to build below a folder whose path has blanks: jemalloc's own build fails there."""
    folder = str(CHECKOUT / (os.environ.get("CARGO_TARGET_DIR") or "target"))
    if len(folder.split()) != 1:
        fail(f"nothing can be built in `{folder}`: the path has blanks",
             "set CARGO_TARGET_DIR to a folder whose path has none")


def chosen_by_environment():
    """True when the user has chosen a libtorch; torch-sys reads the same variables."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        report("using the PyTorch of the active Python (LIBTORCH_USE_PYTORCH is set)")
        return True
    folder = os.environ.get("LIBTORCH")
    if not folder:
        return False
    if not (pathlib.Path(folder) / "lib").is_dir():
        fail(f"LIBTORCH is set to `{folder}`, which has no `lib` folder",
             "point LIBTORCH at an unpacked libtorch 2.11.0, or unset it to have one downloaded")
    report(f"using {folder} (LIBTORCH is set)")
    return True


def variant():
    wanted = os.environ.get("FED_DISTILL_LIBTORCH", "auto")
    if wanted in ("cpu", "cuda"):
        return wanted
    if wanted != "auto":
        fail(f"FED_DISTILL_LIBTORCH is `{wanted}`", "allowed: auto, cpu, cuda")
    driver = pathlib.Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    return "cuda" if driver else "cpu"


def intact(root):
    """True when every unpacked file is there with the size it was unpacked with."""
    try:
        files = json.loads((root / "files.json").read_text())
        return bool(files) and all((root / name).stat().st_size == size
                                   for name, size in files.items())
    except (OSError, ValueError):
        return False


def wanted_file(kind, name):
    if kind == "cpu":
        return name.startswith(CPU_KEEP)
    return name.startswith(CUDA_KEEP) and not name.startswith(CUDA_DROP)


def download(kind, folder):
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:",
               "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311",
               "--abi", "abi3", "--abi", "none", "--dest", str(folder)]
    tags = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)]
    for tag in [*tags, "manylinux2014", "manylinux1", "linux"]:
        command += ["--platform", f"{tag}_x86_64"]
    command += ["--no-deps", *CPU_WHEELS] if kind == "cpu" else [f"torch=={VERSION}"]
    size = "530 MB" if kind == "cpu" else "2.7 GB"
    report(f"downloading {size} from PyPI, once for all checkouts")
    # pip checks every wheel against the hash in the index.
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        fail("pip could not download libtorch's wheels (its own message is above)",
             "check the network and run `make setup` again, or unpack libtorch 2.11.0 yourself "
             "and set LIBTORCH")


def unpack(kind, wheels, root):
    files = {}
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:  # extraction checks each member's CRC
            for member in archive.infolist():
                if not member.is_dir() and wanted_file(kind, member.filename):
                    archive.extract(member, root)
                    files[member.filename] = member.file_size
    if not any(name.endswith("libtorch_cpu.so") for name in files):
        fail("the downloaded wheels hold no libtorch_cpu.so",
             "remove the cache folder named above and try again")
    return files


def make_stage(root):
    """Makes the folder that torch-sys links against: only what every machine has, so that one
    binary serves CPU and CUDA."""
    lib = root / "stage" / "lib"
    lib.mkdir(parents=True)
    (root / "stage" / "include").symlink_to("../torch/include")
    (root / "stage" / "build-version").write_text(VERSION + "\n")
    for name in LINKED:
        (lib / name).symlink_to(f"../../torch/lib/{name}")
    for gomp in (root / "torch" / "lib").glob("libgomp*"):
        (lib / gomp.name).symlink_to(f"../../torch/lib/{gomp.name}")
    (lib / "libtorch.so").symlink_to("libtorch_cpu.so")


def build_cache(kind, root):
    """Downloads and unpacks beside `root`, which appears by one rename when it is whole."""
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    wheels = partial / "wheels"
    wheels.mkdir(parents=True)
    download(kind, wheels)
    report("unpacking")
    files = unpack(kind, wheels, partial)
    shutil.rmtree(wheels)
    make_stage(partial)
    (partial / "files.json").write_text(json.dumps(files))
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def cache_folder():
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "fed-distill"


def link(path, target):
    """Makes `path` in this checkout a link to `target`; returns whether it was another."""
    if path.is_symlink() and path.resolve() == target.resolve():
        return False
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        fail(f"{path} is a folder, and should be a link", "remove it, then try again")
    path.symlink_to(target)
    return True


def main():
    check_target_folder()
    if chosen_by_environment():
        return
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"no automatic libtorch for {platform.system()} {platform.machine()}",
             "install PyTorch 2.11.0 with pip and set LIBTORCH_USE_PYTORCH=1, or set LIBTORCH to "
             "an unpacked libtorch 2.11.0")
    kind = variant()
    cache = cache_folder()
    root = cache / f"libtorch-{VERSION}-{kind}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Two checkouts set up at once: one downloads, the other waits.
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not intact(root):
                if root.exists():
                    report(f"{root} is incomplete; fetching it again")
                build_cache(kind, root)
                report(f"{VERSION} ({kind}) is ready in {root}")
        if link(CHECKOUT / ".libtorch", root / "stage"):
            # Cargo does not see that the link leads elsewhere: another libtorch is another build.
            os.utime(CHECKOUT / "build.rs")
    except PermissionError as error:
        fail(f"setting up libtorch in {cache} failed: {error}",
             "set XDG_CACHE_HOME to a folder that you can write")
    except OSError as error:
        fail(f"setting up libtorch in {cache} failed: {error}",
             "free some space (CPU 1.1 GB while unpacking, CUDA 7 GB) or set XDG_CACHE_HOME to a "
             "folder with room that you can write")


if __name__ == "__main__":
    main()
