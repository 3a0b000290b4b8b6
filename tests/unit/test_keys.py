# SPDX-License-Identifier: GPL-3.0-or-later
"""Age keys from the cradle to the grave: made, listed, rotated, retired; every key is made by age itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_manifest import MANIFEST

from pharma_ops.backup import readers
from pharma_ops.backup.catalogue import SetInfo
from pharma_ops.cli.main import main
from pharma_ops.errors import OpsError
from pharma_ops.sealing import age, keys, recipients, signing
from pharma_ops.sealing.keys import Identity
from pharma_ops.sealing.recipients import parse_recipient

OLD, NEW, ESCROW = (keys.generate(name) for name in ("old", "new", "escrow"))
PRIVATE, PUBLIC = signing.generate()


def write(path: Path, *identities: Identity, mode: int = 0o600) -> Path:
    path.write_text("".join(identity.text for identity in identities))
    path.chmod(mode)
    return path


def put_set(store: Path, second: int, *readable_by: Identity, key: bytes = PRIVATE) -> str:
    """A complete set of ``shop`` in a directory, as far as keys are concerned; returns its id."""
    import dataclasses

    backup_id = f"20260101T0000{second:02d}Z-00000{second % 10}"
    manifest = dataclasses.replace(
        MANIFEST, id=backup_id, database="shop", recipients=tuple(item.fingerprint for item in readable_by)
    )
    directory = store / "shop" / backup_id
    directory.mkdir(parents=True)
    data = manifest.to_json()
    (directory / "manifest.json").write_bytes(data)
    (directory / "manifest.json.sig").write_bytes(signing.sign(key, data))
    return backup_id


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A staging host with the old key and an empty store; returns its configuration."""
    write(tmp_path / "identity.txt", OLD)
    (tmp_path / "store").mkdir()
    (tmp_path / "signers.pem").write_bytes(PUBLIC)
    path = tmp_path / "config.toml"
    path.write_text(
        f'environment = "lab"\nlock_dir = "{tmp_path}/lock"\n'
        f'[drill]\ndatabase = "shop"\nidentity_file = "{tmp_path}/identity.txt"\n'
        f'trusted_signers_file = "{tmp_path}/signers.pem"\n'
        f'[stores.offsite]\ntype = "local"\npath = "{tmp_path}/store"\n'
    )
    return path


def fingerprints(path: Path) -> list[str]:
    return [identity.fingerprint for identity in keys.read_identities(path)]


def ops(host: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main(["keys", *words, "--json", "--config", str(host)])
    return status, json.loads(capsys.readouterr().out)


# -- new ---------------------------------------------------------------------------------------------------


def test_a_new_key_opens_what_age_seals_for_its_recipient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "escrow.txt"
    assert main(["keys", "new", "--out", str(path), "--comment", "safe in São Paulo", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "AGE-SECRET-KEY" not in json.dumps(shown)
    assert path.read_text().startswith("# safe in São Paulo\n# created: ")
    sealed = subprocess.run(["age", "-r", shown["recipient"]], input=b"x", capture_output=True, check=True)
    run = subprocess.run(["age", "-d", "-i", path], input=sealed.stdout, capture_output=True, check=True)
    assert run.stdout == b"x"
    assert [item.name for item in tmp_path.iterdir()] == ["escrow.txt"]


def test_a_key_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "key", OLD)
    assert main(["keys", "new", "--out", str(path)]) == 2
    assert "KEY_FILE_EXISTS" in capsys.readouterr().err
    with pytest.raises(OpsError, match="exists already"):
        keys.write_new(path, NEW)
    assert fingerprints(path) == [OLD.fingerprint]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_is_not_there_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OpsError) as caught:
        keys.write_new(tmp_path / "no" / "key", NEW)
    assert caught.value.code == "FILE_NOT_WRITTEN"
    with pytest.raises(OpsError) as caught:
        keys.generate("two\nAGE-SECRET-KEY-1")
    assert caught.value.code == "ARGUMENT_INVALID"


# -- reading an identity file --------------------------------------------------------------------------------


def test_an_identity_file_is_read_with_its_comments(tmp_path: Path) -> None:
    path = write(tmp_path / "key", OLD, NEW)
    found = keys.read_identities(path)
    assert [item.recipient for item in found] == [OLD.recipient, NEW.recipient]
    assert [item.text for item in found] == [OLD.text, NEW.text]
    made = found[0].created_at
    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < 3600
    assert "SECRET" not in repr(found)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "IDENTITY_INVALID"),
        (b"# only a comment\n", "IDENTITY_INVALID"),
        (b"\xff\xfe\x00", "IDENTITY_INVALID"),
        (b"x" * (2 << 20), "IDENTITY_INVALID"),
        (OLD.secret + b"hunter2\n", "IDENTITY_INVALID"),
        (OLD.secret[:-5] + b"QQQQ\n", "IDENTITY_INVALID"),
        (b"age-encryption.org/v1\n-> scrypt", "IDENTITY_INVALID"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "IDENTITY_INVALID"),
        (PRIVATE, "IDENTITY_INVALID"),
    ],
)
def test_garbage_is_no_identity_and_is_not_quoted(content: bytes, code: str) -> None:
    with pytest.raises(OpsError) as caught:
        keys.read_identities(content)
    assert caught.value.code == code
    assert "hunter2" not in str(caught.value)
    assert "SECRET-KEY-1Q" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(OpsError, match=f"{mode:04o}") as caught:
        keys.read_identities(write(tmp_path / "key", OLD, mode=mode))
    assert caught.value.code == "IDENTITY_EXPOSED"


