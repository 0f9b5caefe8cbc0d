#!/usr/bin/env python3
"""Writes batches of CIFAR in the forms that Python's pickle has had; needs NumPy 2.

Each `batch_FORM` holds two images whose byte i is (7 i + 3) mod 251 over both, and the labels of
CIFAR-10 and CIFAR-100; `meta_FORM` holds their class names.
"""
import pathlib
import pickle
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
data = ((7 * np.arange(2 * 3072) + 3) % 251).astype(np.uint8).reshape(2, 3072)
batch = {
    b"batch_label": b"training batch 1 of 5", b"labels": [3, 1], b"fine_labels": [42, 99],
    b"coarse_labels": [7, 19], b"data": data, b"filenames": [b"a.png", b"b.png"],
}
meta = {
    b"num_vis": 3072, b"label_names": [b"ten%d" % i for i in range(10)],
    b"fine_label_names": [b"fine%d" % i for i in range(100)],
}


def write(form, objects):
    for name, contents in zip(["batch", "meta"], objects):
        (HERE / f"{name}_{form}").write_bytes(contents)


def python2(value):
    """Pickles as Python 2's cPickle does in protocol 2 (without its memo)."""
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(python2(item) for item in value) + b"e"
    if isinstance(value, bytes):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
    shape = b"".join(python2(length) for length in value.shape) + b"\x86"
    dtype = (b"cnumpy\ndtype\n" + python2(b"u1") + b"K\x00K\x01\x87R(K\x03" + python2(b"|")
             + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
    return (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + python2(b"b")
            + b"\x87R(K\x01" + shape + dtype + b"\x89" + python2(value.tobytes()) + b"tb")


write("python2", [b"\x80\x02" + python2(value) + b"." for value in (batch, meta)])
for protocol in (2, 4, 5):
    write(f"protocol{protocol}", [pickle.dumps(value, protocol) for value in (batch, meta)])
numpy1 = [pickle.dumps(value, 2).replace(b"cnumpy._core.", b"cnumpy.core.")
          for value in (batch, meta)]
write("numpy1", numpy1)
# What Python 3 makes of the official files: strings for keys.
text = {key.decode(): value for key, value in batch.items()}
write("strings", [pickle.dumps(text, 4), pickle.dumps(meta, 4)])
