#!/usr/bin/env python3
"""Finds imports against the layers of `src/lib`: `make lint`.

A module may import modules of its own layer and of the layers below it, and no two modules of a
layer may import each other, directly or by way of others.
"""
import pathlib
import re
import sys

# From the bottom; a module is a folder or file of `src/lib`.
LAYERS = [
    ["error", "setting", "words"],
    ["artifact", "runtime"],
    ["data", "partition", "model", "optim", "train", "inversion", "generator", "distill",
     "federated"],
    ["report", "config"],
    ["run"],
    ["network"],
    ["stage", "inspect"],
    ["cli"],
]
ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "lib"
LAYER = {module: number for number, layer in enumerate(LAYERS) for module in layer}


def without_comments(text):
    """Returns the text without its line comments: documentation may name any module."""
    return re.sub(r"(^|\s)//[^\n]*", r"\1", text)


def items(text, start):
    """Yields (offset, path) of each item of the braces that open at `start`: of `{a::b, c}`,
    `a::b` and `c`."""
    depth, begin = 0, start + 1
    for offset in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[offset], 0)
        if depth == 0 or (depth == 1 and text[offset] == ","):
            item = text[begin:offset]
            yield begin + len(item) - len(item.lstrip()), item.strip()
            begin = offset + 1
        if depth == 0:
            return


def imports(path):
    """Yields (line, module) of each module of the crate that a file names."""
    text = without_comments(path.read_text(encoding="utf-8"))
    inside = list(path.relative_to(SOURCE).with_suffix("").parts)
    if inside[-1] == "mod":
        inside.pop()
    # From `a/b.rs`, `super::super` is the root of the crate.
    root = r"\bcrate::|(?<![\w:])" + "super::" * len(inside) + "(?!super)"
    for match in re.finditer(root, text):
        end = match.end()
        named = items(text, end) if text[end:end + 1] == "{" else [(end, text[end:])]
        for offset, item in named:
            module = re.match(r"\w*", item)[0]
            if module in LAYER:
                yield text.count("\n", 0, offset) + 1, module


def edges():
    """Returns every import of one module by another: (importer, imported, location)."""
    found = []
    for path in sorted(SOURCE.rglob("*.rs")):
        module = path.relative_to(SOURCE).parts[0].removesuffix(".rs")
        if module == "lib":
            continue
        if module not in LAYER:
            sys.exit(f"error: `{module}` is in no layer of {pathlib.Path(__file__).name}")
        for line, other in imports(path):
            if other != module:
                found.append((module, other, f"{path.relative_to(ROOT)}:{line}"))
    return found


def reachable(start, steps):
    """Returns the modules that `start` imports, directly or by way of others."""
    seen, waiting = set(), [start]
    while waiting:
        for module in steps.get(waiting.pop(), ()):
            if module not in seen:
                seen.add(module)
                waiting.append(module)
    return seen


def main():
    found = edges()
    level = {}
    for module, other, _ in found:
        if LAYER[module] == LAYER[other]:
            level.setdefault(module, set()).add(other)
    complaints = []
    for module, other, location in found:
        if LAYER[other] > LAYER[module]:
            complaints.append(f"{location}: `{module}` imports `{other}`, which is above it")
        elif LAYER[other] == LAYER[module] and module in reachable(other, level):
            complaints.append(f"{location}: `{module}` imports `{other}`, which needs `{module}`")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints:
        sys.exit(f"error: {len(complaints)} imports against the layers")


if __name__ == "__main__":
    main()
