# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks as an operator runs them against the lab, and what they said."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# Longer than any task of a playbook takes.
SILENT_SECONDS = 300
# What differs from production, so that a test need not wait.
SHORT_WAITS = ("-e", "@molecule/release/vars.yml")


@dataclass(frozen=True)
class Played:
    """A playbook that ran: its exit status, all that it printed, how long it took."""

    code: int
    output: str
    seconds: float

    @property
    def words(self) -> str:
        """The output without its line breaks, which depend on the width of a terminal."""
        return " ".join(self.output.split())

    def succeeded(self) -> Played:
        """Itself, when the exit status is 0."""
        assert self.code == 0, self.output
        return self


class Playbooks:
    """Runs playbooks of the checkout.

    :param root: the checkout.
    :param always: words that every run has.
    """

    def __init__(self, root: Path, *always: str) -> None:
        self.root = root
        self._always = always

    @property
    def environment(self) -> dict[str, str]:
        """What a playbook is run with."""
        # Molecule asks for colours, which would stand between the words of a message.
        return os.environ | {
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "NO_COLOR": "1",
        }

    def command(self, *words: str) -> list[str]:
        """The words of a run, for a test that starts it itself."""
        return ["ansible-playbook", "-i", "inventories/lab/hosts.yml", *self._always, *words]

    def run(self, *words: str, **environment: str) -> Played:
        """Run one to its end, whatever that is. Nobody is there to answer a question."""
        began = time.monotonic()
        done = subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Played(done.returncode, done.stdout + done.stderr, time.monotonic() - began)

    def answer(self, question: str, text: str, *words: str) -> Played:
        """Run one on a terminal of its own, and type a text when it asks a question."""
        began = time.monotonic()
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(self.root)
            command = self.command(*words)
            os.execvpe(command[0], command, self.environment)  # noqa: S606 - there is no shell to need
        shown, answered = "", False
        try:
            while chunk := _read(terminal):
                shown += chunk
                if not answered and question in " ".join(shown.split()):
                    answered = True
                    # What was typed before the prompt is thrown away by it.
                    time.sleep(1)
                    os.write(terminal, f"{text}\r".encode())
        finally:
            os.close(terminal)
            _child, status = os.waitpid(child, 0)
        assert answered, shown
        return Played(os.waitstatus_to_exitcode(status), shown, time.monotonic() - began)


def _read(terminal: int) -> str:
    """What the program at the other end shows next; empty when it has ended, or says nothing for too long."""
    ready, _, _ = select.select([terminal], [], [], SILENT_SECONDS)
    try:
        return os.read(terminal, 4096).decode(errors="replace") if ready else ""
    except OSError:
        # The end of the program is an error of its terminal.
        return ""
