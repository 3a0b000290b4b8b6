# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds secrets in what is committed or about to be: exit status 1 and one line for each.

Usage: find_secrets.py [FILE…]   (default: every file that git tracks or would add)
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# What must never stand in any file.
PATTERNS = {
    # The line alone is no secret; some of the key must follow, as lines or as one string with \\n in it.
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----[\s\\n\"']*[A-Za-z0-9+/=]{40,}"),
    "age identity": re.compile(r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20,}"),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.(?P<value>[\w-]{10,})"),
    "password in a URL": re.compile(r"\b[a-z][a-z0-9+]*://[^/\s:@\"'{}$<>]+:(?P<value>[^/\s:@\"'{}$<>]+)@"),
}
# A literal value of a secret's name in YAML, TOML, INI or an env file.
ASSIGNMENT = re.compile(
    r"""^[\s-]*(?:export\s+)?["']?(?P<key>[\w.-]*(?:password|passwd|secret|secret_key|access_key|token))["']?
        \s*[:=]\s*(?P<quote>["']?)(?P<value>[^\s"'#]+)(?P=quote)\s*(?:\#.*)?$""",
    re.IGNORECASE | re.VERBOSE,
)
SETTINGS = {".yml", ".yaml", ".toml", ".ini", ".cfg", ".env", ".conf", ".j2", ".sh", ""}
# Words of a schema or a switch, variables, files: not secrets.
HARMLESS = re.compile(
    r"^(?:true|false|yes|no|null|none|~|str|string|path|always|on_create|[|>!&*].*|[$/{(].*|.*[{(].*)$", re.I
)
# Words of examples and of tests that something is redacted; c2lnbmF0dXJl is base64 of "signature".
EXAMPLE = re.compile(
    r"example|changeme|redacted|^password$|hunter2|c2lnbmF0dXJl|\*\*\*|^x+$|^\.+$|…|planted", re.IGNORECASE
)


@dataclass(frozen=True)
class Finding:
    """A secret: where, and of which kind; never the secret itself."""

    path: Path
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}"


def find(path: Path, text: str) -> Iterator[Finding]:
    """The secrets in a file's text."""
    for kind, pattern in PATTERNS.items():
        for found in pattern.finditer(text):
            if not EXAMPLE.search(found.groupdict().get("value", "")):
                yield Finding(path, text.count("\n", 0, found.start()) + 1, kind)
    if path.suffix not in SETTINGS:
        return
    for number, line in enumerate(text.splitlines(), 1):
        assigned = ASSIGNMENT.match(line)
        if assigned and not HARMLESS.match(assigned["value"]) and not EXAMPLE.search(assigned["value"]):
            yield Finding(path, number, f"literal value of {assigned['key']}")


def committed() -> Iterator[Path]:
    """What git tracks or would add, links left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, check=True, capture_output=True).stdout.split(b"\0"):
        path = Path(name.decode())
        if name and path.is_file() and not path.is_symlink():
            yield path


def scan(paths: Iterable[Path]) -> list[Finding]:
    """The secrets in files; what is not UTF-8 text is read as Latin-1, so nothing is skipped."""
    findings: list[Finding] = []
    for path in paths:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        findings.extend(find(path, text))
    return findings


def main() -> int:
    """Scan and report."""
    findings = scan([Path(name) for name in sys.argv[1:]] or list(committed()))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
