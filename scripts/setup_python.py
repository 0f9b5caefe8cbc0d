#!/usr/bin/env python3
"""Puts a Python with `safetensors`, `numpy` and TensorBoard where the tests find it: `.python/` in
this checkout, a link into the user's cache.

Called by `make python` (and so by `make test`): the tests open what the stages write as a Python
user would. It makes a virtual environment with the versions of tests/python/requirements.txt (40 MB
to download), once for all checkouts; with one in the cache no network is needed. Needs Python 3.9+
and pip.

  FED_DISTILL_PYTHON   already set: the tests take that Python, and nothing is downloaded
  XDG_CACHE_HOME       where the cache lives (default ~/.cache)
"""
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import venv

from setup_libtorch import CHECKOUT, cache_folder, fail, link

REQUIREMENTS = CHECKOUT / "tests" / "python" / "requirements.txt"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def report(text):
    print(f"python: {text}", file=sys.stderr, flush=True)


def works(root):
    """True when its packages can be imported; a Python that was removed or updated leaves an
    environment that cannot."""
    packages = "import numpy, safetensors.numpy, tensorboard.program"
    try:
        return subprocess.run([root / "bin" / "python", "-c", packages],
                              capture_output=True).returncode == 0
    except OSError:
        return False


def build(root):
    """Installs beside `root`, which appears by one rename when it is whole."""
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # Without its own pip, which some systems (Debian) cannot give it; the pip at hand installs into
    # it.
    venv.create(partial, symlinks=True, with_pip=False)
    packages = partial / "lib" / f"python{VERSION}" / "site-packages"
    report("downloading safetensors, numpy and TensorBoard from PyPI, once for all checkouts")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--only-binary=:all:", "--target", str(packages),
               "--requirement", str(REQUIREMENTS)]
    # A warning that makes no sense here.
    quiet = dict(os.environ, PIP_ROOT_USER_ACTION="ignore")
    if subprocess.run(command, stdout=sys.stderr, env=quiet).returncode != 0:
        fail("pip could not install safetensors, numpy and TensorBoard (its own message is above)",
             "check the network and run `make python` again, or set FED_DISTILL_PYTHON to a Python "
             "that has them")
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def main():
    if os.environ.get("FED_DISTILL_PYTHON"):
        report(f"using {os.environ['FED_DISTILL_PYTHON']} (FED_DISTILL_PYTHON is set)")
        return
    # Packages are built for one version of Python; another list of them is another environment.
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
    cache = cache_folder()
    root = cache / f"python-{VERSION}-{wanted}"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not works(root):
                build(root)
                if not works(root):
                    fail(f"the packages that pip installed in {root} cannot be imported",
                         "set FED_DISTILL_PYTHON to a Python that has them "
                         "(tests/python/requirements.txt)")
                report(f"safetensors, numpy and TensorBoard are ready in {root}")
        link(CHECKOUT / ".python", root)
    except PermissionError as error:
        fail(f"setting up Python in {cache} failed: {error}",
             "set XDG_CACHE_HOME to a folder that you can write")
    except OSError as error:
        fail(f"setting up Python in {cache} failed: {error}",
             "free some space (200 MB) or set XDG_CACHE_HOME to a folder with room that you can "
             "write")


if __name__ == "__main__":
    main()
