#!/usr/bin/env python3
"""Runs a federation on this machine: `make federation MODE=uniform`.

Starts a server and its clients as processes that know each other by HTTP alone, on the loopback
interface. Ends with `log.json`, `report.html` with a plot, and the metrics of `fed_avg`. Ctrl-C
ends all of them, and the same command resumes.
"""
import argparse
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

# What an experiment is: the clients and the settings that server and clients share.
EXPERIMENTS = {"mnist_5_http": (5, ["+fed_avg=mnist_5_nodes"])}
# How the images are dealt: 600 to a client, or as many on the mean; `skewed` has its own numbers.
MODES = {
    "uniform": ["split=uniform_per_class", "split.images_per_class=60"],
    "random_equal": ["split=random_equal", "split.images_per_node=600"],
    "random_unequal": ["split=random_unequal", "dataset.max_train=3000"],
    "skewed": ["split=skewed"],
}
# Signals that end this process.
STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Failed(Exception):
    """Tells that a process failed, or that a stop was asked for."""


class Federation:
    """Holds the folder of a federation, and the processes at work on it."""

    def __init__(self, binaries, folder, clients, shared, own):
        self.binaries, self.folder, self.clients = binaries, folder, clients
        # Paths with blanks are quoted as the config's own grammar wants it.
        self.split = f"split.save_path='{folder / 'split.json'}'"
        self.shared, self.own = shared, own
        self.processes = []
        # A core for each client as far as there are.
        self.threads = f"threads={max(1, (os.cpu_count() or 1) // clients)}"

    def settings(self):
        """Returns the settings that server and clients get."""
        return [*self.shared, self.split, *self.own]

    def run(self, binary, *arguments):
        """Runs a binary to its end and returns what it prints."""
        command = [self.binaries / binary, *arguments]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode != 0:
            raise Failed(f"{binary} failed with exit code {ended.returncode}; it says why above")
        return ended.stdout

    def prepare(self):
        """Deals the images and writes the task and the tokens, where they are not there."""
        self.run("split_data", *self.settings(), "resume=true")
        server = self.folder / "server"
        if not (server / "task.json").exists():
            self.run("serve", "task", server, "--algorithm", "fed_avg",
                     "--clients", str(self.clients), *self.settings())
        begun = (server / "journal.jsonl").exists()
        for client in range(self.clients):
            token = self.folder / f"client{client}.token"
            if not token.exists():
                # A run that was killed between the two lines below has lost this client's token.
                if not begun:
                    subprocess.run([self.binaries / "serve", "client", "revoke", server,
                                    f"client {client}"], stderr=subprocess.DEVNULL, check=False)
                shown = self.run("serve", "client", "add", server, f"client {client}")
                draft = token.with_suffix(".draft")
                draft.touch(mode=0o600)
                draft.write_text(shown)
                draft.rename(token)

    def start(self, name, *arguments, **options):
        """Starts a process, whose messages go to a file of its own."""
        log = open(self.folder / f"{name}.log", "a", encoding="utf-8")
        process = subprocess.Popen([self.binaries / arguments[0], *arguments[1:]],
                                   stderr=log, text=True, start_new_session=True, **options)
        self.processes.append((name, process))
        return process

    def serve(self):
        """Starts the server and returns its address."""
        # It is stopped when all clients are done.
        server = self.start("server", "serve", "run", self.folder / "server",
                            "--listen", "127.0.0.1:0", *self.settings(), self.threads,
                            stdout=subprocess.PIPE)
        line = server.stdout.readline().strip()
        if not line.startswith("listening on "):
            server.wait()
            raise Failed(f"the server ended; see {self.folder / 'server.log'}")
        return line.removeprefix("listening on ")

    def train(self):
        """Lets all clients take part, and waits until they are done."""
        address = self.serve()
        print(f"the server listens on {address}; logs are in {self.folder}", flush=True)
        for client in range(self.clients):
            self.start(f"client{client}", "join", "fed_avg", address,
                       "--token-file", self.folder / f"client{client}.token",
                       "--folder", self.folder / f"client{client}",
                       *self.settings(), self.threads, stdout=subprocess.DEVNULL)
        waiting = dict(self.processes[1:])
        while waiting:
            for name, process in [*waiting.items(), self.processes[0]]:
                code = process.poll()
                if code is not None and (code != 0 or name == "server"):
                    raise Failed(f"{name} ended with exit code {code}; see "
                                 f"{self.folder / name}.log")
            waiting = {name: process for name, process in waiting.items()
                       if process.poll() is None}
            time.sleep(0.2)

    def end(self):
        """Ends the processes that are left, which save their work."""
        for _, process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for _, process in self.processes:
            process.wait()


def summary(folder, name, mode, clients):
    """Returns what `log.json` holds: accuracies in each round, and the weights."""
    run = folder / "server" / "fed_avg"
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    rounds = metrics["rounds"]
    weights = run / "global.safetensors"
    nodes = {str(client): [None] * len(rounds) for client in range(clients)}
    for index, line in enumerate(rounds):
        for node in line["nodes"]:
            nodes[str(node["node"])][index] = node["own_test_accuracy"]
    return {
        "client_num": clients,
        "experiment": f"{name}, {mode}",
        "max_round": len(rounds),
        "clients": nodes,
        "server": [line["test_accuracy"] for line in rounds],
        "weights": {"path": str(weights),
                    "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()},
    }


def arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--outputs", type=pathlib.Path, default=pathlib.Path("outputs"))
    parser.add_argument("overrides", nargs="*", help="settings for all, such as seed=7")
    given = parser.parse_args()
    if "overwrite=true" in given.overrides:
        folder = given.outputs / f"{given.name}_{given.mode}"
        print("error: server and clients resume or begin anew together, without `overwrite=true`\n"
              f"hint: to begin anew, remove `{folder}`", file=sys.stderr)
        sys.exit(2)
    for what, value, known in [("NAME", given.name, EXPERIMENTS), ("MODE", given.mode, MODES)]:
        if value not in known:
            print(f"error: there is no {what}={value}\navailable: {', '.join(known)}",
                  file=sys.stderr)
            sys.exit(2)
    return given


def main():
    """Runs the federation."""
    given = arguments()
    clients, shared = EXPERIMENTS[given.name]
    folder = (given.outputs / f"{given.name}_{given.mode}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shared = [*shared, *MODES[given.mode], f"split.num_nodes={clients}"]
    federation = Federation(given.bin.resolve(), folder, clients, shared, given.overrides)

    def stop(number, _):
        raise Failed(f"stopped by {signal.Signals(number).name}: the same command resumes")

    for number in STOP:
        signal.signal(number, stop)
    try:
        federation.prepare()
        federation.train()
        federation.run("inspect", "report", folder)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        federation.end()
    log = summary(folder, given.name, given.mode, clients)
    (folder / "log.json").write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
    shown = [f"{value:.3f}" if value is not None else "–" for value in log["server"]]
    print(f"server, by round: {', '.join(shown)}")
    print(f"{folder / 'log.json'}\n{folder / 'report.html'}")


if __name__ == "__main__":
    main()
