# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions are brought to the form that they have after a restore."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharma_ops.postgres.expression import flattened, stable

# As PostgreSQL 15 and 17 print the same check before and after a dump and restore.
BEFORE = "CHECK (((kind)::text = ANY ((ARRAY['a'::character varying, 'b, ''c])::text[]'::character varying])::text[])))"
AFTER = (
    "CHECK (((kind)::text = ANY (ARRAY[('a'::character varying)::text, "
    "('b, ''c])::text[]'::character varying)::text])))"
)


def test_a_cast_of_an_array_moves_into_its_elements() -> None:
    assert stable(BEFORE) == AFTER
    assert stable(AFTER) == AFTER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "((x)) it's ( unbalanced",
        "((a OR b) AND c)",
        "('(a AND b)' AND c)",
        "(ARRAY[",
        "(ARRAY['a'])",
        "x(ARRAY[1, 2])::text",
        "(ARRAY[(1)",
        "'it''s (ARRAY['",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert stable(text) == text


@given(st.text(alphabet="(ARY[]):'te, x", max_size=40))
def test_any_text_ends_and_settles(text: str) -> None:
    assert stable(stable(text)) == stable(text) or "(ARRAY[" in stable(text)


# As PostgreSQL prints CHECK (n BETWEEN 1 AND 9 AND t ~ '^x$') before and after a dump and restore.
BETWEEN = "CHECK ((((n >= 1) AND (n <= 9)) AND (t ~ '^(x AND y)$'::text)))"
LISTED = "CHECK (((n >= 1) AND (n <= 9) AND (t ~ '^(x AND y)$'::text)))"


def test_a_list_within_a_list_of_the_same_operator_is_one_list() -> None:
    assert stable(BETWEEN) == LISTED
    assert stable(LISTED) == LISTED
    assert stable("((a OR (b OR c)) AND (d AND e))") == "((a OR b OR c) AND d AND e)"


def test_what_is_no_member_of_a_list_keeps_its_parentheses() -> None:
    for text in (
        "(NOT (a AND b) AND c)",
        "(f(a AND b) AND c)",
        "sum(x) OVER (ROWS BETWEEN 1 PRECEDING AND (f(a AND b)))",
    ):
        assert stable(text) == text


@given(
    st.recursive(
        st.sampled_from(["a", "b"]), lambda inner: st.tuples(inner, st.sampled_from(["AND", "OR"]), inner)
    )
)
def test_flattening_keeps_the_meaning_and_takes_only_parentheses(tree: object) -> None:
    def printed(node: object) -> str:
        return node if isinstance(node, str) else f"({printed(node[0])} {node[1]} {printed(node[2])})"

    def value(text: str, a: bool, b: bool) -> bool:
        return bool(eval(text.lower(), {"a": a, "b": b}))  # noqa: S307 - a boolean expression made above

    before = printed(tree)
    after = flattened(before)
    assert after.translate({ord("("): None, ord(")"): None}) == before.translate(
        {ord("("): None, ord(")"): None}
    )
    assert flattened(after) == after
    for a in (False, True):
        for b in (False, True):
            assert value(after, a, b) == value(before, a, b)
