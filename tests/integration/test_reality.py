# SPDX-License-Identifier: GPL-3.0-or-later
"""The regression of reality: what real databases hold comes back equal, and a change is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import manual
import pytest
from cluster import Cluster
from material import MakeConfig, superuser

from pharma_ops.backup.create import create_backup
from pharma_ops.backup.manifest import Manifest
from pharma_ops.backup.verify import verify_set
from pharma_ops.log import Log
from pharma_ops.postgres.connection import connect
from pharma_ops.postgres.content import Content, Difference, compare, hash_table, read_content
from pharma_ops.progress import Silent
from pharma_ops.store.open import open_store

REALITY = Path(__file__).with_name("reality.sql").read_text(encoding="utf-8")
AWKWARD = '"Filial São João"."Preços ""de"" Venda"'


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Cluster:
    """The database ``reality`` with everything in it, and settings of its own."""
    cluster.create("reality", REALITY)
    cluster.execute(
        "ALTER DATABASE reality SET work_mem = '5MB'; COMMENT ON DATABASE reality IS 'farmácia';"
        "GRANT CONNECT ON DATABASE reality TO shop_app; ALTER ROLE shop_app IN DATABASE reality SET jit = off;"
        "ALTER ROLE pharma_backup SET lo_compat_privileges = on"
    )
    return cluster


@dataclass
class Restored:
    """A backup and the cluster that the four commands restored it into."""

    manifest: Manifest
    cluster: Cluster

    def read(self) -> Content:
        """What the restored database holds now."""
        return read_content(superuser(self.cluster, "reality"), snapshot=None, sessions=2, progress=Silent())

    def differences(self) -> list[Difference]:
        """Against the manifest."""
        return compare(self.manifest.content, self.read())


@pytest.fixture
def backup(source: Cluster, make_config: MakeConfig, log: Log, store_dir: Path) -> tuple[Manifest, Path]:
    """A new backup of ``reality``: its manifest and its directory."""
    settings = make_config(source, "reality")
    result = create_backup(settings, log, Silent())
    directory = store_dir / "reality" / result.backup_id
    return Manifest.from_json((directory / "manifest.json").read_bytes()), directory


@pytest.fixture(scope="module")
def restored_clusters() -> Iterator[list[Cluster]]:
    """Clusters to remove when the module ends."""
    clusters: list[Cluster] = []
    yield clusters
    for cluster in clusters:
        cluster.remove()


@pytest.fixture(scope="module")
def state() -> dict[str, Restored]:
    """One restore serves all the tests of the module."""
    return {}


@pytest.fixture
def restored(
    state: dict[str, Restored],
    restored_clusters: list[Cluster],
    backup: tuple[Manifest, Path],
    keys: object,
    tmp_path: Path,
) -> Restored:
    """The backup restored by hand into another cluster."""
    if "it" not in state:
        fresh = Cluster()
        restored_clusters.append(fresh)
        manifest, directory = backup
        manual.restore(fresh, directory, keys.identity, tmp_path / "restore")  # type: ignore[attr-defined]
        state["it"] = Restored(manifest, fresh)
    return state["it"]


def test_what_four_commands_restore_is_equal(restored: Restored) -> None:
    content = restored.manifest.content
    assert restored.differences() == []
    assert content.tables["pharmacy.sales"].rows == 3000
    assert content.tables["archive.person"].rows == 11  # without the rows of its child
    assert content.tables[AWKWARD].rows == 4
    assert "pharmacy.events" not in content.tables  # the leaves are
    assert content.tables["pharmacy.events_rest"].rows > 0
    assert content.large_objects.count == 3
    assert set(content.extensions) == {"plpgsql", "pg_trgm", "hstore"}
    assert content.sequences["archive.countdown"].low == 990


def test_materialized_views_are_judged_by_what_refresh_makes(restored: Restored) -> None:
    tables = restored.manifest.content.tables
    assert not tables["pharmacy.daily"].stale
    assert tables["pharmacy.stale"].stale
    assert "stale" in tables["pharmacy.above_stale"].undecided
    assert "clock" in tables["pharmacy.clock"].undecided
    assert not tables["pharmacy.empty"].populated


def test_the_inventory_names_every_kind_of_object(restored: Restored) -> None:
    structure = restored.manifest.content.structure
    kinds = {name.split(" ")[0] for name in structure}
    assert kinds >= {
        "aggregate", "collation", "column", "comment", "composite", "constraint", "database", "default", "domain",
        "enum", "event", "extension", "function", "index", "materialized", "operator", "owners", "partitioned",
        "policy", "procedure", "publication", "range", "rule", "schema", "sequence", "setting", "statistics",
        "table", "trigger", "view",
    }  # fmt: skip
    assert "row security" in structure["table pharmacy.secrets"]
    assert "shop_app=SELECT" in structure["table pharmacy.sales"]
    assert restored.manifest.content.roles["shop_app"].startswith("login")


CHANGES = [
    ("UPDATE pharmacy.sales SET note = note || ' ' WHERE id = 103", "table", "pharmacy.sales"),
    ("DELETE FROM pharmacy.events_2025 WHERE id = 5", "table", "pharmacy.events_2025"),
    ("INSERT INTO archive.employee VALUES (99, 'x', 1)", "table", "archive.employee"),
    (f'UPDATE {AWKWARD} SET "Preço R$" = 1.00 WHERE "select" = 1', "table", AWKWARD),
    (f'UPDATE {AWKWARD} SET f8 = 0 WHERE "select" = 1', "table", AWKWARD),
    (f"UPDATE {AWKWARD} SET i = 'P30D' WHERE \"select\" = 1", "table", AWKWARD),
    (f"UPDATE {AWKWARD} SET t = NULL WHERE t = ''", "table", AWKWARD),
    (f'UPDATE {AWKWARD} SET j = \'{{"a": 1, "a": 2}}\' WHERE "select" = 1', "table", AWKWARD),
    (f"UPDATE {AWKWARD} SET x = '<a>c</a>' WHERE \"select\" = 1", "table", AWKWARD),
    (f"UPDATE {AWKWARD} SET v = 'gato:1A rato:3' WHERE \"select\" = 1", "table", AWKWARD),
    (f"UPDATE {AWKWARD} SET p = '(1,0)' WHERE \"select\" = 1", "table", AWKWARD),
    ('DELETE FROM "Filial São João".nothing', "table", '"Filial São João".nothing'),
    ("SELECT lo_put(70001, 5, '\\x77')", "large objects", "large objects"),
    ("SELECT lo_put(70003, 100003, '\\x00')", "large objects", "large objects"),
    ("SELECT nextval('archive.untouched'), nextval('archive.untouched')", "sequence", "archive.untouched"),
    ("DROP INDEX pharmacy.sales_open", "structure", "index pharmacy.sales_open"),
    ("ALTER TABLE pharmacy.secrets NO FORCE ROW LEVEL SECURITY", "structure", "table pharmacy.secrets"),
    ("DROP POLICY own ON pharmacy.secrets", "structure", "policy own on pharmacy.secrets"),
    ("REVOKE UPDATE ON pharmacy.sales FROM shop_app", "structure", "table pharmacy.sales"),
    ("ALTER TABLE pharmacy.sales DISABLE TRIGGER touch", "structure", "trigger touch on pharmacy.sales"),
    ("ALTER TABLE archive.big ALTER body SET DEFAULT 'x'", "structure", "column archive.big.body"),
    ("ALTER TYPE pharmacy.status ADD VALUE 'nova'", "structure", "enum pharmacy.status"),
    (
        "ALTER FUNCTION archive.twice OWNER TO shop_owner",
        "structure",
        "function archive.twice(integer, factor integer)",
    ),
    ("CREATE TABLE archive.surplus (id integer)", "table", "archive.surplus"),
    ("DROP TABLE archive.unlogged", "table", "archive.unlogged"),
    ("ALTER ROLE shop_app SUPERUSER", "role", "shop_app"),
    ("ALTER DATABASE reality RESET work_mem", "structure", "setting work_mem of the database"),
    ("COMMENT ON TABLE pharmacy.sales IS 'outra'", "structure", "comment on table pharmacy.sales"),
]


@pytest.mark.parametrize(("change", "kind", "name"), CHANGES, ids=[change[0][:60] for change in CHANGES])
def test_a_change_is_found_and_named(restored: Restored, change: str, kind: str, name: str) -> None:
    """Each change is made in a transaction, read from inside of it, and rolled back."""
    target = superuser(restored.cluster, "reality")
    with connect(target, autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute(change.encode())
        differences = compare(restored.manifest.content, _read_inside(connection, restored.manifest.content))
        connection.execute("ROLLBACK")
    assert (kind, name) in {(item.kind, item.name) for item in differences}


def _read_inside(connection: object, expected: Content) -> Content:
    """What an open transaction sees: the same reading, in its one session."""
    from pharma_ops.postgres import catalog, largeobjects, sequences, structure
    from pharma_ops.postgres.connection import Target

    relations = catalog.relations(connection)  # type: ignore[arg-type]
    tables = {item.name: hash_table(connection, item.name) for item in relations if item.kind == "table"}  # type: ignore[arg-type]
    views = {name: item for name, item in expected.tables.items() if item.kind != "table"}
    positions = sequences.read(connection)  # type: ignore[arg-type]
    return Content(
        server_version=expected.server_version,
        encoding=expected.encoding,
        tables=tables | views,
        sequences=sequences.between(positions, positions),
        structure=structure.read(connection),  # type: ignore[arg-type]
        extensions=expected.extensions,
        large_objects=largeobjects.read(connection, Target(dbname="reality")),  # type: ignore[arg-type]
        roles=structure.read_roles(connection),  # type: ignore[arg-type]
    )


def test_a_restored_view_with_other_rows_is_found(restored: Restored) -> None:
    restored.cluster.execute("DELETE FROM pharmacy.sales WHERE id = 100", "reality")
    restored.cluster.execute("REFRESH MATERIALIZED VIEW pharmacy.daily", "reality")
    names = {item.name for item in restored.differences()}
    assert {"pharmacy.sales", "pharmacy.daily"} <= names


def test_the_manifest_fits_its_schema_and_reveals_no_row(backup: tuple[Manifest, Path], root: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    _, directory = backup
    text = (directory / "manifest.json").read_text(encoding="utf-8")
    schema = json.loads((root / "docs/schemas/manifest.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    for inside in ("Curitiba", "nota 7", "only:for", "SCRAM-SHA-256", "comentário com"):
        assert inside not in text


def test_no_object_but_the_manifest_is_readable(backup: tuple[Manifest, Path]) -> None:
    manifest, directory = backup
    assert {path.name for path in directory.iterdir()} == {
        "dump.age", "globals.sql.age", "manifest.json", "manifest.json.sig",
    }  # fmt: skip
    for entry in manifest.objects:
        assert (directory / entry.name).read_bytes().startswith(b"age-encryption.org/v1\n")
    assert len(manifest.recipients) == 2


def test_verify_reads_everything_back(
    backup: tuple[Manifest, Path], source: Cluster, make_config: MakeConfig, keys: object, tmp_path: Path
) -> None:
    manifest, _ = backup
    store = open_store(make_config(source, "reality").store("offsite"))
    signers = keys.signers.read_bytes()  # type: ignore[attr-defined]
    verified = verify_set(store, "reality", manifest.id, signers, Silent(), tmp_path)
    assert verified.bytes == sum(entry.bytes for entry in manifest.objects)
    assert verified.manifest == manifest
