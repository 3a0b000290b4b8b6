# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is sent, the service answers as its own OpenAPI document says, and never with a defect.

Requests are generated from that document by schemathesis: valid ones, and ones that break one rule.
``PHARMA_API_EXAMPLES`` is the number of generated requests for each operation (default 20).
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from backend_harness import FAST, PASSWORD, Cluster, eventually, make_cli
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema

EXAMPLES = int(os.environ.get("PHARMA_API_EXAMPLES", "20"))
OPERATIONS = [
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("POST", "/auth/login"),
    ("POST", "/auth/refresh"),
    ("POST", "/cash/close"),
    ("POST", "/cash/open"),
    ("GET", "/products"),
    ("POST", "/sales"),
    ("GET", "/sales/{id}"),
    ("POST", "/sales/{id}/cancel"),
    ("POST", "/sales/{id}/pay"),
]
# Nothing about these can be wrong: they take no input.
WITHOUT_INPUT = {"/health/live", "/health/ready", "/metrics"}
# What the document allows may break a rule that it cannot say: tendered is at least the amount.
NOT_ASKED = {"positive_data_acceptance"}

load_all_checks()
# The token is the test's own; a query parameter that nobody knows is no fault.
GENERATION = GenerationConfig(with_security_parameters=False, allow_extra_parameters=False)
CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=GENERATION)))
ASKED = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in NOT_ASKED]


@dataclass
class Contract:
    """The running service, its document, the token of a manager, and what was answered how often."""

    url: str
    schema: BaseSchema
    token: str
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def contract(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    home = tmp_path_factory.mktemp("contract")
    cli = make_cli(cluster, cluster.new_database("contract"), home)
    cli.json("migrate")
    cli.json("demo-data", "--sales", "100", "--seed", "7")
    cli.json("create-user", "--username", "ana", "--role", "manager", "--password-stdin", stdin=PASSWORD)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (home / "out.log").open("ab") as stream:
        process = subprocess.Popen(
            cli.command("serve", "--port", str(port)), stdout=stream, stderr=stream, env=cli.env(**FAST)
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url) as client:
            eventually(lambda: client.get("/health/ready").status_code == 200)
            login = client.post("/auth/login", json={"username": "ana", "password": PASSWORD})
            opened = client.post(
                "/cash/open",
                json={"register": "contract", "opening_amount": "10.00"},
                headers={"Authorization": f"Bearer {login.json()['access_token']}"},
            )
            assert opened.status_code == 201
            schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)
            yield Contract(url, schema, login.json()["access_token"])
    finally:
        process.terminate()
        assert process.wait(15) == 0


def make_plausible(case: schemathesis.Case) -> None:
    """Let ids that are valid be those of something, so that requests get beyond "there is no such"."""
    if isinstance(found := (case.path_parameters or {}).get("id"), int):
        case.path_parameters["id"] = found % 120 + 1
    if isinstance(case.body, dict):
        for item in case.body.get("items", []):
            item["product_id"] = item["product_id"] % 40 + 1
            item["quantity"] = item["quantity"] % 3 + 1
        case.body.pop("customer_cpf", None)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_service_keeps_its_contract(
    contract: Contract, method: str, path: str, mode: GenerationMode
) -> None:
    if mode.is_negative and path in WITHOUT_INPUT:
        return
    operation = contract.schema[path][method]
    drawn = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers_as_documented(case: Any) -> None:
        nonlocal drawn
        drawn += 1
        if mode.is_positive and drawn % 3:
            make_plausible(case)
        headers = {"Authorization": f"Bearer {contract.token}", "X-Request-Id": uuid4().hex}
        if mode.is_positive and "Idempotency-Key" in (case.headers or {}):
            headers["Idempotency-Key"] = uuid4().hex
        reply = case.call_and_validate(base_url=contract.url, headers=headers, checks=ASKED)
        contract.answers[f"{method} {path}", reply.status_code] += 1

    answers_as_documented()
    assert drawn >= min(EXAMPLES, 1)


def test_the_requests_got_somewhere(contract: Contract) -> None:
    """A contract that only refusals kept would say little."""
    answered = {status for _, status in contract.answers}
    assert {200, 201, 401, 404, 409, 422} <= answered, contract.answers
    assert contract.answers["POST /sales", 201] > 0
    assert not {status for status in answered if status >= 500}


def test_every_operation_is_asked(contract: Contract) -> None:
    documented = [
        (operation.ok().method.upper(), operation.ok().path)
        for operation in contract.schema.get_all_operations()
    ]
    assert sorted(documented) == sorted(OPERATIONS)


def undocumented(responses: dict[str, Any]) -> None:
    del responses["200"]


def another_form(responses: dict[str, Any]) -> None:
    responses["200"]["content"]["application/json"]["schema"] = {"type": "array"}


def another_code(responses: dict[str, Any]) -> None:
    schema = responses["422"]["content"]["application/problem+json"]["schema"]
    schema["allOf"][1]["properties"]["code"]["enum"] = ["SOMETHING_ELSE"]


@pytest.mark.parametrize(
    ("broken", "mode", "finding"),
    [
        (undocumented, GenerationMode.POSITIVE, "Undocumented status code"),
        (another_form, GenerationMode.POSITIVE, "Response violates schema"),
        (another_code, GenerationMode.NEGATIVE, "Response violates schema"),
    ],
)
def test_a_broken_contract_is_found(
    contract: Contract, broken: Callable[[dict[str, Any]], None], mode: GenerationMode, finding: str
) -> None:
    document = httpx.get(f"{contract.url}/openapi.json").json()
    broken(document["paths"]["/products"]["get"]["responses"])
    operation = schemathesis.openapi.from_dict(document, config=CONFIG)["/products"]["GET"]
    headers = {"Authorization": f"Bearer {contract.token}"}

    @settings(max_examples=10, deadline=None, derandomize=True, database=None, report_multiple_bugs=False)
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers_as_documented(case: Any) -> None:
        case.call_and_validate(base_url=contract.url, headers=headers, checks=ASKED)

    with pytest.raises(BaseExceptionGroup) as found:
        answers_as_documented()
    assert finding in "".join(str(failure) for failure in found.value.exceptions)
