"""Certificates that sign themselves, made by openssl."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make a certificate for host names; return its file and that of its key."""
    shown, key = folder / "server.crt", folder / "server.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    alternatives = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
    subject = ["-subj", f"/CN={names[0]}", "-addext", alternatives]
    files = ["-keyout", str(key), "-out", str(shown)]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, *subject, *files], check=True, capture_output=True
    )
    return shown, key
