"""Our side: `serve` and `join fed_avg`, over TLS, each client with images of its own."""

import datetime
import gzip
import json
import pathlib
import random
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from driver import machine  # noqa: E402
from processes import Processes, Watch  # noqa: E402

# A client that does not train takes one step on so few images: there is no round without any.
FEW = 2


def binary(name):
    return machine.binaries() / name


def run(name, *words, **settings):
    """Runs a binary to its end, and returns its stdout."""
    command = [str(word) for word in (binary(name), *words)]
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    if done.returncode:
        sys.exit(f"error: `{name}` failed\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def noise(folder, count, seed):
    """Writes images of noise, 28 by 28, in MNIST's format."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for part, images in (("train", count), ("t10k", FEW)):
        pixels = rng.randbytes(images * 28 * 28)
        labels = bytes(index % 10 for index in range(images))
        head = struct.pack(">IIII", 2051, images, 28, 28)
        with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb", 1) as file:
            file.write(head + pixels)
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb", 1) as file:
            file.write(struct.pack(">II", 2049, images) + labels)


def serve(processes, name, *words):
    """Starts `serve run`; returns the process and its URL once it listens."""
    process = processes.start(name, [binary("serve"), "run", *words])
    is_ready = lambda: "listening on" in processes.log(name)  # noqa: E731
    processes.wait_until(name, is_ready, 60, "its port")
    return process, processes.log(name).split("listening on ")[1].split()[0]


def rounds(folder, certificates, settings):
    """Runs a federation. Returns the seconds of each round, and what was taken between the begin of
    the first round and the end of the last."""
    authority, certificate, key = certificates
    place, count = folder / "server", settings["clients"]
    run(
        "serve", "task", place, "--clients", count, "--algorithm", "fed_avg", "dataset=none",
        "dataset.channels=1", "dataset.size=28", "dataset.num_classes=10", "dataset.mean=[0.5]",
        "dataset.std=[0.3]", "model=fedavg_cnn", f"fed_avg.rounds={settings['rounds']}",
        f"fed_avg.epochs={settings['epochs']}", "fed_avg.batch_size=10",
        "fed_avg.optimizer.lr=0.05", "fed_avg.augment.crop=0", "fed_avg.augment.flip=false",
    )  # fmt: skip
    with Processes(folder) as processes:
        for number in range(count):
            token = run("serve", "client", "add", place, f"client {number}")
            (folder / f"token{number}").write_text(token)
            noise(folder / f"images{number}", settings["images"] or FEW, number)
        server, url = serve(
            processes, "serve", place, "--listen", "127.0.0.1:0", "--certificate", certificate,
            "--key", key, "dataset=none", "threads=1",
        )  # fmt: skip
        clients = []
        with Watch([server], clients) as watch:
            for number in range(count):
                clients.append(
                    processes.start(
                        f"join{number}",
                        [binary("join"), "fed_avg", url, "--token-file", folder / f"token{number}",
                         "--authority", authority, "--folder", folder / f"own{number}",
                         "dataset=mnist", f"dataset.root={folder}/images{number}", "threads=1"],
                    )  # fmt: skip
                )
            for number in range(count):
                processes.wait(f"join{number}", settings["limit"])
    begun, ended = times(place / "journal.jsonl")
    if len(ended) != settings["rounds"]:
        processes.fail("serve", f"took {len(ended)} rounds of {settings['rounds']}")
    each = [end - begin for begin, end in zip(begun, ended)]
    return each, watch.between(begun[0], ended[-1])


def times(journal):
    """When each round began and ended: its clients are asked, and its mean is saved when those of
    the next round are, or when the result is there."""
    begun, ended = [], []
    for line in journal.read_text().splitlines():
        entry = json.loads(line)
        event, time = entry["event"], datetime.datetime.fromisoformat(entry["time"]).timestamp()
        if event["kind"] == "finished" or event["kind"] == "asked":
            ended += [time] if begun else []
            begun += [time] if event["kind"] == "asked" else []
    return begun, ended
