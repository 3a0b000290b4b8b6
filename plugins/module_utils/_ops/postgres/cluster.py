# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away cluster: made by initdb, reached by a unix socket only, removed with its directory.

Its settings give up everything that protects data from a crash, because a crash of it loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import OpsError
from .connection import Target

# sockaddr_un.sun_path holds 108 bytes; the server adds "/.s.PGSQL.5432" and a lock file's ".lock".
MAX_SOCKET_DIRECTORY_BYTES = 108 - len("/.s.PGSQL.5432.lock") - 1
SUPERUSER = "postgres"
_START_SECONDS = 60
_STOP_SECONDS = 30
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Locale:
    """Encoding and collation of a cluster.

    :ivar provider: ``libc``, ``icu`` or ``builtin``.
    :ivar locale: the provider's own locale where it is not libc (``pt-BR``, ``C.UTF-8``).
    """

    encoding: str = "UTF8"
    collate: str = "C.UTF-8"
    ctype: str = "C.UTF-8"
    provider: str = "libc"
    locale: str | None = None

    def initdb_words(self) -> list[str]:
        """The options of initdb that make a cluster like this."""
        words = [f"--encoding={self.encoding}", f"--lc-collate={self.collate}", f"--lc-ctype={self.ctype}"]
        if self.provider == "icu":
            words += ["--locale-provider=icu", f"--icu-locale={self.locale}"]
        elif self.provider == "builtin":
            words += ["--locale-provider=builtin", f"--builtin-locale={self.locale}"]
        return words


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster in a directory of its own.

    :ivar bin_dir: the server's programs (``/usr/lib/postgresql/17/bin``).
    :ivar directory: holds data, socket and server log; its path must be short.
    :ivar user: account that the server runs as; None: the present one, which must not be root.
    :ivar checksums: its pages carry checksums, as a cluster's that is to stay do.
    """

    bin_dir: Path
    directory: Path
    user: str | None = None
    port: int = 5432
    checksums: bool = False

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def socket_dir(self) -> Path:
        """The directory of the socket; only its owner and root may enter."""
        return self.directory / "s"

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.directory / "server.log"

    def target(self, dbname: str = "postgres", user: str = SUPERUSER) -> Target:
        """How to connect. The socket's directory is the only guard, there are no passwords."""
        return Target(dbname=dbname, host=str(self.socket_dir), port=self.port, user=user, sslmode="disable")

    def create(self, locale: Locale, settings: dict[str, str] | None = None) -> None:
        """Make the cluster; it does not run yet.

        :param settings: besides, or instead of, :func:`bulk_load_settings`.
        :raises OpsError: ``SOCKET_PATH_TOO_LONG``, ``CLUSTER_NOT_CREATED``.
        """
        if len(os.fsencode(self.socket_dir)) > MAX_SOCKET_DIRECTORY_BYTES:
            raise OpsError(
                "SOCKET_PATH_TOO_LONG",
                f"The path {self.socket_dir} is too long for a unix socket "
                f"(at most {MAX_SOCKET_DIRECTORY_BYTES} bytes).",
                "Choose a shorter drill.work_dir.",
            )
        own_directory(self.directory, self.user)
        own_directory(self.socket_dir, self.user)
        process.run(
            [
                self.bin_dir / "initdb",
                f"--pgdata={self.data}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--no-sync",
                "--no-instructions",
                *(["--data-checksums"] if self.checksums else []),
                *locale.initdb_words(),
            ],
            user=self.user,
            cwd=self.directory,
            timeout=120,
            code="CLUSTER_NOT_CREATED",
            action="Install the locale that the source uses (locales-all has them all), or free disk space.",
        )
        wanted = bulk_load_settings(memory_bytes(), os.cpu_count() or 1) | (settings or {})
        wanted |= {"listen_addresses": "", "unix_socket_directories": str(self.socket_dir)}
        wanted |= {"port": str(self.port)}
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in wanted.items()]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.writelines(lines)

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        :raises OpsError: ``CLUSTER_NOT_STARTED`` with the end of the server's log.
        """
        done = process.run(
            [*self._pg_ctl("start"), "-l", self.log, "-t", str(_START_SECONDS)],
            user=self.user,
            cwd=self.directory,
            timeout=_START_SECONDS + 10,
            check=False,
        )
        if done.returncode != 0:
            raise OpsError(
                "CLUSTER_NOT_STARTED",
                f"The throw-away server in {self.directory} did not start: {self.log_tail() or done.stderr}",
                "Check memory, /dev/shm and disk of this host.",
            )

    def stop(self) -> None:
        """Stop the server at once, without a checkpoint; nothing happens when it does not run."""
        pid = self.postmaster_pid()
        if pid is None:
            return
        process.run(
            [*self._pg_ctl("stop"), "-m", "immediate", "-t", str(_STOP_SECONDS)],
            user=self.user,
            cwd=self.directory,
            timeout=_STOP_SECONDS + 10,
            check=False,
        )
        if self.postmaster_pid() == pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _wait_for_end(pid)

    def shut_down(self, timeout: float) -> None:
        """End the server with a checkpoint, and bring every file of the data directory to the disk.

        :param timeout: seconds that the checkpoint may take.
        :raises OpsError: ``CLUSTER_NOT_STOPPED``, ``COMMAND_TIMEOUT``.
        """
        steps: tuple[list[str | Path], ...] = (
            [*self._pg_ctl("stop"), "-m", "fast", "-t", str(round(timeout))],
            # The server ran without fsync.
            [self.bin_dir / "initdb", "--sync-only", "-D", self.data],
        )
        for words in steps:
            process.run(
                words,
                user=self.user,
                cwd=self.directory,
                timeout=timeout + 10,
                code="CLUSTER_NOT_STOPPED",
                action=f"Read {self.log}; what was restored is not complete on the disk.",
            )

    def remove(self) -> None:
        """Stop the server and remove everything of it."""
        if self.directory.exists():
            self.stop()
            shutil.rmtree(self.directory)

    def postmaster_pid(self) -> int | None:
        """The running server's process, None when none runs on this data directory."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # A number alone may be another process by now.
        return pid if os.fsencode(self.data) in command else None

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _pg_ctl(self, verb: str) -> list[str | Path]:
        return [self.bin_dir / "pg_ctl", verb, "-D", self.data, "-w", "-s"]


