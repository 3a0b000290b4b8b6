# SPDX-License-Identifier: GPL-3.0-or-later
"""Which statements of a migration the release before could not live with.

While a release is put into service, and after it was rolled back, the release before works on the new
structure. So a migration may only add. What takes away or tightens waits for a later release, when no
release that may come back needs it, and says so in a comment right before the statement::

    -- contract: column phone is not read since 1.4
    alter table pharmacy.customers drop column phone;
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MARKER = "-- contract:"

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*.*?\*/)
  | (?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<word>[A-Za-z_][\w$]*)
  | (?P<sign>[^\s])
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = r"(?:[\w\"]+ \. )?(?P<name>[\w\"]+)"
_CREATED = re.compile(rf"create (?:unlogged )?table (?:if not exists )?{_NAME}")
# A statement that acts on a table is harmless when the migration itself made that table.
_ON_TABLE = re.compile(
    rf"(?:create (?:unique )?index (?:concurrently )?.*?\bon|create (?:constraint )?trigger .*?\bon|"
    rf"create (?:rule|policy) .*?\b(?:on|to)|alter table) (?:if exists )?(?:only )?{_NAME}"
)
_STATEMENTS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"drop\b", "removes an object"),
        (r"(?:truncate|delete from)\b", "removes rows"),
        (r"revoke\b", "takes a privilege away"),
        (r"do\b", "runs a block that cannot be judged"),
        (r"create or replace\b", "replaces what the release before uses"),
        (r"alter type (?!.* add value\b)", "alters a type"),
        (r"alter domain\b", "alters a domain"),
        (r"alter (?!table\b).*\b(?:rename|set schema)\b", "renames or moves an object"),
        (r"create (?:unique )?index\b", "keeps a table from being written while an index is built"),
        (r"create (?:constraint )?trigger\b", "acts on what the release before writes"),
        (r"create (?:rule|policy)\b", "acts on what the release before reads and writes"),
    )
)
_CLAUSES = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"rename\b", "renames a column or a table"),
        (r"drop\b", "removes a column or a constraint"),
        (r"alter (?:column )?\S+ (?:set data )?type\b", "changes the type of a column"),
        (r"alter (?:column )?\S+ set not null\b", "refuses rows that the release before writes"),
        (r"alter (?:column )?\S+ drop (?!not null\b)", "takes a default away"),
        (r"add (?:constraint|check|unique|foreign|primary|exclude)\b", "refuses rows of the release before"),
        (r"add (?!.*\b(?:default|generated)\b).*\bnot null\b", "refuses rows that lack the new column"),
        (r"(?:set schema|enable row|force row|inherit|attach|detach)\b", "changes what the table is"),
    )
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: the line it begins on, its words in lower case, whether it carries the marker."""

    line: int
    words: tuple[str, ...]
    marked: bool


def statements(text: str) -> Iterator[Statement]:
    """The statements of a file; comments are left out, texts stand as ``''``."""
    words: list[str] = []
    line = 0
    marked = False
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "comment":
            marked = marked or (not words and _is_marker(token.group()))
            continue
        if token.group() == ";":
            if words:
                yield Statement(line, tuple(words), marked)
            words, marked = [], False
            continue
        if not words:
            line = text.count("\n", 0, token.start()) + 1
        words.append("''" if token["text"] else token.group() if token["quoted"] else token.group().lower())
    if words:
        yield Statement(line, tuple(words), marked)


def refusals(text: str) -> list[tuple[int, str]]:
    """Line and reason of each statement that is not an expansion and does not carry the marker."""
    made: set[str] = set()
    found: list[tuple[int, str]] = []
    for statement in statements(text):
        sentence = " ".join(statement.words)
        if created := _CREATED.match(sentence):
            made.add(created["name"])
        target = _ON_TABLE.match(sentence)
        if statement.marked or (target and target["name"] in made):
            continue
        if reason := _reason(statement.words, sentence):
            found.append((statement.line, reason))
    return found


def _is_marker(comment: str) -> bool:
    return comment.startswith(MARKER) and bool(comment.removeprefix(MARKER).strip())


def _reason(words: tuple[str, ...], sentence: str) -> str | None:
    reason = next((why for pattern, why in _STATEMENTS if pattern.match(sentence)), None)
    if reason is None and words[:2] == ("alter", "table"):
        reason = next(
            (why for clause in _clauses(words) for pattern, why in _CLAUSES if pattern.match(clause)), None
        )
    return reason


def _clauses(words: tuple[str, ...]) -> Iterator[str]:
    """What an ``alter table`` does, one clause each: what stands between commas outside of parentheses."""
    rest = list(words[2:])
    while rest and rest[0] in ("if", "exists", "only"):
        rest.pop(0)
    # The name: one word, or schema, point and word.
    rest = rest[3:] if rest[1:2] == ["."] else rest[1:]
    depth = 0
    clause: list[str] = []
    for word in rest:
        depth += (word == "(") - (word == ")")
        if word == "," and depth == 0:
            yield " ".join(clause)
            clause = []
        else:
            clause.append(word)
    yield " ".join(clause)
