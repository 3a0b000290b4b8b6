# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of a Brazilian pharmacy, and the numbers that go with them."""

from __future__ import annotations

import unicodedata


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIVEN = _words(
    """
    Ana Antônio Beatriz Bruno Camila Carlos Cecília Daniela Davi Eduardo Elisângela Fábio Fernanda
    Francisco Gabriela Gustavo Helena Heloísa Ícaro Inês Isabela João José Juliana Júlio Larissa Letícia
    Lúcia Luís Luiza Marcos Maria Mariana Matheus Natália Otávio Patrícia Paulo Pedro Rafaela Raimundo
    Renata Ricardo Rodrigo Sebastião Sílvia Tainá Thiago Úrsula Valentina Vicente Vitória Wagner Yasmin
    """
)

FAMILY = _words(
    """
    Almeida Alves Araújo Azevedo Barbosa Barros Batista Borges Campos Cardoso Carvalho Castro Conceição
    Costa Cruz Dias Duarte Farias Fernandes Ferreira Figueiredo Freitas Gomes Gonçalves Guimarães Lima
    Lopes Macedo Machado Marques Martins Medeiros Melo Mendes Monteiro Moraes Moreira Nascimento
    Nogueira Nunes Oliveira Pereira Pinto Queirós Ramos Ribeiro Rocha Rodrigues Santana Santos Silva
    Siqueira Souza Teixeira Vasconcelos Vieira
    """
)

CITIES = (
    ("São Paulo", "SP", "11"),
    ("Campinas", "SP", "19"),
    ("Belo Horizonte", "MG", "31"),
    ("Uberlândia", "MG", "34"),
    ("Curitiba", "PR", "41"),
    ("Florianópolis", "SC", "48"),
    ("Goiânia", "GO", "62"),
    ("Niterói", "RJ", "21"),
)

# Active ingredient, strengths, form, controlled (a prescription is kept), price of the weakest in BRL.
MEDICINES = (
    ("Ácido Acetilsalicílico", ("100 mg", "500 mg"), "comprimidos", False, "8.90"),
    ("Alprazolam", ("0,5 mg", "1 mg", "2 mg"), "comprimidos", True, "19.90"),
    ("Amoxicilina", ("250 mg/5 ml", "500 mg", "875 mg"), "cápsulas", True, "24.50"),
    ("Atenolol", ("25 mg", "50 mg", "100 mg"), "comprimidos", False, "9.75"),
    ("Azitromicina", ("500 mg", "600 mg"), "comprimidos", True, "21.30"),
    ("Captopril", ("12,5 mg", "25 mg", "50 mg"), "comprimidos", False, "7.40"),
    ("Cetirizina", ("10 mg",), "comprimidos", False, "17.99"),
    ("Clonazepam", ("0,5 mg", "2 mg", "2,5 mg/ml"), "comprimidos", True, "13.60"),
    ("Dexametasona", ("1 mg/g", "4 mg"), "creme", False, "10.25"),
    ("Dipirona Sódica", ("500 mg", "1 g", "500 mg/ml"), "comprimidos", False, "6.49"),
    ("Enalapril", ("5 mg", "10 mg", "20 mg"), "comprimidos", False, "11.20"),
    ("Escitalopram", ("10 mg", "15 mg", "20 mg"), "comprimidos", True, "42.80"),
    ("Fluconazol", ("150 mg",), "cápsulas", False, "12.70"),
    ("Furosemida", ("40 mg",), "comprimidos", False, "6.95"),
    ("Glibenclamida", ("5 mg",), "comprimidos", False, "8.15"),
    ("Hidroclorotiazida", ("25 mg", "50 mg"), "comprimidos", False, "5.60"),
    ("Ibuprofeno", ("200 mg", "400 mg", "600 mg"), "comprimidos", False, "14.20"),
    ("Levotiroxina", ("25 mcg", "50 mcg", "75 mcg", "100 mcg"), "comprimidos", False, "18.35"),
    ("Loratadina", ("10 mg", "1 mg/ml"), "comprimidos", False, "13.45"),
    ("Losartana Potássica", ("25 mg", "50 mg", "100 mg"), "comprimidos", False, "9.99"),
    ("Metformina", ("500 mg", "850 mg", "1 g"), "comprimidos", False, "10.80"),
    ("Metilfenidato", ("10 mg", "20 mg"), "comprimidos", True, "58.90"),
    ("Metoclopramida", ("10 mg", "4 mg/ml"), "comprimidos", False, "7.85"),
    ("Nimesulida", ("100 mg", "50 mg/ml"), "comprimidos", False, "8.30"),
    ("Omeprazol", ("10 mg", "20 mg", "40 mg"), "cápsulas", False, "15.90"),
    ("Paracetamol", ("500 mg", "750 mg", "200 mg/ml"), "comprimidos", False, "7.99"),
    ("Prednisona", ("5 mg", "20 mg"), "comprimidos", False, "11.65"),
    ("Propranolol", ("10 mg", "40 mg", "80 mg"), "comprimidos", False, "6.20"),
    ("Salbutamol", ("100 mcg",), "aerossol", False, "23.75"),
    ("Sertralina", ("25 mg", "50 mg", "100 mg"), "comprimidos", True, "36.40"),
    ("Sinvastatina", ("10 mg", "20 mg", "40 mg"), "comprimidos", False, "13.10"),
    ("Soro Fisiológico", ("0,9% 250 ml", "0,9% 500 ml"), "solução", False, "6.75"),
    ("Vitamina C", ("500 mg", "1 g"), "comprimidos efervescentes", False, "12.40"),
    ("Zolpidem", ("5 mg", "10 mg"), "comprimidos", True, "29.95"),
)
# A generic, a similar and a reference brand of each, at different prices.
LINES = (("Genérico", 100), ("Similar", 125), ("Referência", 190))


def ascii_word(text: str) -> str:
    """A name as it stands in a user name or an e-mail address."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return plain.lower().replace(" ", ".")


def cnpj(root: int, branch: int) -> str:
    """The fourteen digits of a company's number, the last two being check digits (modulo 11)."""
    number = f"{root:08d}{branch:04d}"
    for _ in range(2):
        weights = [2 + place % 8 for place in range(len(number))]
        rest = sum(int(digit) * weight for digit, weight in zip(reversed(number), weights, strict=True)) % 11
        number += "0" if rest < 2 else str(11 - rest)
    return number


def ean13(number: int) -> str:
    """A Brazilian EAN-13 (prefix 789) with its check digit."""
    digits = f"789{number:09d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return digits + str(-total % 10)