def bulk_load_settings(memory: int, cpus: int) -> dict[str, str]:
    """Server settings for loading a dump as fast as the host can and reading it once.

    :param memory: bytes that the server may use.
    :param cpus: cores that it may use.
    """
    shared = min(max(memory // 8, 64 * _MIB), 1024 * _MIB)
    maintenance = min(max(memory // 16, 64 * _MIB), 512 * _MIB)
    return {
        "shared_buffers": f"{shared // _MIB}MB",
        "maintenance_work_mem": f"{maintenance // _MIB}MB",
        "work_mem": "64MB",
        "max_parallel_maintenance_workers": str(min(cpus, 4)),
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        # With minimal WAL, COPY into a table made in the same transaction writes none at all.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "64GB",
        "checkpoint_timeout": "1d",
        "autovacuum": "off",
        "bgwriter_lru_maxpages": "0",
        "huge_pages": "off",
        "max_connections": "50",
        "logging_collector": "off",
        "log_min_messages": "warning",
        "restart_after_crash": "off",
    }


def memory_bytes(path: Path = Path("/proc/meminfo")) -> int:
    """Memory that is available now, in bytes."""
    for line in path.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 512 * _MIB


def own_directory(path: Path, user: str | None) -> None:
    """Make a directory that only ``user`` (None: the present account) and root may enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    if user is not None and os.geteuid() == 0:
        shutil.chown(path, user, user)


def _wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
