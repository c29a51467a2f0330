"""Writes how this machine's pip reaches its package index as two files, pip_conf and ca, for a build to use as secrets.

Only what a container can use: no file: URLs, no folders. A machine with plain pip gets an empty pip_conf and no ca.
"""

import ast
import os
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

REACH = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "cert")


def main(folder: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    reach = dict(filter(None, map(setting, listed.stdout.splitlines())))
    bundle = reach.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "")
    if bundle and Path(bundle).is_file():
        shutil.copyfile(bundle, folder / "ca")
        reach["cert"] = "/run/secrets/ca"
    config = RawConfigParser()
    config["global"] = reach
    with (folder / "pip_conf").open("w") as file:
        config.write(file)


def setting(line: str) -> tuple[str, str] | None:
    """`global.index-url='https://...'` -> ("index-url", "https://..."); what comes later in pip's list overrides."""
    key, _, value = line.partition("=")
    name = key.rpartition(".")[2]
    words = [word for word in str(ast.literal_eval(value)).split() if not word.startswith("file:")]
    if name not in REACH or not words:
        return None
    return ("timeout" if name == "default-timeout" else name), " ".join(words)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
