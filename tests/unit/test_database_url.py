# SPDX-License-Identifier: GPL-3.0-or-later
"""A DATABASE_URL is understood as libpq does, and never quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pharma_ops import config
from pharma_ops.errors import OpsError
from pharma_ops.postgres import url
from pharma_ops.postgres.connection import Target, libpq_environment

SECRET = "p%40ss%3Aw%2Ford"


def target(tmp_path: Path, text: str, **keys: object) -> Target:
    path = tmp_path / "url"
    path.write_text(text)
    return Target.from_config("shop", config.Database(url_file=path, **keys))  # type: ignore[arg-type]


def test_a_providers_url_with_its_parameters(tmp_path: Path) -> None:
    found = target(
        tmp_path,
        f"postgres://backup:{SECRET}@db.example:6432/shop?sslmode=require&channel_binding=require"
        "&options=endpoint%3Dep-1&connect_timeout=3\n",
    )
    assert (found.host, found.port, found.dbname, found.user) == ("db.example", 6432, "shop", "backup")
    assert found.password == "p@ss:w/ord"
    assert (found.sslmode, found.sslrootcert) == ("require", None)
    assert found.parameters == {"channel_binding": "require", "options": "endpoint=ep-1"}
    with libpq_environment(found) as (env, _fds):
        assert env["PGCHANNELBINDING"] == "require"
        assert env["PGOPTIONS"].endswith(" endpoint=ep-1")
        assert "row_security=off" in env["PGOPTIONS"]
        assert "p@ss:w/ord" not in str(env)
    assert "p@ss" not in repr(found)
    assert "p@ss" not in found.description


def test_over_a_network_the_server_must_prove_who_it_is(tmp_path: Path) -> None:
    found = target(tmp_path, "postgresql://backup@db.example/shop")
    assert (found.sslmode, found.sslrootcert) == ("verify-full", url.SYSTEM_AUTHORITIES)
    found = target(tmp_path, "postgresql://backup@db.example/shop?sslrootcert=system&sslmode=verify-full")
    assert found.sslrootcert == url.SYSTEM_AUTHORITIES
    found = target(tmp_path, "postgresql://backup@db.example/shop?sslrootcert=/etc/ca.crt")
    assert found.sslrootcert == Path("/etc/ca.crt")
    found = target(tmp_path, "postgresql://backup@db.example/shop", sslrootcert=Path("/etc/own.crt"))
    assert (found.sslmode, found.sslrootcert) == ("verify-full", Path("/etc/own.crt"))
    found = target(tmp_path, "postgresql://backup@db.example/shop", sslmode="verify-ca")
    assert found.sslmode == "verify-ca"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not one URL"),
        ("host=db password=planted-word", "not one URL"),
        ("postgresql://u:planted-word@h/d\npostgresql://u@h/e\n", "not one URL"),
        ("mysql://u:planted-word@h/d", "not one URL"),
        ("postgresql://u:planted-word@h:p:q/d", "several hosts"),
        ("postgresql://u:planted-word@h/d?nonsense=1", "libpq cannot parse it"),
        ("postgresql://u:planted-word@/d", "it names no host"),
        ("postgresql://h/d", "it names no user"),
        ("postgresql://u:planted-word@h", "it names no dbname"),
        ("postgresql://u:planted-word@h1,h2/d", "several hosts"),
        ("postgresql://u:planted-word@h/d?service=x", "its parameter service"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(
    tmp_path: Path, text: str, reason: str
) -> None:
    with pytest.raises(OpsError) as caught:
        target(tmp_path, text)
    assert caught.value.code == "SECRET_INVALID"
    assert reason in caught.value.message
    assert str(tmp_path / "url") in caught.value.message
    assert "planted-word" not in str(caught.value)


def test_a_missing_url_and_one_beside_other_keys_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(OpsError) as caught:
        Target.from_config("shop", config.Database(url_file=tmp_path / "gone"))
    assert caught.value.code == "SECRET_MISSING"
    for keys in ({"host": "db"}, {"port": 1}, {"user": "x"}, {"dbname": "x"}, {"password_file": tmp_path}):
        with pytest.raises(OpsError) as caught:
            target(tmp_path, "postgresql://backup@db.example/shop", **keys)
        assert caught.value.code == "CONFIG_INVALID"
        assert next(iter(keys)) in caught.value.message


def test_without_a_url_the_key_is_the_databases_name() -> None:
    assert Target.from_config("shop", config.Database()).dbname == "shop"
    assert Target.from_config("shop", config.Database(dbname="pharma")).dbname == "pharma"
