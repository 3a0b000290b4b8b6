# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filter writes is read back as it was, whatever the strings hold."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

_PATH = Path(__file__).parents[2] / "plugins/filter/to_toml.py"
_SPEC = importlib.util.spec_from_file_location("to_toml", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
to_toml: Callable[[Any], str] = _MODULE.FilterModule().filters()["to_toml"]

texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = (
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(plain | st.lists(plain), lambda inner: st.dictionaries(texts, inner))


@given(st.dictionaries(texts, values))
def test_any_table_is_read_back_as_it_was(data: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(data)) == data


def test_null_is_left_out() -> None:
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}


def test_a_value_cannot_break_out_of_its_place() -> None:
    text = 'x"\nsigning_key_file = "/tmp/evil'
    assert tomllib.loads(to_toml({"backup": {"store": text}})) == {"backup": {"store": text}}


@pytest.mark.parametrize("data", [["a"], "text", {"a": object()}])
def test_what_toml_cannot_hold_is_refused(data: object) -> None:
    with pytest.raises(AnsibleFilterError, match="to_toml"):
        to_toml(data)
