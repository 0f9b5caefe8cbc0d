#!/usr/bin/env python3
"""Finds lines of more than 100 columns in code, comments and prose: `make lint`.

Reads the files that git tracks or would track. Exempt are rows of Markdown tables, lines that an
address (https://…) alone makes too long, and what tests quote in raw strings (a program's output, a
file). A tab counts as 8 columns.
"""
import pathlib
import re
import subprocess
import sys

MOST = 100
# What may stand beside an address on its line.
SHORT = 40
ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".rs", ".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".cff", ".css", ".cpp", ".h"}
NAMES = {"Makefile", "run", ".gitignore", "requirements.txt"}


def files():
    """Returns the text files of the project."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = [pathlib.Path(name) for name in sorted(set(listed.split("\0"))) if name]
    return [path for path in paths if (path.suffix in SUFFIXES or path.name in NAMES)
            and (ROOT / path).is_file()]


def too_long(line):
    """Returns whether `line`, its tabs expanded, breaks the rule."""
    is_table = line.lstrip(" /!").startswith("|")
    without_addresses = re.sub(r"\S*https?://\S+", "", line)
    return len(line) > MOST and not is_table and len(without_addresses) > SHORT


def own_lines(path, text):
    """(number, line) of each line, without what a test quotes in raw strings."""
    if path.suffix == ".rs" and path.parts[0] == "tests":
        # As many line ends as before, so that the numbers stay right.
        raw = re.compile(r'\br(#+)".*?"\1', re.S)
        text = raw.sub(lambda quoted: "\n" * quoted[0].count("\n"), text)
    return enumerate(text.splitlines(), 1)


def main():
    found = 0
    for path in files():
        text = (ROOT / path).read_text(encoding="utf-8")
        for number, line in own_lines(path, text):
            line = line.expandtabs(8)
            if too_long(line):
                found += 1
                print(f"{path}:{number}: {len(line)} columns", file=sys.stderr)
    if found:
        sys.exit(f"error: {found} lines of more than {MOST} columns")


if __name__ == "__main__":
    main()
