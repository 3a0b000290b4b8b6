# SPDX-License-Identifier: GPL-3.0-or-later
"""Every secret of a lab as a canary, in the forms in which a value escapes, and where hosts might let one be seen."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

# What of secrets.json is meant to be seen: public halves, and names of roles and keys.
PUBLIC = re.compile(r"public_key$|recipient$|^database_login|access_key$")
MINIMUM = 16


def values(state_dir: Path) -> dict[str, str]:
    """Every secret value of a lab by a name for messages; of PEM text each line of its body, which is random."""
    found: dict[str, str] = {}
    texts = json.loads((state_dir / "secrets.json").read_text())
    kept = {name: text for name, text in texts.items() if not PUBLIC.search(name)}
    kept |= {path.name: path.read_text() for path in sorted((state_dir / "pki").glob("*.key"))}
    for name, text in kept.items():
        lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
        # All Ed25519 keys begin alike in PKCS #8: what follows is the key.
        found |= {f"{name}:{number}": line for number, line in enumerate(lines)}
    return {name: value for name, value in found.items() if len(value) >= MINIMUM}


def forms(value: str) -> set[str]:
    """A value as it may appear: as it is, in base64 of a longer text, in a URL, in JSON, in hex, reversed."""
    data = value.encode()
    shapes = {value, quote(value, safe=""), json.dumps(value)[1:-1], data.hex(), value[::-1]}
    for offset in range(3):
        # The characters at both ends depend on what stands beside the value.
        encoded = base64.b64encode(b"\0" * offset + data).decode().rstrip("=")
        shapes.add(encoded[4 if offset else 0 : -1])
    return shapes


class Canaries:
    """Looks for all forms of all secrets of a lab.

    :param secrets: name → value.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names = {form: name for name, value in secrets.items() for form in forms(value)}
        ordered = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)))

    @property
    def count(self) -> int:
        """How many strings are looked for."""
        return len(self._names)

    def found(self, text: str) -> set[str]:
        """The names of the secrets that a text shows."""
        return {self._names[match[0]] for match in self._pattern.finditer(text)}

    def needles(self) -> str:
        """All strings, one a line, as `grep -F -f` takes them."""
        return "".join(f"{form}\n" for form in self._names if "\n" not in form)


# Each prints what a host shows of itself. Processes that hold a secret by right have it in memory and in credential
# files, never in their arguments or environment.
PLACES = {
    "journal": "journalctl --no-pager --all --output=export",
    "arguments of processes": "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/cmdline; done 2>/dev/null; true",
    "environment of processes": "for p in /proc/[0-9]*; do tr '\\0' '\\n' < $p/environ; done 2>/dev/null; true",
    "files of logs": "find /var/log -type f -not -path '*/journal/*' -exec zcat -f {} + 2>/dev/null; true",
    "inventory, records, reports": "find /var/lib/pharma-ops -type f -not -name '*.sample' -exec cat {} +"
    " 2>/dev/null; true",
    "units and configuration": "cat /etc/systemd/system/pharma-* /etc/pharma-ops/*.toml /etc/pharma-ops/config.d/*.toml"
    " /etc/nginx/sites-available/* 2>/dev/null; true",
    "temporary files": "find /tmp /var/tmp /run/pharma-backend -xdev -type f -exec cat {} + 2>/dev/null; true",
    "Ansible's own files": "find /root/.ansible -type f -exec cat {} + 2>/dev/null; true",
    "core dumps": "find /var/lib/systemd/coredump -type f -exec cat {} + 2>/dev/null; true",
}


def look(canaries: Canaries, on_host: Callable[..., str], hosts: Iterable[str]) -> dict[str, set[str]]:
    """Everywhere on these hosts: place → names of the secrets that it shows; nothing for places that show none."""
    seen = {}
    for host in hosts:
        on_host(host, "umask 077; cat > /run/canaries", canaries.needles())
        try:
            for place, command in PLACES.items():
                # The host itself compares: its journal may be large, and the strings never are arguments of anything.
                text = on_host(host, f"( {command} ) | grep -a -o -F -f /run/canaries | sort -u; true")
                if names := canaries.found(text):
                    seen[f"{host}: {place}"] = names
        finally:
            on_host(host, "rm -f /run/canaries")
    return seen
