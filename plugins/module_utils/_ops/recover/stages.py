# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages that make the new cluster, and those that put it in the place of the old one.

Until ``set_aside`` the old data directory is where it was and may even run: the new one is made beside it,
with a socket of its own that nobody else may use, and is compared with the manifest first. Putting it in
place is two renames on one filesystem; before and after each the record on disk says what is where.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .. import clock, process
from ..errors import OpsError
from ..files import sync_directory
from ..postgres.cluster import Cluster, own_directory
from ..restoring import acquire, comparing
from ..restoring.context import needed
from ..restoring.loading import Loader, replayable, source_locale, source_settings
from ..restoring.processes import end_processes, processes_of
from ..restoring.runner import Report
from . import record
from .context import MARK, Recovery
from .debian import ACCOUNT, SOCKETS, find, system_identifier
from .deciding import refuse_sessions

_SHUT_DOWN_SECONDS = 3600.0
_ANALYZE_SECONDS = 6 * 3600.0
# What initdb writes into the data directory and Debian keeps in /etc/postgresql.
_CONFIGURATION = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf")


def fetch(recovery: Recovery, report: Report) -> None:
    """Bring the set into a directory beside the data directory, which only the server's account may enter."""
    work = _work(recovery)
    work.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    own_directory(work, ACCOUNT)
    acquire.fetch(needed(recovery.backup), work, recovery.progress, report)


def verify_artefacts(recovery: Recovery, report: Report) -> None:
    """Check digests and signature of what was fetched."""
    signers = acquire.trusted_signers(recovery.request.signers_file)
    acquire.verify_artefacts(needed(recovery.backup), _work(recovery), signers, report)


def decrypt(recovery: Recovery, report: Report) -> None:
    """Decrypt dump and globals."""
    recovery.dump, recovery.globals_sql = acquire.decrypt(
        needed(recovery.backup),
        _work(recovery),
        recovery.request.identity,
        ACCOUNT,
        recovery.progress,
        report,
    )


def provision(recovery: Recovery, report: Report) -> None:
    """Make a cluster with the source's encoding and locale, with checksums, and start it for us alone."""
    content = needed(recovery.backup).manifest.content
    locale = source_locale(content)
    cluster = needed(recovery.cluster)
    if not cluster.configured:
        cluster.create(locale)
        recovery.cluster = find(cluster.major, cluster.name, cluster.bin_dir)
        report.facts["created"] = cluster.title
    fresh = Cluster(
        bin_dir=needed(recovery.bin_dir), directory=_work(recovery) / "pg", user=ACCOUNT, checksums=True
    )
    recovery.fresh = fresh
    fresh.create(locale, source_settings(content))
    fresh.start()
    report.facts |= {"encoding": locale.encoding, "provider": locale.provider, "collate": locale.collate}
    report.summary = (
        f"A new cluster with checksums in {fresh.directory}; nobody but this recovery reaches it."
    )


def restore(recovery: Recovery, report: Report) -> None:
    """Load roles and settings, then the dump; the decrypted files go as soon as they are loaded.

    :raises OpsError: ``RESTORE_FAILED``, ``DISK_FULL``.
    """
    work = _work(recovery)
    cluster = needed(recovery.cluster)
    loader = Loader(
        cluster=needed(recovery.fresh),
        directory=work,
        base=cluster.data.parent,
        base_option="the data directory",
    )
    roles, dump = needed(recovery.globals_sql), needed(recovery.dump)
    loader.globals(roles, replayable(roles.read_text(encoding="utf-8")))
    loader.dump(dump, recovery.dbname, recovery.request.jobs, report)
    roles.unlink()
    dump.unlink()


def compare(recovery: Recovery, report: Report) -> None:
    """Compare everything with the manifest: the new cluster takes the place only when it is equal."""
    target = needed(recovery.fresh).target(recovery.dbname)
    expected = needed(recovery.backup).manifest.content
    comparing.compare_content(expected, target, recovery.request.jobs, recovery.progress, report)


def stop(recovery: Recovery, report: Report) -> None:
    """Bring the new cluster to the disk, then stop the old one.

    :raises OpsError: ``SESSIONS_EXIST``, ``CLUSTER_NOT_STOPPED``.
    """
    cluster, fresh = needed(recovery.cluster), needed(recovery.fresh)
    fresh.shut_down(_SHUT_DOWN_SECONDS)
    recovery.system_identifier = system_identifier(needed(recovery.bin_dir), fresh.data)
    for name in _CONFIGURATION:
        (fresh.data / name).unlink(missing_ok=True)
    # Debian's own has it too: the server writes ALTER SYSTEM there.
    auto = fresh.data / "postgresql.auto.conf"
    auto.touch(mode=0o600)
    shutil.chown(auto, ACCOUNT, ACCOUNT)
    refuse_sessions(cluster)
    was_running = cluster.running
    cluster.stop()
    report.facts["wasRunning"] = was_running
    report.check(f"server of {cluster.data}", not cluster.running, "stopped", "stopped")
    state = "was stopped" if was_running else "was down"
    report.summary = f"The new cluster is complete on the disk; {cluster.title} {state}."