def test_an_ssh_key_is_an_identity_too(tmp_path: Path) -> None:
    path = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", path], check=True)
    (identity,) = keys.read_identities(path)
    assert identity.recipient == parse_recipient(path.with_suffix(".pub").read_text())
    (tmp_path / "sealed").write_bytes(age.encrypt([identity.recipient], b"by ssh"))
    assert b"".join(age.decrypt_stream(identity.secret, tmp_path / "sealed")) == b"by ssh"


def test_the_opener_is_the_one_key_that_opens(tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.write_bytes(age.encrypt([NEW.recipient, ESCROW.recipient], b"x"))
    names = (NEW.fingerprint, ESCROW.fingerprint)
    found = keys.opener([OLD, NEW], names, "the set")
    assert found.fingerprint == NEW.fingerprint
    assert b"".join(age.decrypt_stream(found.secret, sealed)) == b"x"
    assert keys.opener([OLD, NEW, ESCROW], names, "the set").fingerprint == ESCROW.fingerprint
    with pytest.raises(OpsError, match=OLD.fingerprint) as caught:
        keys.opener([OLD], names, "the set")
    assert caught.value.code == "IDENTITY_WRONG"


# -- recipients ----------------------------------------------------------------------------------------------


def recipients_file(path: Path, **sections: Sequence[Identity]) -> Path:
    lines = []
    for name, members in sections.items():
        lines += [f"# [{name.replace('_', ' ')}]", *(item.recipient.text for item in members)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_sections_of_the_recipients_file_are_the_roles(tmp_path: Path) -> None:
    path = recipients_file(tmp_path / "r", in_use=[OLD, NEW], escrow=[ESCROW])
    assert [item.role for item in recipients.load_recipients(path)] == ["in use", "in use", "escrow"]
    assert len(recipients.backup_recipients(path)) == 3
    sealed = subprocess.run(["age", "-R", path], input=b"x", capture_output=True, check=True).stdout
    assert sealed.startswith(b"age-encryption.org/v1")


@pytest.mark.parametrize(
    "sections", [{"in_use": [OLD]}, {"in_use": [OLD], "escrow": [OLD]}, {"in_use": [OLD], "escrow": []}]
)
def test_a_list_without_escrow_is_refused(tmp_path: Path, sections: dict[str, list[Identity]]) -> None:
    path = recipients_file(tmp_path / "r", **sections)
    with pytest.raises(OpsError, match="escrow") as caught:
        recipients.backup_recipients(path)
    assert caught.value.code == "ESCROW_MISSING"


def test_a_list_without_sections_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(f"# mine\n{OLD.recipient.text}\n")
    assert [item.role for item in recipients.backup_recipients(path)] == ["unknown"]


def test_the_role_writes_what_the_engine_reads(root: Path, tmp_path: Path) -> None:
    import jinja2

    template = (root / "roles/backup/templates/recipients.txt.j2").read_text()
    # Ansible's settings; nothing here is a page.
    environment = jinja2.Environment(trim_blocks=True)  # noqa: S701
    text = environment.from_string(template).render(
        ansible_managed="managed",
        backup_recipients=[OLD.recipient.text],
        backup_escrow_recipients=[ESCROW.recipient.text],
    )
    (tmp_path / "r").write_text(text + "\n")
    found = recipients.load_recipients(tmp_path / "r")
    assert [(item.text, item.role) for item in found] == [
        (OLD.recipient.text, "in use"), (ESCROW.recipient.text, "escrow"),
    ]  # fmt: skip


# -- rotate and retire ---------------------------------------------------------------------------------------


def test_after_a_rotation_old_and_new_sets_are_readable(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = host.parent / "identity.txt"
    status, shown = ops(host, capsys, "rotate", "--comment", "2027")
    assert status == 0
    assert fingerprints(path) == [OLD.fingerprint, shown["fingerprint"]]
    assert path.stat().st_mode & 0o777 == 0o600
    for number, recipient in enumerate((OLD.recipient, parse_recipient(str(shown["recipient"])))):
        sealed = host.parent / f"{number}.age"
        sealed.write_bytes(age.encrypt([recipient], b"x"))
        assert b"".join(age.decrypt_stream(path, sealed)) == b"x"
    assert "SECRET" not in json.dumps(shown)


def test_a_rotation_killed_in_the_middle_leaves_the_old_file_whole(
    host: Path, engine_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = host.parent / "identity.txt"
    before = path.read_bytes()
    killed = (
        "import os, pathlib, signal, sys; from pharma_ops.cli.main import main\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )
    run = subprocess.run(
        [sys.executable, "-c", killed, "keys", "rotate", "--config", host],
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        capture_output=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert path.read_bytes() == before
    assert len(list(host.parent.glob(".identity.txt.*"))) == 1
    # The next one clears away the copy of the keys that the killed one left.
    assert ops(host, capsys, "rotate")[0] == 0
    assert list(host.parent.glob(".identity.txt.*")) == []


def test_a_rotation_of_a_damaged_file_changes_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = host.parent / "identity.txt"
    path.write_bytes(b"garbage\n")
    status, shown = ops(host, capsys, "rotate")
    assert (status, path.read_bytes()) == (2, b"garbage\n")
    assert "IDENTITY_INVALID" in json.dumps(shown)


def test_a_key_that_sets_need_is_not_retired(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(host.parent / "identity.txt", OLD, NEW)
    store = host.parent / "store"
    needed = put_set(store, 1, OLD, ESCROW)
    put_set(store, 2, OLD, NEW, ESCROW)
    put_set(store, 3, NEW, ESCROW)
    status, shown = ops(host, capsys, "retire", OLD.fingerprint)
    assert status == 2
    error = shown["error"]
    assert isinstance(error, dict)
    assert error["code"] == "KEY_STILL_NEEDED"
    assert f"shop/{needed}" in error["message"]
    assert "1 complete set(s)" in error["message"]
    assert fingerprints(path) == [OLD.fingerprint, NEW.fingerprint]
    (store / "shop" / needed / "manifest.json").unlink()
    assert ops(host, capsys, "retire", OLD.fingerprint)[0] == 0
    assert fingerprints(path) == [NEW.fingerprint]
    assert ops(host, capsys, "retire", NEW.fingerprint)[1]["error"]["code"] == "KEY_LAST"  # type: ignore[index]


def test_a_key_is_not_retired_on_the_word_of_a_forged_manifest(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(host.parent / "identity.txt", OLD, NEW)
    put_set(host.parent / "store", 1, NEW, key=signing.generate()[0])
    shown = ops(host, capsys, "retire", OLD.fingerprint)[1]
    assert "cannot be believed" in json.dumps(shown)
    assert len(fingerprints(path)) == 2


def test_an_empty_store_retires_nothing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(host.parent / "identity.txt", OLD, NEW)
    assert "BACKUP_MISSING" in json.dumps(ops(host, capsys, "retire", OLD.fingerprint)[1])
    assert "KEY_UNKNOWN" in json.dumps(ops(host, capsys, "retire", "0000")[1])
    assert len(fingerprints(path)) == 2


def test_a_key_needed_in_any_store_of_the_host_stays(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host.parent / "identity.txt", OLD, NEW)
    put_set(host.parent / "store", 1, NEW)
    put_set(host.parent / "second", 2, OLD)
    host.write_text(host.read_text() + f'[stores.second]\ntype = "local"\npath = "{host.parent}/second"\n')
    assert "KEY_STILL_NEEDED" in json.dumps(ops(host, capsys, "retire", OLD.fingerprint)[1])
    assert ops(host, capsys, "retire", OLD.fingerprint, "--store", "offsite")[0] == 0


_SET = SetInfo(
    id="20260101T000000Z-000000",
    database="shop",
    state="complete",
    started_at=datetime.now(UTC),
    bytes=0,
    objects=(),
)
_NAMES = st.sets(st.sampled_from(["a", "b", "c", "d"]))


@given(recipients=_NAMES, left=_NAMES, key=st.sampled_from(["a", "b", "c", "d"]))
def test_giving_up_a_key_never_makes_a_set_unreadable(recipients: set[str], left: set[str], key: str) -> None:
    left -= {key}
    item = readers.Readable(set=_SET, recipients=tuple(sorted(recipients)))
    readable_before, readable_after = bool(recipients & (left | {key})), bool(recipients & left)
    assert readers.needs(item, key, left) == (readable_before and not readable_after)


# -- list ----------------------------------------------------------------------------------------------------


def test_the_list_says_which_key_opens_which_set(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(host.parent / "identity.txt", OLD, NEW)
    store = host.parent / "store"
    for second, readable_by in enumerate([(OLD,), (OLD, ESCROW), (NEW, ESCROW)], start=1):
        put_set(store, second, *readable_by)
    recipients_file(host.parent / "r", in_use=[NEW], escrow=[ESCROW])
    host.write_text(host.read_text() + f'[backup]\nrecipients_file = "{host.parent}/r"\n')
    status, shown = ops(host, capsys, "list", "--sets", "2")
    assert status == 0
    sets = shown["sets"]
    assert isinstance(sets, list)
    assert [item["opened_by"] for item in sets] == [[NEW.fingerprint], [OLD.fingerprint]]
    assert [item["role"] for item in shown["recipients"]] == ["in use", "escrow"]  # type: ignore[attr-defined]
    assert "SECRET" not in json.dumps(shown)
    assert main(["keys", "list", "--config", str(host)]) == 0
    text = capsys.readouterr().out
    assert ESCROW.fingerprint in text
    assert "✗" not in text


def test_the_list_fails_when_the_newest_set_is_closed_to_this_host(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_set(host.parent / "store", 1, NEW, ESCROW)
    recipients_file(host.parent / "r", in_use=[NEW])
    host.write_text(host.read_text() + f'[backup]\nrecipients_file = "{host.parent}/r"\n')
    assert main(["keys", "list", "--config", str(host)]) == 1
    text = capsys.readouterr().out
    assert "names no escrow recipient" in text
    assert "No key of this host opens the newest set" in text


# -- --identity ----------------------------------------------------------------------------------------------


def test_a_key_that_is_typed_on_a_terminal_is_not_shown(engine_path: Path) -> None:
    import pty

    master, terminal = pty.openpty()
    program = "from pharma_ops.cli.identity import read_identity; print(len(read_identity('-')))"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=os.environ | {"PYTHONPATH": str(engine_path)},
        start_new_session=True,
    ) as child:
        os.close(terminal)
        shown = os.read(master, 1000)
        assert b"Ctrl-D" in shown
        os.write(master, NEW.secret + b"\x04")
        assert child.stdout is not None
        assert child.stdout.read() == f"{len(NEW.secret)}\n".encode()
    os.set_blocking(master, False)
    with contextlib.suppress(OSError):
        shown += os.read(master, 10_000)
    os.close(master)
    assert child.returncode == 0
    assert b"SECRET" not in shown
