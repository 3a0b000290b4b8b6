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
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .errors import OpsError

PIPE_BYTES = 1024 * 1024
"""The most that an unprivileged process may ask for; a bigger pipe wakes its two ends less often."""
STDERR_LINES = 40
_STDERR_LINE_BYTES = 4096
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
    :raises OpsError: ``PROGRAM_MISSING``, ``PROGRAM_NOT_STARTED``, ``ACCOUNT_UNUSABLE``.
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
        switch = _switch(user)
        try:
            self.popen = subprocess.Popen(
                [str(word) for word in argv],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=minimal_environment(user) | dict(env or {}),
                cwd=cwd or "/",
                pass_fds=tuple(pass_fds),
                start_new_session=True,
                pipesize=PIPE_BYTES,
                user=switch.pw_uid if switch else None,
                group=switch.pw_gid if switch else None,
                extra_groups=os.getgrouplist(switch.pw_name, switch.pw_gid) if switch else None,
            )
        except OSError as error:
            raise _not_started(argv[0], cwd, error) from error
        self._tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def _read_stderr(self) -> None:
        pipe = _pipe(self.popen.stderr)
        while line := pipe.readline(_STDERR_LINE_BYTES):
            self._tail.append(line.decode("utf-8", "replace").rstrip())

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the child; only when started with ``stdin=PIPE``."""
        return _pipe(self.popen.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the child; only when started with ``stdout=PIPE``."""
        return _pipe(self.popen.stdout)

    @property
    def stderr_tail(self) -> str:
        """The last lines that the child wrote to standard error."""
        return "\n".join(self._tail)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        status = self.popen.wait(timeout)
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
        """End the child if it still runs: SIGTERM, then SIGKILL to it and to what it started."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(_TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self.wait()

    def kill(self) -> None:
        """SIGKILL the child's whole process group; nothing happens when the child was reaped."""
        if self.popen.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.end()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
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
        threading.Thread(target=_feed, args=(child.stdin, input), daemon=True).start()
        with _deadline(child, timeout, action):
            stdout = child.stdout.read()
            status = child.wait()
        if check:
            child.check(code, action)
        return Completed(status, stdout, child.stderr_tail)


@contextmanager
def _deadline(child: Child, seconds: float | None, action: str) -> Iterator[None]:
    """Kill the child when the block takes longer, and say so."""
    if seconds is None:
        yield
        return
    expired = threading.Event()

    def expire() -> None:
        if child.popen.returncode is None:
            expired.set()
            child.kill()

    watchdog = threading.Timer(seconds, expire)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
    if expired.is_set():
        raise OpsError("COMMAND_TIMEOUT", f"{child.name} did not end within {seconds:g} s.", action)


def _feed(pipe: IO[bytes], data: bytes) -> None:
    # ValueError: the child ended early and its context manager has closed the pipe.
    with suppress(BrokenPipeError, ValueError):
        pipe.write(data)
        pipe.close()


@contextmanager
def secret_file(data: bytes, user: str | None = None) -> Iterator[tuple[Path, int]]:
    """An unnamed file in memory that holds a secret: its path for a child, and the descriptor to pass.

    The path only resolves in a child that gets the descriptor by ``pass_fds``.

    :param user: account that the child runs as (as in :class:`Child`): it must own the file to open it.
    """
    switch = _switch(user)
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        os.fchmod(fd, 0o600)
        with os.fdopen(fd, "wb", closefd=False) as stream:
            stream.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        if switch:
            os.fchown(fd, switch.pw_uid, switch.pw_gid)
        yield Path(f"/proc/self/fd/{fd}"), fd
    finally:
        os.close(fd)


def minimal_environment(user: str | None = None) -> dict[str, str]:
    """The environment of a child: nothing of the parent's but PATH.

    TZ and LANG are fixed so that output does not depend on the operator's shell.
    """
    home = _account(user).pw_dir if user else os.environ.get("HOME", "/")
    return {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": home,
    }


def _switch(user: str | None) -> pwd.struct_passwd | None:
    """The account to change to, or None to stay.

    :raises OpsError: ``ACCOUNT_UNUSABLE``.
    """
    if user is None:
        return None
    account = _account(user)
    if os.geteuid() == 0:
        return account
    if account.pw_uid != os.geteuid():
        raise OpsError(
            "ACCOUNT_UNUSABLE",
            f"Only root can run a program as {user}; this process has uid {os.geteuid()}.",
            "Run as root, or name this account in the configuration.",
        )
    return None


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise OpsError(
            "ACCOUNT_UNUSABLE",
            f"There is no account {user} on this host.",
            "Install what makes it (for postgres: the Debian package postgresql), or correct the name.",
        ) from None


def _not_started(program: str | Path, cwd: Path | None, error: OSError) -> OpsError:
    if isinstance(error, FileNotFoundError) and (cwd is None or cwd.is_dir()):
        return OpsError(
            "PROGRAM_MISSING",
            f"The program {program} is not on this host.",
            "Install its Debian package (the role pharma.hardening.ops names them).",
        )
    return OpsError(
        "PROGRAM_NOT_STARTED",
        f"{program} could not be started in {cwd or '/'}: {error.strerror}.",
        "Check that the program may be executed and that its working directory exists.",
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise ValueError("the child was started without this pipe")
    return pipe