def set_aside(recovery: Recovery, report: Report) -> None:
    """Rename the old data directory, and give its place to the new one.

    :raises OpsError: ``DATA_NOT_MOVED``; the old directory is in its place, or its name is in the message.
    """
    cluster, fresh = needed(recovery.cluster), needed(recovery.fresh)
    manifest = needed(recovery.backup).manifest
    aside, present = recovery.aside(cluster), cluster.data.exists()
    noted = record.Record(
        recovery_id=recovery.recovery_id,
        database=manifest.database,
        backup_id=manifest.id,
        major=cluster.major,
        cluster=cluster.name,
        data=cluster.data,
        aside=aside,
        was_running=recovery.was_running or bool(recovery.earlier and recovery.earlier.was_running),
        started_at=clock.to_text(clock.now()),
        step="setting_aside",
    )
    _note(recovery, noted)
    if present and aside is not None:
        move(cluster.data, aside)
    _note(recovery, noted.at("placing"))
    try:
        move(fresh.data, cluster.data)
    except OpsError:
        if present and aside is not None:
            move(aside, cluster.data)
            _note(recovery, noted.at("undone"))
        raise
    _note(recovery, noted.at("placed"))
    report.facts |= {"setAsideAs": str(aside) if aside else None, "dataDirectory": str(cluster.data)}
    report.summary = (
        f"The old data directory is {aside}, untouched." if aside else "There was no old data directory."
    )


def settle(recovery: Recovery, report: Report) -> None:
    """Start the cluster with its own configuration, look that it is durable and the right one, and analyze.

    :raises OpsError: ``CLUSTER_NOT_STARTED``, ``CLUSTER_UNREACHABLE``, ``COMMAND_FAILED``.
    """
    cluster = needed(recovery.cluster)
    database = recovery.dbname
    cluster.start()
    serving = cluster.sql("SELECT system_identifier FROM pg_catalog.pg_control_system()")
    expected = [recovery.system_identifier]
    report.check("the restored cluster serves", serving == expected, expected[0], ", ".join(serving))
    for name in ("fsync", "full_page_writes", "data_checksums"):
        (value,) = cluster.sql(f"SELECT pg_catalog.current_setting('{name}') AS v")
        report.check(f"setting {name}", value == "on", "on", value)
    recovery.progress.advanced("settle", 0, None, "tables")
    process.run(
        [
            cluster.bin_dir / "vacuumdb",
            "--analyze-only",
            f"--jobs={recovery.request.jobs}",
            f"--host={SOCKETS}",
            f"--port={cluster.port}",
            f"--dbname={database}",
        ],
        user=ACCOUNT,
        timeout=_ANALYZE_SECONDS,
        action=f"The data is in place and serves; run vacuumdb --analyze-only {database} by hand.",
    )
    boot = cluster.starts_at_boot
    report.facts |= {"cluster": cluster.title, "startsAtBoot": boot}
    _note(recovery, needed(recovery.record).at("finished"))
    report.summary = (
        f"{cluster.title} serves {database} with durable settings, analyzed"
        f"{'' if boot else '; it does NOT start at boot (start.conf)'}."
    )


def teardown(recovery: Recovery, report: Report, swept: list[str]) -> None:
    """Remove everything of the recovery but the data directories, and look that nothing is left."""
    report.facts["sweptRecoveries"] = swept
    left: list[str] = []
    if recovery.cluster is not None:
        work = _work(recovery)
        remove(work)
        left = [str(work)] if work.exists() else []
        left += [f"{pid} {command}" for pid, command in processes_of(work).items()]
    report.check("decrypted files and processes", not left, "none", "; ".join(left[:5]) or "none")
    report.summary = f"Left: {'; '.join(left)}." if left else "No decrypted file and no process is left."


def remove(work: Path) -> None:
    """End the processes of a directory and remove it."""
    end_processes(work)
    shutil.rmtree(work, ignore_errors=True)


def sweep(data: Path, keep: str) -> list[str]:
    """Remove what killed recoveries left beside a data directory: never a data directory itself.

    :param keep: id of the recovery that is just beginning.
    :returns: the ids of the others.
    """
    swept = []
    for path in sorted(data.parent.glob(f"{data.name}{MARK}recovery-*")):
        recovery_id = path.name.removeprefix(f"{data.name}{MARK}")
        if recovery_id != keep and path.is_dir() and not path.is_symlink():
            remove(path)
            swept.append(recovery_id)
    return swept


def move(source: Path, target: Path) -> None:
    """Rename a directory, durably; a name that is taken is never taken over.

    :raises OpsError: ``DATA_NOT_MOVED``.
    """
    try:
        if target.exists() or target.is_symlink():
            raise FileExistsError(0, f"{target} is there already")
        source.rename(target)
        sync_directory(source.parent)
        sync_directory(target.parent)
    except OSError as error:
        raise OpsError(
            "DATA_NOT_MOVED",
            f"{source} could not be renamed to {target}: {error.strerror or error}.",
            "Both are as they were; look at the filesystem, then run again.",
        ) from error


def _note(recovery: Recovery, noted: record.Record) -> None:
    record.write(recovery.config.state_dir, noted)
    recovery.record = noted
    recovery.log.info("recovery_step", step=noted.step, aside=str(noted.aside), data=str(noted.data))


def _work(recovery: Recovery) -> Path:
    return recovery.work(needed(recovery.cluster))
