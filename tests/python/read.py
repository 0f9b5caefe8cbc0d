"""Opens safetensors files as any Python user would, with the `safetensors` package, and prints as
JSON what is in them.

    python read.py FILE…

{FILE: {"metadata": {…}, "tensors": {NAME: {"shape": […], "dtype": "float32", "finite": true, "sum":
…}}}}; integers also give
"counts", how often each value from 0 occurs, if they are a list without negative ones.
"""

import json
import sys

import numpy
from safetensors import safe_open


def described(array):
    facts = {
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "finite": bool(numpy.isfinite(array).all()),
        "sum": float(array.sum(dtype=numpy.float64)),
    }
    if array.ndim == 1 and array.dtype.kind == "i" and array.size and array.min() >= 0:
        facts["counts"] = numpy.bincount(array).tolist()
    return facts


def opened(path):
    with safe_open(path, framework="numpy") as file:
        return {
            "metadata": file.metadata(),
            "tensors": {name: described(file.get_tensor(name)) for name in file.keys()},
        }


json.dump({path: opened(path) for path in sys.argv[1:]}, sys.stdout)
