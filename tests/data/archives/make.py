#!/usr/bin/env python3
"""Packs a small image set with the archivers that people use, and arrays of MNIST's form.

Needs GNU tar and NumPy. `set.*` hold the same four grey images of 8×8 pixels; `sparse_*.tar` two
more, which are sparse files.
"""
import os
import pathlib
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib

import numpy as np

HERE = pathlib.Path(__file__).parent.resolve()


def png(pixels):
    chunk = lambda name, data: (struct.pack(">I", len(data)) + name + data
                                + struct.pack(">I", zlib.crc32(name + data)))
    rows = b"".join(b"\0" + pixels[row * 8:row * 8 + 8] for row in range(8))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


folder = pathlib.Path(tempfile.mkdtemp())
os.chdir(folder)
for at, name in enumerate(["train/a/1", "train/b/1", "test/a/1", "test/b/1"]):
    path = folder / "set" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(bytes((7 * i + at) % 251 for i in range(64))))
for mode in ["gz", "xz", "bz2"]:
    with tarfile.open(HERE / f"set.tar.{mode}", f"w:{mode}") as archive:
        archive.add("set")
with zipfile.ZipFile(HERE / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(pathlib.Path("set").rglob("*")):
        archive.write(path)

# A black bitmap of 128×128 pixels with a hole.
bmp = (b"BM" + struct.pack("<IHHI", 54 + 49152, 0, 0, 54)
       + struct.pack("<IiiHHIIiiII", 40, 128, 128, 1, 24, 0, 49152, 0, 0, 0, 0))
for name in ["train/a", "train/b", "test/a"]:
    path = folder / "sparse" / name / "1.bmp"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(bmp)
        file.truncate(54 + 49152)
for form in ["gnu", "posix"]:
    subprocess.run(["tar", "-S", f"--format={form}", "-cf", HERE / f"sparse_{form}.tar", "sparse"],
                   check=True)

images = lambda count, start: ((7 * np.arange(count * 64) + start) % 251).astype(
    np.uint8).reshape(count, 8, 8)
arrays = dict(x_train=images(20, 0), y_train=np.arange(20) % 10, x_test=images(10, 3),
              y_test=(np.arange(10) % 10).astype(np.uint8))
np.savez(HERE / "stored.npz", **arrays)
np.savez_compressed(HERE / "deflated.npz", **arrays)
shutil.rmtree(folder)
