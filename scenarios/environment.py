"""What a run was computed with: package versions, sources, processor, revision."""

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: The floors whose sources can change a run's numbers.
FLOORS = ("formats", "simulator", "optimizers", "scenarios")


@cache
def versions() -> dict[str, str]:
    """The versions that a run's numbers may depend on, and a digest of Tapeout's own sources.

    They are part of a run's inputs: after an upgrade, or an edit of a kernel, a run gets a new
    folder and is computed again.
    """
    packages = {name: version(name) for name in ("tapeout", "torch", "numpy", "numba")}
    sources = hashlib.sha256()
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            sources.update(path.read_bytes())
    return packages | {"python": platform.python_version(), "sources": sources.hexdigest()[:12]}


@cache
def processor() -> str:
    """The processor's name as the operating system tells it, for the record only."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def revision() -> str:
    """The git revision of an editable checkout, "+changes" if it was edited; else empty."""
    if not (ROOT / ".git").exists():
        return ""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
