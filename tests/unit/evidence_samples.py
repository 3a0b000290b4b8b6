# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as drills leave them, built in code: one per verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pharma_ops.evidence.record import Check, DrillRecord, Objective, StageResult, Subject, Verdict

PASSED, FAILED, UNKNOWN, NOT_RUN = Verdict.PASSED, Verdict.FAILED, Verdict.UNKNOWN, Verdict.NOT_RUN
FINISHED = datetime(2026, 11, 22, 6, 14, 41, 512_000, tzinfo=UTC)
SECONDS = {
    "select": 0.41,
    "preflight": 0.62,
    "fetch": 9.8,
    "verify_artefacts": 1.93,
    "decrypt": 2.2,
    "provision": 3.1,
    "restore": 71.52,
    "compare": 24.7,
    "integrity": 6.3,
    "negative_control": 1.2,
    "app_start": 4.9,
    "journey": 2.4,
    "teardown": 1.1,
    "evidence": 0.09,
}
SUMMARIES = {
    "select": "Backup 20261122T050003Z-9c41f7 is the newest complete one.",
    "preflight": "This host fits the backup.",
    "fetch": "Three objects came from s3://pharma-backups at https://s3.example:7443.",
    "verify_artefacts": "The manifest is signed by a trusted key and every digest agrees.",
    "decrypt": "Two objects were decrypted.",
    "provision": "PostgreSQL 17.12 runs on a unix socket.",
    "restore": "pg_restore and the roles ended without an error.",
    "compare": "14 tables, 1,204,877 rows: all equal to the manifest.",
    "integrity": "amcheck found nothing in 14 heaps and 31 indexes.",
    "negative_control": "A changed row of public.sales was found.",
    "app_start": "pharma-backend 1.4.2 was ready after 4.1 s.",
    "journey": "9 steps and 6 assertions on the rows they left.",
    "teardown": "Nothing is left.",
    "evidence": "Signed.",
}
FACTS: dict[str, dict[str, object]] = {
    "select": {"backupId": "20261122T050003Z-9c41f7", "ageSeconds": 4332.0},
    "fetch": {"objects": 3, "bytes": 412_883_112},
    "provision": {"serverVersion": "17.12"},
    "compare": {"tables": 14, "rows": 1_204_877, "sequences": 11},
    "integrity": {"tables": 14, "indexes": 31},
    "negative_control": {"table": "public.sales"},
    "app_start": {"version": "1.4.2"},
    "journey": {"steps": 9, "assertions": 6},
}
CHECKS = {"preflight": 5, "verify_artefacts": 4, "compare": 61, "integrity": 45, "journey": 15, "teardown": 4}


def stage(name: str, verdict: Verdict = PASSED, *, required: bool = True) -> StageResult:
    """A stage that went well, or was not run."""
    if verdict is NOT_RUN:
        return StageResult(name=name, required=required, verdict=NOT_RUN, seconds=0.0, summary="Not run.")
    checks = tuple(
        Check(name=f"check {number}", verdict=PASSED, expected="equal", observed="equal")
        for number in range(CHECKS.get(name, 1))
    )
    return StageResult(
        name=name,
        required=required,
        verdict=verdict,
        seconds=SECONDS[name],
        summary=SUMMARIES[name],
        facts=dict(FACTS.get(name, {})),
        checks=checks,
    )


def all_stages(replaced: StageResult | None = None) -> tuple[StageResult, ...]:
    """Every stage; after one that did not pass the others are not run, but for the last two."""
    stages: list[StageResult] = []
    blocked = False
    for name in SECONDS:
        if replaced and name == replaced.name:
            stages.append(replaced)
            blocked = True
        elif blocked and name not in ("teardown", "evidence"):
            stages.append(stage(name, NOT_RUN))
        else:
            stages.append(stage(name))
    return tuple(stages)


