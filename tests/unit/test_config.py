# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration is refused as a whole when one key of it is not understood."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops import config
from pharma_ops.errors import OpsError

COMPLETE = """
environment = "staging"
state_dir = "/srv/ops"

[databases.pharma]
port = 5433
sslmode = "verify-full"
sslrootcert = "/etc/ssl/ca.crt"

[backup]
fingerprint_sessions = 3

[stores.offsite]
type = "s3"
endpoint = "https://s3.example"
bucket = "backups"

[stores.disk]
type = "local"
path = "/srv/backups"

[drill]
jobs = 4

[drill.application]
start = ["{release}/bin/serve", "--uds", "{socket}"]
environment = { APP_ENV = "drill" }
"""


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(OpsError) as caught:
        config.parse(data)
    assert caught.value.code == "CONFIG_INVALID"
    assert caught.value.action
    return caught.value.message


def test_reads_every_kind_of_value(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(COMPLETE, encoding="utf-8")
    loaded = config.load(path)
    assert loaded.state_dir == Path("/srv/ops")
    name, database = loaded.database(None)
    assert (name, database.port, database.user) == ("pharma", 5433, "pharma_backup")
    assert database.sslrootcert == Path("/etc/ssl/ca.crt")
    assert loaded.store("disk").path == Path("/srv/backups")
    assert loaded.drill is not None
    assert loaded.drill.application is not None
    assert loaded.drill.application.start == ("{release}/bin/serve", "--uds", "{socket}")
    assert loaded.drill.application.environment == {"APP_ENV": "drill"}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"environment": "lab", "stat_dir": "/x"}, "unknown key stat_dir"),
        ({"environment": "lab", "databases": {"p": {"prot": 1}}}, "unknown key databases.p.prot"),
        (
            {"environment": "lab", "stores": {"offsite": {"type": "s3", "buket": "b"}}},
            "unknown key stores.offsite.buket",
        ),
        ({}, "environment is missing"),
        ({"environment": "lab", "stores": {"offsite": {}}}, "stores.offsite.type is missing"),
        ({"environment": "production"}, "environment must be one of prod, staging, lab, not 'production'"),
        ({"environment": "lab", "stores": {"x": {"type": "ftp"}}}, "stores.x.type must be one of"),
        ({"environment": "lab", "state_dir": "relative/path"}, "state_dir must be an absolute path"),
        ({"environment": "lab", "state_dir": 7}, "state_dir must be an absolute path"),
        (
            {"environment": "lab", "databases": {"p": {"port": "5432"}}},
            "databases.p.port must be of type int",
        ),
        (
            {"environment": "lab", "databases": {"p": {"port": True}}},
            "databases.p.port must be of type int",
        ),
        ({"environment": "lab", "databases": "pharma"}, "databases must be of type table"),
        ({"environment": "lab", "database": {"name": "p"}}, "unknown key database"),
        ({"environment": "lab", "stores": ["offsite"]}, "stores must be of type table"),
        (
            {"environment": "lab", "drill": {"application": {"start": "serve"}}},
            "drill.application.start must be of type list",
        ),
        (
            {"environment": "lab", "drill": {"application": {"start": ["serve", 1]}}},
            "drill.application.start must be of type str",
        ),
    ],
)
def test_names_the_key_that_is_wrong(data: dict[str, Any], named: str) -> None:
    assert named in refusal(data)


@given(st.text(min_size=1).filter(lambda key: key not in {f.name for f in dataclasses.fields(config.Config)}))
def test_any_unknown_key_is_refused(key: str) -> None:
    assert key in refusal({"environment": "lab", key: 1})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from([spec.name for spec in dataclasses.fields(config.Config)]),
)
def test_any_value_gives_a_configuration_or_a_named_refusal(value: Any, key: str) -> None:
    try:
        parsed = config.parse({"environment": "lab", key: value})
    except OpsError as error:
        assert error.code == "CONFIG_INVALID"
        assert key in error.message
    else:
        assert isinstance(parsed, config.Config)


def test_a_store_that_is_not_configured_is_named_with_those_that_are() -> None:
    parsed = config.parse({"environment": "lab", "stores": {"disk": {"type": "local", "path": "/b"}}})
    with pytest.raises(OpsError, match=r"'offsite' \(there are: disk\)"):
        parsed.store("offsite")


def test_one_database_needs_no_name_and_several_do() -> None:
    one = config.parse({"environment": "lab", "databases": {"shop": {"dbname": "pharma"}}})
    assert one.database(None) == one.database("shop") == ("shop", config.Database(dbname="pharma"))
    with pytest.raises(OpsError, match=r"no database 'x' is configured on this host \(there are: shop\)"):
        one.database("x")
    two = config.parse({"environment": "lab", "databases": {"shop": {}, "crm": {}}})
    assert two.database("crm")[0] == "crm"
    with pytest.raises(OpsError, match=r"--database \(there are: crm, shop\)"):
        two.database(None)
    with pytest.raises(OpsError, match="no database is configured"):
        config.parse({"environment": "lab"}).database(None)


def test_a_missing_file_is_told_from_a_wrong_one(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(OpsError) as missing:
        config.load(path)
    assert missing.value.code == "CONFIG_MISSING"
    path.write_text("environment = lab", encoding="utf-8")
    with pytest.raises(OpsError, match="is not TOML") as broken:
        config.load(path)
    assert broken.value.code == "CONFIG_INVALID"
    path.write_text('environment = "lab"\nnope = 1\n', encoding="utf-8")
    with pytest.raises(OpsError, match=r"config\.toml: unknown key nope"):
        config.load(path)


def test_fragments_of_the_directory_beside_the_file_are_merged(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_text('environment = "lab"\n')
    fragments = tmp_path / "config.d"
    fragments.mkdir()
    (fragments / "backup.toml").write_text('[stores.offsite]\ntype = "local"\npath = "/a"\n')
    (fragments / "drill.toml").write_text('[stores.reader]\ntype = "local"\npath = "/b"\n')
    assert sorted(config.load(main).stores) == ["offsite", "reader"]


def test_fragments_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    main = tmp_path / "config.toml"
    main.write_text('environment = "lab"\n[stores.offsite]\ntype = "local"\npath = "/a"\n')
    fragments = tmp_path / "config.d"
    fragments.mkdir()
    fragment = fragments / "drill.toml"
    fragment.write_text('[stores.offsite]\npath = "/a"\n')
    assert config.load(main).store("offsite").path == Path("/a")
    fragment.write_text('[stores.offsite]\npath = "/b"\n')
    with pytest.raises(OpsError, match=r"drill\.toml sets stores\.offsite\.path once more"):
        config.load(main)
