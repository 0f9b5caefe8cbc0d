"""Flower's side: its own servers, clients and FedAvg, from PyPI, in an environment of its own."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from processes import Processes, Watch

VERSION = "1.42.0"
APP = pathlib.Path(__file__).parent / "flower"
# Seconds that replace the sleeps of Flower's polling loops, and the modules that have these loops:
# the server app's wait for answers, a client's for work and for its app, and the start of apps.
SHORT = 0.2
POLLING = (
    "flwr.superlink.grid.http_grid",
    "flwr.supernode.start_client_internal",
    "flwr.supercore.superexec.run_superexec",
    "flwr.serverapp.strategy.strategy_utils",
)


def environment(cache, torch):
    """Makes the environment, once; returns the folder of its programs. `torch` is a folder with
    PyTorch for the clients' training, which the environment sees beside its own packages."""
    root = pathlib.Path(cache) / f"flower-{VERSION}"
    if not (root / "bin" / "flwr").exists():
        print("bench: installing Flower from PyPI, once", file=sys.stderr, flush=True)
        shutil.rmtree(root, ignore_errors=True)
        pip = [root / "bin" / "python", "-m", "pip", "install", "--quiet", f"flwr=={VERSION}"]
        for command in ([sys.executable, "-m", "venv", root], pip):
            if subprocess.run(command, stdout=sys.stderr).returncode:
                shutil.rmtree(root, ignore_errors=True)
                raise SystemExit(
                    "error: Flower could not be installed (the message is above)\n"
                    "hint: on Debian install python3-venv; check the network, and try again"
                )
    packages = next(root.glob("lib/python*/site-packages"))
    (packages / "torch_of_bench.pth").write_text(f"{torch}\n")
    return root / "bin"


def short_sleeps(folder):
    """Writes a `sitecustomize` that caps the sleeps of Flower's polling loops, which last up to
    three seconds between two questions; returns its folder for PYTHONPATH."""
    text = f"""\
import sys
import time

POLLING = {POLLING}
sleep = time.sleep


def capped(seconds):
    is_polling = sys._getframe(1).f_globals.get("__name__") in POLLING
    sleep(min(seconds, {SHORT}) if is_polling else seconds)


time.sleep = capped
"""
    folder = folder / "short_sleeps"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    return folder


def free_ports(count):
    """Returns ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rounds(programs, folder, certificates, settings, is_short):
    """Runs a federation. Returns the seconds of each round, and what was taken between the begin of
    the first round and the end of the last."""
    authority, certificate, key = certificates
    home = folder / "home"
    home.mkdir()
    variables = dict(
        os.environ,
        FLWR_HOME=str(home),
        FLWR_TELEMETRY_ENABLED="0",
        PATH=f"{programs}:{os.environ['PATH']}",
    )
    if is_short:
        variables["PYTHONPATH"] = str(short_sleeps(folder))
    port, *ports = free_ports(1 + settings["clients"])
    tls = ["--ssl-certfile", certificate, "--ssl-keyfile", key, "--ssl-ca-certfile", authority]
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "localhost:{port}"\n'
        f'root-certificates = "{authority}"\n'
    )
    report = folder / "report.json"
    shutil.copytree(APP, folder / "app")
    with Processes(folder) as processes:
        server = processes.start(
            "superlink",
            [programs / "flower-superlink", *tls, "--port", port,
             "--disable-runtime-dependency-installation"],
            env=variables,
        )  # fmt: skip
        processes.wait_until("superlink", lambda: listens(port), 120, "its port")
        clients = []
        for number, own in enumerate(ports):
            clients.append(
                processes.start(
                    f"supernode{number}",
                    [programs / "flower-supernode", "--root-certificates", authority,
                     "--superlink", f"localhost:{port}", "--port", own, *tls,
                     "--node-config", f"partition-id={number}"],
                    env=variables,
                )  # fmt: skip
            )
        for number, own in enumerate(ports):
            name = f"supernode{number}"
            processes.wait_until(name, lambda own=own: listens(own), 300, "its port")
        config = {key: settings[key] for key in ("clients", "rounds", "images", "epochs")}
        config = [f"{key}={value}" for key, value in config.items()] + [f"report='{report}'"]
        with Watch([server], clients) as watch:
            command = [programs / "flwr", "run", folder / "app", "bench", "--run-config",
                       " ".join(config), "--stream"]  # fmt: skip
            processes.start("run", command, env=variables)
            processes.wait_until("superlink", report.exists, settings["limit"], "its last round")
            time.sleep(1)
    times = json.loads(report.read_text())
    begun, ended = times["begun"], times["ended"]
    if len(ended) != settings["rounds"]:
        processes.fail("run", f"took {len(ended)} rounds of {settings['rounds']}")
    each = [end - begin for begin, end in zip(begun, ended)]
    return each, watch.between(begun[0], ended[-1])