def record(
    drill_id: str,
    stages: tuple[StageResult, ...],
    *,
    finished: datetime = FINISHED,
    rto: float | None = 130.18,
    rpo: float | None = 4371.25,
    scope: str = "full",
) -> DrillRecord:
    """A drill of the pharmacy's database on a staging host."""
    full = scope == "full"
    return DrillRecord(
        drill_id=drill_id,
        environment="prod",
        host="staging1",
        tool_version="0.1.0",
        scope=scope,
        started_at=finished - timedelta(seconds=133.412),
        finished_at=finished,
        stages=stages,
        subjects=(
            Subject(name="backup manifest 20261122T050003Z-9c41f7", sha256="3f" * 32),
            Subject(name="release pharma-backend 1.4.2", sha256="a7" * 32),
        )
        if full
        else (Subject(name="dump pharmacy.dump", sha256="5c" * 32),),
        rto=Objective(seconds=rto, objective_seconds=4 * 3600),
        rpo=Objective(seconds=rpo, objective_seconds=26 * 3600),
        newest_change_at=finished - timedelta(seconds=rpo) if rpo is not None else None,
        rpo_basis="commit_timestamp" if rpo is not None else None,
        backup={
            "id": "20261122T050003Z-9c41f7",
            "database": "pharma",
            "serverVersion": "17.12",
            "sourceHost": "db1",
            "store": "s3://pharma-backups at https://s3.example:7443",
            "tables": 14,
            "rows": 1_204_877,
            "bytes": 412_883_112,
        }
        if full
        else {"serverVersion": "17.12", "bytes": 88_112_000},
        release={"name": "pharma-backend", "version": "1.4.2", "digest": "a7" * 32} if full else {},
    )


def passed(drill_id: str = "drill-20261122T061228Z-0d3f", finished: datetime = FINISHED) -> DrillRecord:
    """Everything proven."""
    return record(drill_id, all_stages(), finished=finished)


def failed(drill_id: str = "drill-20261122T061228Z-1a2b", finished: datetime = FINISHED) -> DrillRecord:
    """The restored copy differs from its source in one table, and a sequence."""
    good = tuple(
        Check(name=f"table public.t{number}", verdict=PASSED, expected="10 rows", observed="10 rows")
        for number in range(59)
    )
    bad = (
        Check(
            name="table public.sale_items",
            verdict=FAILED,
            expected="603,412 rows, hash 8fe1c2a9d04b7735:1c09aa3e51f2d610",
            observed="603,411 rows, hash 41b09d77c3fa1e02:9ad0c4417be2f8c3",
            detail="1 row is missing",
        ),
        Check(
            name="sequence public.sale_items_id_seq",
            verdict=FAILED,
            expected="last value between 603412 and 603415",
            observed="last value 603411",
        ),
    )
    compare = StageResult(
        name="compare",
        required=True,
        verdict=FAILED,
        seconds=23.91,
        summary="table public.sale_items: expected 603,412 rows, observed 603,411 rows (1 more).",
        facts={"tables": 14, "rows": 1_204_876},
        checks=good + bad,
    )
    return record(drill_id, all_stages(compare), finished=finished, rto=None)


def unknown(drill_id: str = "drill-20261122T061228Z-2c3d", finished: datetime = FINISHED) -> DrillRecord:
    """The off-site store does not answer."""
    select = StageResult(
        name="select",
        required=True,
        verdict=UNKNOWN,
        seconds=21.3,
        summary="The store s3://pharma-backups at https://s3.example:7443 cannot be reached.",
        error={
            "code": "STORE_UNREACHABLE",
            "message": "The store s3://pharma-backups at https://s3.example:7443 cannot be reached: "
            'Connect timeout on endpoint URL: "https://s3.example:7443/pharma-backups".',
            "action": "Check the endpoint's name, port and firewall from this host, then run again.",
        },
    )
    return record(drill_id, all_stages(select), finished=finished, rto=None, rpo=None)


def limited(drill_id: str = "drill-20261122T061228Z-3e4f", finished: datetime = FINISHED) -> DrillRecord:
    """A bare dump file: it restores, and that is all that can be said."""
    optional = {"select", "fetch", "verify_artefacts", "decrypt", "compare", "app_start", "journey"}
    stages = tuple(
        stage(name, NOT_RUN if name in optional else PASSED, required=name not in optional)
        for name in SECONDS
    )
    return record(drill_id, stages, finished=finished, rto=88.02, rpo=None, scope="dump")


SAMPLES = {"passed": passed, "failed": failed, "unknown": unknown, "limited": limited}
