# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of people in text: by their capitals, or by what people are called in Brazil."""

from __future__ import annotations

import re
import unicodedata


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = r"[A-ZÀ-ÖØ-Ý][\wÀ-ÿ'’-]+"
_CAPITALS = re.compile(rf"\b{_WORD}(?:\s+(?:(?:d[aeo]s?|e)\s+)?{_WORD})+")
_WORDS = re.compile(r"[^\W\d_]+")
# Words that begin with a capital without being anybody's: an expression made of these alone stays.
_TECHNICAL = _words(
    """
    a accepted access acknowledgment add all allowed alter an and any api application as asc asgi
    authentication authority bad begin by call cascade certificate check client close closed column commit
    concurrently connection constraint content copy created csv current database deadlock default delete
    denied desc distinct drop entity error exceeded exception exclusive exists expired explain failed
    failure fatal fetch file for forbidden foreign found function gateway get grant group having hint host
    http https id if in index inner insert internal into invalid ip is join json key large left length
    like limit linux listen lock locked many media message method missing mode moved no not notify null
    object of ok on only operation options or order outer partial patch payload permission pool post
    postgresql primary protocol proxy put python query read record references refused request requests
    required reset response retry returning revoke right rollback root row rows schema select sequence
    server service session set share show skip socket sql sqlstate ssl starlette start state system task
    tcp temporary the timed timeout tls to token too transaction truncate type unauthorized unavailable
    unexpected union unique unix unprocessable unsupported update url user using utc utf uvicorn vacuum
    value values version view warning web websocket when where with work write
    """
)
_GIVEN = _words(
    """
    adriana adriano alessandra alexandre aline amanda ana anderson andre andrea antonia antonio beatriz
    benedito bruna bruno caio camila carla carlos cecilia claudia cristiane daniel daniela davi debora
    diego edson eduardo elaine elisangela enzo fabio felipe fernanda fernando francisca francisco gabriel
    gabriela geraldo guilherme gustavo helena heloisa henrique icaro igor ines isabel isabela jessica
    joana joao joaquim jorge jose josefa juliana julio larissa laura leandro leonardo leticia lorena lucas
    lucia luciana luis luiz luiza manuel manuela marcelo marcia marcos maria mariana marina mario matheus
    mauricio miguel monica natalia nicolas otavio pablo patricia paula paulo pedro priscila rafael rafaela
    raimunda raimundo raquel regina renan renata renato ricardo rita roberto rodrigo rosa samuel sandra
    sebastiao sergio silvia simone sonia sophia taina tatiane teresa thiago tiago ursula valentina vanessa
    vera vicente victor vinicius vitor vitoria viviane wagner wesley william yasmin
    """
)
FAMILY = _words(
    """
    almeida alves andrade araujo azevedo barbosa barros batista borges campos cardoso carvalho castro
    conceicao costa cruz cunha dias duarte farias fernandes ferreira figueiredo fonseca freitas gomes
    goncalves guimaraes lima lopes macedo machado marques martins medeiros melo mendes miranda monteiro
    moraes morais moreira moura nascimento nogueira nunes oliveira pereira pinto queiros queiroz ramos
    reis ribeiro rocha rodrigues sales santana santos silva siqueira soares sousa souza teixeira
    vasconcelos vieira
    """
)
_PARTICLES = frozenset({"da", "das", "de", "do", "dos", "e"})


def mask(value: str) -> str:
    """The text with the names of people masked."""
    value = _CAPITALS.sub(_capitals, value)
    return _known(value) if may_hold(value) else value


def may_hold(value: str) -> bool:
    """Whether a family name stands in the text; without one, only capitals tell a name."""
    return not FAMILY.isdisjoint(_WORDS.findall(_plain(value)))


def _capitals(found: re.Match[str]) -> str:
    words = _WORDS.findall(found[0].lower())
    return found[0] if all(word in _TECHNICAL for word in words) else "[name]"


def _known(value: str) -> str:
    """Mask a given name that a family name follows, however they are written."""
    words = [(found.start(), found.end(), _plain(found[0])) for found in _WORDS.finditer(value)]
    parts: list[str] = []
    at = index = 0
    while index < len(words):
        end = _name_ends(words, index) if words[index][2] in _GIVEN else None
        if end is not None:
            parts += [value[at : words[index][0]], "[name]"]
            at = words[end][1]
            index = end
        index += 1
    return "".join(parts) + value[at:]


def _name_ends(words: list[tuple[int, int, str]], first: int) -> int | None:
    last = None
    for index in range(first + 1, min(first + 7, len(words))):
        word = words[index][2]
        if word in FAMILY:
            last = index
        elif word not in _GIVEN and word not in _PARTICLES:
            break
    return last


def _plain(value: str) -> str:
    """Small letters without accents."""
    if value.isascii():
        return value.lower()
    decomposed = unicodedata.normalize("NFD", value.lower())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
