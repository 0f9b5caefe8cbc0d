"""The numeric tests on the device, with the names and messages of those that fail."""

import concurrent.futures
import os
import re
import subprocess
import time

import setting

SIDE_BY_SIDE = 3
MESSAGE_LENGTH = 1200


def run(context):
    names = setting.TINY_TESTS if context.tiny else setting.TESTS
    found, data = setting.test_executables(names), {"targets": {}}
    for name in names:
        if name not in found:
            data["targets"][name] = {"error": "its executable was not carried"}
    # Float32 products, and a workspace with which cuBLAS repeats its sums.
    variables = dict(
        os.environ,
        FED_DISTILL_TEST_DEVICE=context.device,
        NVIDIA_TF32_OVERRIDE="0",
        CUBLAS_WORKSPACE_CONFIG=":4096:8",
        OMP_NUM_THREADS="2",
        RUST_BACKTRACE="0",
    )
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        limit = context.seconds_left() - 5
        jobs = {
            pool.submit(executed, [path, *names[name]], variables, limit): name
            for name, path in found.items()
        }
        for job in concurrent.futures.as_completed(jobs):
            data["targets"][jobs[job]] = job.result()
            context.keep(data)
    wrong = [name for name, outcome in data["targets"].items() if outcome.get("error")]
    failed = sum(len(outcome.get("failed", {})) for outcome in data["targets"].values())
    if wrong or failed:
        context.keep(
            data, f"{failed} tests failed" + (f"; {', '.join(wrong)} broke" if wrong else "")
        )


def executed(chosen, variables, limit):
    """How many tests of an executable passed, {name: message} of those that failed."""
    start = time.monotonic()
    command = [*chosen, "--test-threads=4"]
    try:
        ran = subprocess.run(
            command, cwd=setting.ROOT, env=variables, capture_output=True, text=True, timeout=limit
        )
        out, errors, code = ran.stdout, ran.stderr, ran.returncode
    except subprocess.TimeoutExpired as late:
        out, errors = (
            (text or b"").decode(errors="replace") for text in (late.stdout, late.stderr)
        )
        code = None
    outcome = read(out) | {"seconds": time.monotonic() - start}
    if code is None:
        outcome["error"] = f"stopped after {limit:.0f} s"
    elif code != 0 and not outcome["failed"]:
        outcome["error"] = f"exit code {code}: {(errors or out)[-MESSAGE_LENGTH:]}"
    return outcome


def read(text):
    """What a test executable printed."""
    verdicts = dict(re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (\w+)", text, re.M))
    messages = dict(
        re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:)", text, re.M | re.S)
    )
    failed = [name for name, verdict in verdicts.items() if verdict == "FAILED"]
    return {
        "passed": sum(verdict == "ok" for verdict in verdicts.values()),
        "failed": {name: messages.get(name, "").strip()[:MESSAGE_LENGTH] for name in failed},
    }
