#!/usr/bin/env python3
"""Measures `serve` while it averages the ResNet-18s (45 MB) of many clients, over TLS: its memory
over one round. The clients train nothing: each sends the model that it was handed out, changed in
one weight, and speaks the protocol of docs/openapi.yaml by itself.

`make bench-federation` builds what it needs and runs it. Prints Markdown.
"""

import argparse
import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import ssl
import struct
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import certificate  # noqa: E402
from driver import machine, tables  # noqa: E402
from ours import run, serve  # noqa: E402
from processes import Processes, Watch, tenths  # noqa: E402

# Seconds that anything may take.
LIMIT = 1800
IMAGES = 100


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients", type=int, nargs="+", default=[10, 100], help="default: 10 100"
    )
    parser.add_argument("--at-once", type=int, default=16, help="uploads at a time (default: 16)")
    return parser.parse_args()


class Client:
    """A client of the server, without images."""

    def __init__(self, address, token, authority):
        self.host, _, port = address.partition(":")
        self.port, self.token = int(port), token
        self.context = ssl.create_default_context(cafile=authority)

    def ask(self, method, path, body=b"", **headers):
        """Sends a request; returns its answer's status, headers and body."""
        headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        headers["Authorization"] = f"Bearer {self.token}"
        connection = http.client.HTTPSConnection(
            self.host, self.port, context=self.context, timeout=LIMIT
        )
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status >= 300 and answer.status != 429:
            sys.exit(f"error: {method} {path}: {answer.status} {content[:500]!r}")
        return answer.status, answer.headers, content

    def json(self, method, path, value=None):
        body = b"" if value is None else json.dumps(value).encode()
        return json.loads(self.ask(method, path, body)[2])

    def enrol(self):
        task = self.json("GET", "/v1/task")["fingerprint"]
        self.json("PUT", "/v1/clients/me", {"images": IMAGES, "task": task})

    def until(self, action):
        """Waits until the server asks for `action`; returns its words."""
        end = time.monotonic() + LIMIT
        while (now := self.json("GET", "/v1/next?wait=25"))["action"] != action:
            if time.monotonic() > end or now["action"] == "failed":
                sys.exit(f"error: the server does not come to `{action}`: {now}")
        return now

    def send(self, at, answer):
        """Uploads an answer, and waits until it is accepted."""
        announced = {
            "kind": "answer", "at": at, "bytes": len(answer),
            "sha256": hashlib.sha256(answer).hexdigest(),
        }  # fmt: skip
        busy = 429
        while busy == 429:
            busy, headers, _ = self.ask("POST", "/v1/uploads", json.dumps(announced).encode())
        place = headers["Location"]
        kind = {"Content_Type": "application/offset+octet-stream", "Upload_Offset": 0}
        while self.ask("PATCH", place, answer, **kind)[0] == 429:
            time.sleep(0.2)
        while (shown := self.json("GET", place))["status"] == "checking":
            time.sleep(0.1)
        if shown["status"] != "accepted":
            sys.exit(f"error: an answer was not accepted: {shown}")


def message(tensors, content, node, kind):
    """A safetensors file of node `node` in the first round."""
    label = {"round": "0", "node": str(node), "kind": kind}
    header = json.dumps({"__metadata__": label, **tensors}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content


def answer(handout, node):
    """The answer of node `node`: its report, and the handed out model with another last weight."""
    length = struct.unpack("<Q", handout[:8])[0]
    tensors = json.loads(handout[8 : 8 + length])
    tensors.pop("__metadata__")
    content = handout[8 + length : -4] + struct.pack("<f", (node + 1) * 1e-6)
    report = {"report": {"dtype": "F64", "shape": [4], "data_offsets": [0, 32]}}
    numbers = struct.pack("<4d", IMAGES, 1.0, 0.5, 0.5)
    messages = [
        message(report, numbers, node, "report"),
        message(tensors, content, node, "model"),
    ]
    return b"answer1\n" + b"".join(struct.pack("<Q", len(each)) + each for each in messages)


def measure(folder, count, at_once, tls):
    """Runs one round of `count` clients. Returns a row of the table, and a line of the memory over
    time."""
    authority, chain, key = tls
    place = folder / "server"
    run(
        "serve", "task", place, "--clients", count, "--algorithm", "fed_avg", "dataset=none",
        "dataset.channels=3", "dataset.size=32", "dataset.num_classes=10",
        "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.3,0.3,0.3]", "model=resnet18",
        "fed_avg.rounds=1",
    )  # fmt: skip
    tokens = [run("serve", "client", "add", place, f"client {number}") for number in range(count)]
    with Processes(folder) as processes:
        server, url = serve(
            processes, "serve", place, "--listen", "127.0.0.1:0", "--certificate", chain,
            "--key", key, "dataset=none", "threads=1",
        )  # fmt: skip
        address = url.split("//")[1]
        clients = [Client(address, token, authority) for token in tokens]
        for client in clients[1:]:
            client.enrol()
        time.sleep(2)
        with Watch([server], []) as watch:
            idle = watch.samples[-1]["memory"]
            begin = time.time()
            clients[0].enrol()
            at = clients[0].until("train")["at"]
            handout = clients[0].ask("GET", f"/v1/rounds/{at['round']}/handout")[2]
            with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                send = lambda node: clients[node].send(at, answer(handout, node))  # noqa: E731
                list(pool.map(send, range(count)))
            collected = time.time()
            clients[0].until("done")
            end = time.time()
    taken = watch.between(begin, end)
    row = [
        str(count),
        f"{count * len(handout) / 1e6:.0f}",
        f"{collected - begin:.0f} s",
        f"{end - collected:.1f} s",
        f"{idle:.0f}",
        f"{taken['memory']:.0f}",
        f"{taken['server']:.1f} s",
    ]
    return row, f"- {count} clients: {tenths(watch, begin, end)}"


def main():
    options = arguments()
    before = machine.load()
    rows, curves = [], []
    with tempfile.TemporaryDirectory(prefix="fed-distill-bench-") as name:
        root = pathlib.Path(name)
        tls = certificate.make(root)
        for count in options.clients:
            print(f"bench: averaging {count} clients", file=sys.stderr, flush=True)
            folder = root / f"averaging{count}"
            folder.mkdir()
            row, curve = measure(folder, count, options.at_once, tls)
            rows.append(row)
            curves.append(curve)
    header = ["clients", "MB", "all answers", "then their mean", "MiB idle", "MiB peak",
              "CPU of the server"]  # fmt: skip
    print(f"One round of ResNet-18s, {options.at_once} answers at a time, TLS, loopback.\n")
    print(tables.markdown(header, rows))
    print("\nMiB at each tenth of the time:\n\n" + "\n".join(curves))
    print("\n" + "\n".join(machine.describe(machine.cores(), sys.executable, before)))


if __name__ == "__main__":
    main()
