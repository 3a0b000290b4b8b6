# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes without a shell: every exit status is checked, every failure names its program.

Secrets reach a child through a file descriptor (:func:`secret_file`), never through argv or its
environment.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .errors import OpsError

STDERR_LINES = 40
_TERMINATE_SECONDS = 5.0


@dataclass(frozen=True)
class Completed:
    """How a child ended: its exit status (negative: killed by that signal) and what it printed."""

    returncode: int
    stdout: bytes
    stderr: str


class Child:
    """A running child whose last lines of standard error are kept for the message of its failure.

    Use it as a context manager: leaving the block by an exception ends the child.

    :param argv: the program and its arguments; no shell reads them.
    :param user: account to run as (only root can name another than its own).
    :param env: additions to the minimal environment (PATH, LANG, HOME).
    :raises OpsError: ``PROGRAM_MISSING``.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.DEVNULL,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = Path(argv[0]).name
        options: dict[str, object] = {}
        if user is not None and os.geteuid() == 0:
            account = pwd.getpwnam(user)
            options = {
                "user": account.pw_uid,
                "group": account.pw_gid,
                "extra_groups": os.getgrouplist(user, account.pw_gid),
            }
        try:
            self.popen = subprocess.Popen(  # type: ignore[call-overload]
                [str(word) for word in argv],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=minimal_environment(user) | dict(env or {}),
                cwd=cwd or "/",
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                **options,
            )
        except FileNotFoundError as error:
            raise OpsError(
                "PROGRAM_MISSING",
                f"The program {argv[0]} is not on this host.",
                "Install its Debian package (the role pharma.hardening.ops names them).",
            ) from error
        self._tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def _read_stderr(self) -> None:
        for line in self.popen.stderr:
            self._tail.append(line.decode("utf-8", "replace").rstrip())

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the child; only when started with ``stdin=PIPE``."""
        assert self.popen.stdin is not None
        pipe: IO[bytes] = self.popen.stdin
        return pipe

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the child; only when started with ``stdout=PIPE``."""
        assert self.popen.stdout is not None
        pipe: IO[bytes] = self.popen.stdout
        return pipe

    @property
    def stderr_tail(self) -> str:
        """The last lines that the child wrote to standard error."""
        return "\n".join(self._tail)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        status: int = self.popen.wait(timeout)
        self._reader.join(timeout=_TERMINATE_SECONDS)
        return status

    def check(self, code: str = "COMMAND_FAILED", action: str = "", what: str = "") -> None:
        """Wait, and turn any exit status but 0 into an error.

        :raises OpsError: ``code``; the message has the program, the status and its last words.
        """
        status = self.wait()
        if status != 0:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            words = self.stderr_tail.strip() or "it printed no reason"
            raise OpsError(code, f"{what or self.name} failed with {how}: {words}", action)

    def end(self) -> None:
        """End the child if it still runs: SIGTERM, then SIGKILL."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(_TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass
        if kind is None:
            self.wait()


def run(
    argv: Sequence[str | Path],
    *,
    input: bytes = b"",
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    timeout: float | None = None,
    code: str = "COMMAND_FAILED",
    action: str = "",
    check: bool = True,
) -> Completed:
    """Run a program to its end and collect its output (small outputs only: it is kept in memory).

    :param timeout: seconds; afterwards the child is ended.
    :raises OpsError: ``code`` for an exit status other than 0 (with ``check``), ``COMMAND_TIMEOUT``,
        ``PROGRAM_MISSING``.
    """
    with Child(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
    ) as child:
        feeder = threading.Thread(target=_feed, args=(child.stdin, input), daemon=True)
        feeder.start()
        watchdog = threading.Timer(timeout, child.popen.kill) if timeout else None
        if watchdog:
            watchdog.start()
        stdout = child.stdout.read()
        status = child.wait()
        if watchdog:
            expired = not watchdog.is_alive()
            watchdog.cancel()
            if expired:
                raise OpsError("COMMAND_TIMEOUT", f"{child.name} did not end within {timeout} s.", action)
        if check:
            child.check(code, action)
        return Completed(status, stdout, child.stderr_tail)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.close()
    except BrokenPipeError:
        pass


@contextmanager
def secret_file(data: bytes) -> Iterator[tuple[Path, int]]:
    """An unnamed file in memory that holds a secret: its path for a child, and the descriptor to pass.

    The path only resolves in a child that gets the descriptor by ``pass_fds``.
    """
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, data)
        yield Path(f"/proc/self/fd/{fd}"), fd
    finally:
        os.close(fd)


def minimal_environment(user: str | None = None) -> dict[str, str]:
    """The environment of a child: nothing of the parent's but PATH.

    TZ and LANG are fixed so that output does not depend on the operator's shell.
    """
    home = pwd.getpwnam(user).pw_dir if user else os.environ.get("HOME", "/")
    return {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": home,
    }
