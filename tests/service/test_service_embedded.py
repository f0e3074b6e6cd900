"""The service with the embedded model, short."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from service_workspace import ROOT, contracts_run, service

from synth_dspy.loop.records import Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store


@pytest.mark.slow
def test_many_at_once_are_answered_and_feedback_does_not_wait_for_the_model(tmp_path: Path) -> None:
    run = contracts_run(tmp_path)
    store = Store.open(tmp_path / "contract_qa" / "production.sqlite", "contract_qa")
    registry = Registry(store)
    registry.register(run, "rag")
    registry.promote("v1", "person:ann", "the first")
    with (
        service(ROOT, "--runs", str(tmp_path), task="contract_qa") as (_, url),
        httpx.Client(base_url=url, timeout=120) as client,
        ThreadPoolExecutor(32) as pool,
    ):

        def ask(number: int) -> str:
            question = {"question": f"What is the name of party {number}?", "document": "agency"}
            response = client.post("/answer", json=question)
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["passages"]
            return str(answer["request"])

        assert '<option value="agency">' in client.get("/").text
        first = ask(0)
        waits: list[float] = []
        done = threading.Event()

        def rate() -> None:
            with httpx.Client(base_url=url, timeout=120) as own:
                while not done.is_set():
                    began = time.perf_counter()
                    given = {"request": first, "kind": "thumb", "value": True}
                    assert own.post("/feedback", json=given).status_code == 201
                    waits.append(time.perf_counter() - began)
                    time.sleep(0.02)

        rating = threading.Thread(target=rate)
        rating.start()
        requests = [first, *pool.map(ask, range(1, 33))]
        done.set()
        rating.join()
        missing = client.post("/answer", json={"question": "Why?", "document": "nowhere"})
        assert missing.status_code == 422
        assert "nowhere" in missing.json()["error"]["message"]
    kept = {each.id: each for each in store.read(Request)}
    assert all(kept[request].completion_tokens > 0 and kept[request].prompt_tokens > 50 for request in requests)
    median = sorted(waits)[len(waits) // 2]
    assert median < min(kept[request].latency_s for request in requests[1:])  # it waits for no step of the model
