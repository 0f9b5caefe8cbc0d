"""Starts the processes of a federation, and samples what each side of it takes."""

import os
import pathlib
import signal
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Seconds from one sample to the next.
EVERY = 0.2


class Failed(Exception):
    """A process ended that should not have, or took too long; the text ends with its log."""


class Processes:
    """Child processes with a log file each, which end with this object."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.running = {}

    def start(self, name, command, **settings):
        with (self.folder / f"{name}.log").open("w") as log:
            self.running[name] = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # A group of its own, whose children end with it.
                start_new_session=True,
                **settings,
            )
        return self.running[name]

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def fail(self, name, why):
        raise Failed(f"{name} {why}; its log ends:\n{self.log(name)[-2000:]}")

    def wait_until(self, name, is_true, seconds, what):
        """Waits for something that the process `name` does."""
        end = time.monotonic() + seconds
        while not is_true():
            if self.running[name].poll() is not None:
                self.fail(name, f"ended before {what}")
            if time.monotonic() > end:
                self.fail(name, f"did not come to {what} in {seconds} s")
            time.sleep(0.02)

    def wait(self, name, seconds):
        """Waits for the process `name` to end well."""
        try:
            code = self.running[name].wait(seconds)
        except subprocess.TimeoutExpired:
            self.fail(name, f"was still running after {seconds} s")
        if code:
            self.fail(name, f"ended with {code}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.running.values():
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    pass
            end = time.monotonic() + 10
            for process in self.running.values():
                try:
                    process.wait(max(0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    pass


def loopback():
    """Bytes that this machine has sent to itself so far."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    return 0


def tree(roots):
    """The processes `roots` and all their descendants."""
    children = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                fields = pathlib.Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, left = set(), list(roots)
    while left:
        process = left.pop()
        if process not in found:
            found.add(process)
            left += children.get(process, [])
    return found


def seconds(processes):
    """{process: its own CPU seconds} of those processes that there still are."""
    each = {}
    for process in processes:
        try:
            fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        each[process] = sum(map(int, fields[11:13])) / TICKS
    return each


def memory(processes):
    """MiB of the processes; what several of them share is counted once (PSS)."""
    total = 0
    for process in processes:
        try:
            text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
    return total / 1024


class Watch:
    """Samples the server's side and the clients' side while a `with` block runs."""

    def __init__(self, server, clients):
        self.roots = {"server": server, "clients": clients}
        self.samples = []
        # What each process had taken when it was last seen: some end before the last sample.
        self.seen = {side: {} for side in self.roots}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def sample(self):
        now = {"time": time.time(), "bytes": loopback()}
        for side, roots in self.roots.items():
            processes = tree(process.pid for process in roots)
            self.seen[side] |= seconds(processes)
            now[side] = sum(self.seen[side].values())
            if side == "server":
                now["memory"] = memory(processes)
        self.samples.append(now)

    def run(self):
        while not self.ended.wait(EVERY):
            self.sample()

    def __enter__(self):
        self.sample()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.sample()

    def between(self, begin, end):
        """What was taken from the time `begin` to the time `end`: CPU seconds of both sides, bytes;
        and the server's peak of memory."""
        before = max(
            (sample for sample in self.samples if sample["time"] <= begin),
            key=lambda sample: sample["time"],
            default=self.samples[0],
        )
        after = min(
            (sample for sample in self.samples if sample["time"] >= end),
            key=lambda sample: sample["time"],
            default=self.samples[-1],
        )
        taken = {key: after[key] - before[key] for key in ("server", "clients", "bytes")}
        within = [
            sample["memory"]
            for sample in self.samples
            if before["time"] <= sample["time"] <= after["time"]
        ]
        return taken | {"memory": max(within)}


def tenths(watch, begin, end):
    """The server's memory, MiB, at each tenth of the time from `begin` to `end`."""
    moments = [begin + (end - begin) * tenth / 10 for tenth in range(11)]
    nearest = lambda moment: min(  # noqa: E731
        watch.samples, key=lambda sample: abs(sample["time"] - moment)
    )
    return ", ".join(f"{nearest(moment)['memory']:.0f}" for moment in moments)
