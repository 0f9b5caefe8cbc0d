#!/usr/bin/env python3
"""Measures `serve` while many clients upload teachers of 45 MB to it, over TLS: its memory, the
rate, how long short requests take meanwhile; then how soon it is ready again after it was killed.

`make bench-federation` builds what it needs and runs it. Prints Markdown.
"""

import argparse
import concurrent.futures
import http.client
import os
import pathlib
import random
import shutil
import ssl
import statistics
import struct
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import certificate  # noqa: E402
from driver import machine, tables  # noqa: E402
from ours import run, serve  # noqa: E402
from processes import Processes, Watch, loopback, tenths  # noqa: E402

# Seconds from one short request to the next.
ASK_EVERY = 0.05
# Minutes after which a client gives up on a server.
PATIENCE = 30


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[10, 100], help="default: 10 100"
    )
    parser.add_argument("--at-once", type=int, default=16, help="uploads at a time (default: 16)")
    parser.add_argument(
        "--kills", type=int, default=50, help="times that the server is killed (default: 50)"
    )
    return parser.parse_args()


def first_teacher(folder):
    """A ResNet-18 after one step: what it knows does not matter here."""
    save = folder / "teachers"
    run(
        "train_teachers", "+experiment=demo", "model=resnet18", "split=iid", "split.num_nodes=1",
        "split.save_path=null", "teacher.num_teachers=null", "teacher.epochs=1",
        "dataset.max_train=20", "dataset.max_test=10", f"teacher.save_folder={save}", cwd=folder,
    )  # fmt: skip
    return save / "model_teacher0.safetensors"


def distinct(teacher, number, path):
    """Writes a teacher that differs in its last weight: equal files would be kept once."""
    shutil.copyfile(teacher, path)
    with open(path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<f", (number + 1) * 1e-6))


class Server:
    """`serve run` in a folder of its own; it listens on the same port after each start."""

    def __init__(self, processes, folder, teacher, clients, tls):
        self.processes, self.folder, self.tls, self.address = processes, folder, tls, None
        run("serve", "task", folder, "--clients", clients, "--from", teacher)
        self.tokens = []
        for number in range(clients):
            path = folder / f"token{number}"
            path.write_text(run("serve", "client", "add", folder, f"client {number}"))
            self.tokens.append(path)
        self.starts = 0

    def start(self):
        _, chain, key = self.tls
        name = f"serve{self.starts}"
        self.starts += 1
        listen = self.address or "127.0.0.1:0"
        process, url = serve(
            self.processes, name, self.folder, "--collect-only", "--listen", listen,
            "--certificate", chain, "--key", key,
        )  # fmt: skip
        self.address = urllib.parse.urlparse(url).netloc
        return process


def short_requests(address, authority, ended):
    """Asks `/healthz` over one connection until `ended`; returns the seconds of each answer."""
    context = ssl.create_default_context(cafile=authority)
    host, _, port = address.partition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
    seconds = []
    while not ended.wait(ASK_EVERY):
        begin = time.monotonic()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        seconds.append(time.monotonic() - begin)
    return seconds


def upload(server, folder, teacher, number, authority):
    """Sends the teacher of one client with `join upload`."""
    own = folder / f"teacher{number}.safetensors"
    distinct(teacher, number, own)
    try:
        run(
            "join", "upload", f"https://{server.address}", own, "--token-file",
            server.tokens[number], "--authority", authority, "--no-wait", "--retry-seconds", "0.2",
            "--patience-minutes", PATIENCE,
            "--out", folder / "student.safetensors",
        )  # fmt: skip
    finally:
        own.unlink()


def uploads(folder, teacher, clients, at_once, tls, curves):
    """A row of the table: so many clients upload. Adds the memory over time to `curves`."""
    authority = tls[0]
    with Processes(folder) as processes:
        server = Server(processes, folder / "server", teacher, clients, tls)
        process = server.start()
        time.sleep(2)
        ended = threading.Event()
        with Watch([process], []) as watch, concurrent.futures.ThreadPoolExecutor() as side:
            idle = watch.samples[-1]["memory"]
            short = side.submit(short_requests, server.address, authority, ended)
            begin = time.time()
            # Whatever becomes of the uploads, the short requests come to an end.
            try:
                with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                    each = [
                        pool.submit(upload, server, folder, teacher, number, authority)
                        for number in range(clients)
                    ]
                    for future in each:
                        future.result()
            finally:
                ended.set()
            end = time.time()
            answers = short.result()
    taken = watch.between(begin, end)
    curves.append(f"- {clients} clients: {tenths(watch, begin, end)}")
    megabytes = clients * teacher.stat().st_size / 1e6
    short_times = statistics.quantiles(answers, n=100, method="inclusive")
    return [
        str(clients),
        f"{megabytes:.0f}",
        f"{end - begin:.0f} s",
        f"{megabytes / (end - begin):.0f}",
        f"{idle:.0f}",
        f"{taken['memory']:.0f}",
        f"{taken['server']:.1f} s",
        tables.time(short_times[49]),
        f"{tables.time(short_times[98])} (n = {len(answers)})",
    ]


def kills(folder, teacher, count, tls):
    """Kills the server while clients upload, until it was killed `count` times and all have
    finished."""
    rng, clients = random.Random(42), 8
    with Processes(folder) as processes:
        server = Server(processes, folder / "server", teacher, clients, tls)
        process = server.start()
        before, ready = loopback(), []
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            each = [
                pool.submit(upload, server, folder, teacher, number, tls[0])
                for number in range(clients)
            ]
            while len(ready) < count and not all(future.done() for future in each):
                time.sleep(rng.uniform(0.05, 0.5))
                process.kill()
                process.wait()
                begin = time.monotonic()
                process = server.start()
                ready.append(time.monotonic() - begin)
            for future in each:
                future.result()
        sent = (loopback() - before) / 1e6
        accepted = len(list((folder / "server" / "blobs").iterdir()))
    own = clients * teacher.stat().st_size / 1e6
    return (
        f"{clients} uploads while the server is killed (SIGKILL) {len(ready)} times: {accepted} "
        f"accepted; ready again after {tables.time(statistics.median(ready))} (longest "
        f"{tables.time(max(ready))}); {sent:.0f} MB over the loopback for files of {own:.0f} MB."
    )


def main():
    options = arguments()
    before = machine.load()
    with tempfile.TemporaryDirectory(prefix="fed-distill-bench-") as name:
        root = pathlib.Path(name)
        tls = certificate.make(root)
        teacher = first_teacher(root)
        rows, curves = [], []
        for clients in options.clients:
            print(f"bench: {clients} uploads", file=sys.stderr, flush=True)
            folder = root / f"uploads{clients}"
            (folder / "server").mkdir(parents=True)
            rows.append(uploads(folder, teacher, clients, options.at_once, tls, curves))
            shutil.rmtree(folder)
        header = ["clients", "MB", "time", "MB/s", "MiB idle", "MiB peak", "CPU of the server",
                  "short request", "p99"]  # fmt: skip
        print(f"{options.at_once} uploads at a time, TLS, loopback.\n")
        print(tables.markdown(header, rows))
        print("\nMiB at each tenth of the time:\n\n" + "\n".join(curves))
        if options.kills:
            print("bench: kills", file=sys.stderr, flush=True)
            folder = root / "kills"
            (folder / "server").mkdir(parents=True)
            print("\n" + kills(folder, teacher, options.kills, tls))
    print("\n" + "\n".join(machine.describe(machine.cores(), sys.executable, before)))


if __name__ == "__main__":
    main()
