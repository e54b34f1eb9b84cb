"""Look the pinned requirements up in PyPI's list of known vulnerabilities, by pip-audit in a venv of its own.

``python tools/audit.py`` fails on a finding. What cannot be looked up is said and is no failure: pip-audit itself calls
a package that its service does not know sound, so that behind a mirror that has no such service it finds all well.
"""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
VENV = PROJECT / "build" / "audit"
REQUIREMENTS = PROJECT / "requirements"
AUDITED = ("dev.txt", "audit.txt")
"""The first holds every pin of the others; the second is of the tool itself."""

SERVICE = "https://pypi.org/pypi/{}/{}/json"
LOOK_SECONDS = 15
RUN_SECONDS = 600


def main() -> int:
    """Audit, and say what came of it; the exit code."""
    lacking = unanswered(SERVICE.format(*first_pin())) or installed()
    if lacking is not None:
        print(f"not audited: {lacking}")
        return 0
    return max(audit(REQUIREMENTS / name) for name in AUDITED)


def first_pin() -> tuple[str, str]:
    """Name and version of a package that the service knows, if it knows any."""
    found = re.search(r"^([\w.-]+)==([\w.]+)", (REQUIREMENTS / "broker.txt").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1], found[2]


def unanswered(url: str) -> str | None:
    """Say why the service tells nothing; None where it does."""
    try:
        with urllib.request.urlopen(url, timeout=LOOK_SECONDS) as answer:
            told = json.load(answer)
    except (OSError, ValueError) as error:
        return f"{url}: {error}"
    return None if "vulnerabilities" in told else f"{url} tells nothing of vulnerabilities"


def installed() -> str | None:
    """Make the venv, and say why it cannot be made; a wrong hash is no matter of the network, and ends all."""
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    command = [
        VENV / "bin" / "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        REQUIREMENTS / "audit.txt",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS)
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise SystemExit(done.stderr)
    return None if done.returncode == 0 else f"pip-audit cannot be installed: {last_line(done.stderr)}"


def audit(path: Path) -> int:
    """Audit one file of pins."""
    how = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    command = [VENV / "bin" / "pip-audit", *how, "-r", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS)
    try:
        told = json.loads(done.stdout)
    except ValueError:
        print(f"not audited: {path.name}: {last_line(done.stderr)}")
        return 0
    lines, code = judged(path.name, told["dependencies"])
    print("\n".join(lines))
    return code


def judged(name: str, packages: list[dict[str, Any]]) -> tuple[list[str], int]:
    """Say of pip-audit's answer what was looked up, what was not, and what was found; 1 where something was."""
    skipped = [package for package in packages if "skip_reason" in package]
    lines = [f"{name}: {len(packages) - len(skipped)} of {len(packages)} packages looked up"]
    if skipped:
        lines.append(f"not audited: {len(skipped)} of {name}, such as {skipped[0]['skip_reason']}")
    found = [(package, fault) for package in packages for fault in package.get("vulns", [])]
    for package, fault in found:
        mended = ", ".join(fault["fix_versions"]) or "no version yet"
        lines.append(
            f"{package['name']} {package['version']}: {fault['id']}, mended in {mended}: raise it, then make lock"
        )
    return lines, 1 if found else 0


def last_line(text: str) -> str:
    """Give what a program said last."""
    return (text.strip().splitlines() or ["it said nothing"])[-1]


if __name__ == "__main__":
    sys.exit(main())
