"""Makes an authority and a certificate for this machine, which both sides' TLS uses."""

import pathlib
import subprocess

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def make(folder):
    """Returns the files of the authority's certificate, the server's certificate and its key."""
    folder = pathlib.Path(folder)

    def run(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)

    run("req", "-x509", *CURVE, "-days", 2, "-subj", "/CN=bench", "-keyout", "authority.key",
        "-out", "authority.pem")  # fmt: skip
    run("req", *CURVE, "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
        "-days", 2, "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return [folder / name for name in ("authority.pem", "server.pem", "server.key")]
