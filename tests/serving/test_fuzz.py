"""Whatever is asked: an answer that the API's own document describes, never a fault, and no memory that grows."""

import random
from urllib.parse import quote

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.raw_bytes import send_broken
from tests.serving.conftest import Served

RAW = 1_500


@pytest.fixture(scope="module")
def document(served: Served) -> schemathesis.BaseSchema:
    # The stream has no end; its parameters are tried below.
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json").exclude(path="/v1/transitions/stream")


def test_every_request_is_answered_as_the_document_says(api: Served, document: schemathesis.BaseSchema) -> None:
    tried = []
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {api.token}"})

        ask()
        tried.append(operation.path)
    assert len(tried) == 8


@pytest.mark.parametrize("seed", [1])
def test_a_stream_is_opened_or_refused(api: Served, seed: int) -> None:
    chance, statuses = random.Random(seed), set()
    odd = ["", "ada", "p_1", "x" * 900, "\u0000", "ü", "a,b", "%", "000000000000001-00000001", "9" * 30, "-", "🦊"]
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.token}"}, timeout=20) as client:
        for _ in range(200):
            query = "&".join(f"{name}={quote(chance.choice(odd))}" for name in chance.sample(["segment", "person"], 1))
            after = chance.choice([{}, {"Last-Event-ID": chance.choice(odd).replace("\0", "").encode()}])
            with client.stream("GET", f"/v1/transitions/stream?{query}", headers=after) as answer:
                statuses.add(answer.status_code)
    assert statuses == {200, 404, 422}


def test_raw_bytes_bring_nothing_down(api: Served) -> None:
    request = (
        b"GET /v1/people/ada/segments HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % api.token.encode()
    )
    [process] = [c for c in psutil.Process().children() if "api" in c.cmdline()]
    before = process.memory_info().rss
    send_broken(api.url, request, RAW)
    assert httpx.get(f"{api.url}/health").status_code == 200
    assert process.memory_info().rss < before + 30_000_000
