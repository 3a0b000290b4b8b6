# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds secrets in what is committed or about to be: exit status 1 and one line for each.

Tokens of the well-known services, and strings that look random, are found by detect-secrets, whose patterns are kept
up by many. It does not know age identities, passwords in database URLs or vaults that were left in plain text, and its
search for the word "secret" finds every variable of that name; those rules are our own.

Usage: find_secrets.py [FILE…]   (default: every file that git tracks or would add)

A line that is no secret may say so: ``# pragma: allowlist secret``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detect_secrets.core import scan as detector
from detect_secrets.settings import transient_settings

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
# Words of examples and of tests that something is redacted; c2lnbmF0dXJl is base64 of "signature", 4bf92f… the trace of
# W3C's Trace Context.
EXAMPLE = re.compile(
    r"example|changeme|redacted|^password$|^secret$|^4bf92f3577b34da6a3ce929d0e0e4736$|hunter2|c2lnbmF0dXJl|\*\*\*|^x+$|^\.+$|…|planted",
    re.IGNORECASE,
)

# A value of a vault that stands there as it is; encrypted ones begin with !vault, or the whole file is.
VAULT = re.compile(
    r"""^\s*["']?(?P<key>vault_\w+)["']?\s*:\s+(?P<value>(?!!vault\b)(?!["']?\{\{)(?!(?:""|'')\s*$)\S.*)$"""
)
ALLOWED = re.compile(r"pragma: allowlist secret")
# Strings of random characters are looked for where people write: what machines make (locks, data) is full of digests.
WRITTEN = SETTINGS - {""} | {".py", ".md", ".json", ".html", ".js"}
LOCKS = {"package-lock.json"}
DETECTORS = [
    *(
        {"name": f"{name}Detector"}
        for name in (
            *("AWSKey", "AzureStorageKey", "Cloudant", "DiscordBotToken", "GitHubToken", "GitLabToken"),
            *("Mailchimp", "Npm", "OpenAI", "PypiToken", "SendGrid", "Slack", "SquareOAuth", "Stripe"),
            *("TelegramBotToken", "TwilioKey"),
        )
    ),
    {"name": "Base64HighEntropyString", "limit": 4.5},
    {"name": "HexHighEntropyString", "limit": 3.3},
]
FILTERS = [
    f"detect_secrets.filters.heuristic.{name}"
    for name in (
        *("is_potential_uuid", "is_sequential_string", "is_templated_secret", "is_prefixed_with_dollar_sign"),
        *("is_indirect_reference", "is_not_alphanumeric_string"),
    )
]


@dataclass(frozen=True)
class Finding:
    """A secret: where, and of which kind; never the secret itself."""

    path: Path
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}"


def find(path: Path, text: str) -> Iterator[Finding]:
    """The secrets in a file's text that our own rules know."""
    lines = text.splitlines()
    for kind, pattern in PATTERNS.items():
        for found in pattern.finditer(text):
            number = text.count("\n", 0, found.start()) + 1
            if not (EXAMPLE.search(found.groupdict().get("value", "")) or _allowed(lines, number)):
                yield Finding(path, number, kind)
    if path.suffix not in SETTINGS:
        return
    for number, line in enumerate(lines, 1):
        vault = VAULT.match(line)
        assigned = ASSIGNMENT.match(line)
        if ALLOWED.search(line):
            continue
        if vault and not EXAMPLE.search(vault["value"]):
            yield Finding(path, number, f"{vault['key']} in plain text")
        elif assigned and not HARMLESS.match(assigned["value"]) and not EXAMPLE.search(assigned["value"]):
            yield Finding(path, number, f"literal value of {assigned['key']}")


def detected(path: Path) -> Iterator[Finding]:
    """The secrets in a file that detect-secrets knows; call it within :func:`detectors`."""
    for secret in detector.scan_file(str(path)):
        value = secret.secret_value or ""
        random = "High Entropy" in secret.type
        if random and (path.suffix not in WRITTEN or path.name in LOCKS or not _random(value)):
            continue
        if not EXAMPLE.search(value):
            yield Finding(path, secret.line_number, "random string" if random else secret.type)


def detectors() -> Any:
    """The settings of detect-secrets as a context: no network, no configuration of the user's."""
    plugins = [dict(plugin) for plugin in DETECTORS]
    filters = [
        {"path": "detect_secrets.filters.allowlist.is_line_allowlisted"},
        *({"path": name} for name in FILTERS),
    ]
    return transient_settings({"plugins_used": plugins, "filters_used": filters})


def _random(value: str) -> bool:
    """Whether a string of high entropy may be a secret: words, paths and alphabets are not, and digits are there."""
    kinds = sum(1 for pattern in ("[a-z]", "[A-Z]", "[0-9]") if re.search(pattern, value))
    is_hex = re.fullmatch(r"[0-9a-fA-F]+", value) is not None
    return len(value) >= 32 and (kinds == 3 or is_hex)


def _allowed(lines: list[str], number: int) -> bool:
    return bool(ALLOWED.search(lines[number - 1])) if number <= len(lines) else False


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
    with detectors():
        for path in paths:
            data = path.read_bytes()
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                text = data.decode("latin-1")
            # One line is one finding, whoever knows it; our own names are the clearer ones.
            found = {finding.line: finding for finding in [*detected(path), *find(path, text)]}
            findings += [found[line] for line in sorted(found)]
    return findings


def main() -> int:
    """Scan and report."""
    findings = scan([Path(name) for name in sys.argv[1:]] or list(committed()))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
