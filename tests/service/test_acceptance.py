"""What becomes of suggestions: accepted, edited, rejected, by the API and on the page, and the rate of a version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest
from scripted import scripted_lm
from served import Running, Serve

from synth_dspy.cli import versions
from synth_dspy.loop.acceptance import acceptance_by_version
from synth_dspy.loop.feedback import feedback_rows
from synth_dspy.loop.labels import score_of
from synth_dspy.loop.records import Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import now
from synth_dspy.service.redaction import Redaction

HTML = {"Accept": "text/html"}
TABLES = {"Sales.Orders": ["OrderID", "Total", "ShipTo"], "Sales.Lines": ["LineID", "Quantity"]}


class Documenter(dspy.Module):
    """Comments on columns."""

    def __init__(self, comment: str = "Holds the {}.") -> None:
        super().__init__()
        self.comment = comment
        self.describe = dspy.Predict("table, column -> comment")
        self.describe.set_lm(scripted_lm(lambda prompt: "unused"))

    def forward(self, table: str, column: str) -> dspy.Prediction:
        return dspy.Prediction(answer=self.comment.format(column), passages=[], abstained=False)


def suggest(service: Running) -> dict[str, str]:
    """Ask for a comment on every column: the requests by column."""
    requests = {}
    for table, columns in TABLES.items():
        for number, column in enumerate(columns):  # a wide table's columns are seen with different neighbours
            inputs = {"table": f"{table} (..., {', '.join(columns[number:])})", "column": column}
            requests[column] = service.client.post("/answer", json=inputs).json()["request"]
    return requests


def decide(service: Running, *decisions: dict[str, Any], **more: Any) -> httpx.Response:
    return service.client.post("/acceptance", json={"decisions": list(decisions), **more})


def send(service: Running, page: httpx.Response, do: str = "keep", **changes: str) -> httpx.Response:
    """Send the page's form as a browser does, with some fields changed."""
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
    fields |= dict(re.findall(r'<textarea name="([^"]+)"[^>]*>([^<]*)</textarea>', page.text))
    fields |= dict(re.findall(r'<input type="radio" name="([^"]+)" value="(\w+)" checked>', page.text))
    data = {name: re.sub(r"\r\n|\r|\n", "\r\n", value) for name, value in (fields | changes | {"do": do}).items()}
    return service.client.post("/suggestions", data=data, headers=HTML, follow_redirects=True)


def test_decisions_in_bulk_become_a_rate_of_the_version_and_training_data(serve: Serve) -> None:
    with serve({"first": Documenter()}) as service:
        requests = suggest(service)
        kept = decide(
            service,
            {"request": requests["OrderID"], "value": True},
            {"request": requests["Total"], "value": "Sum of the order's lines."},
            {"request": requests["ShipTo"], "value": False},
            {"request": requests["LineID"], "value": True},
            {"request": requests["Quantity"], "value": "Holds the Quantity. "},  # edited to itself
            rater="ann",
        )
        assert kept.status_code == 201
        assert kept.json()["ids"] == [each.id for each in service.feedback()]
        assert {each.rater for each in service.feedback()} == {"ann"}
        (rate,) = acceptance_by_version(service.registry.store).values()
        assert (rate.accepted, rate.edited, rate.rejected) == (3, 1, 1)
        assert (rate.rate.share, rate.rate.n, rate.rate.groups) == (0.6, 5, 2)
        lines = feedback_rows(service.registry.store).lines
        pairs = [(line["column"], line["chosen"], line["rejected"]) for line in lines if "chosen" in line]
        assert pairs == [("Total", "Sum of the order's lines.", "Holds the Total.")]
        good = {line["column"]: line["good"] for line in lines if line.get("answer", "").startswith("Holds")}
        assert good == {"OrderID": True, "LineID": True, "Quantity": True, "Total": False, "ShipTo": False}
        assert [score_of(each) for each in service.feedback()] == [1.0, 0.0, 0.0, 1.0, 0.0]
        assert service.metric('synth_dspy_feedback_total{kind="acceptance"}') == 5


def test_the_latest_decision_counts_and_versions_are_apart(registry: Registry, serve: Serve) -> None:
    with serve({"first": Documenter(), "second": Documenter()}) as service:
        requests = suggest(service)
        decide(service, *({"request": each, "value": False} for each in requests.values()))
        decide(service, {"request": requests["Total"], "value": True})
        registry.store.add(
            Request("r2", now(), "v2", "champion", {"table": "T (a)", "column": "a"}, "A.", False, (), 0, 0, 0)
        )
        given = {"request": "r2", "kind": "acceptance", "value": True}
        assert service.client.post("/feedback", json=given).status_code == 201
        rates = acceptance_by_version(registry.store)
        assert {version: (each.accepted, each.rejected) for version, each in rates.items()} == {
            "v1": (1, 4),
            "v2": (1, 0),
        }


@pytest.mark.parametrize(
    ("decision", "status", "sentence"),
    [
        ({"request": "none", "value": True}, 404, "There is no request 'none'."),
        ({"value": True}, 422, "request is missing"),
        ({"request": "none", "value": " "}, 422, "value"),
        ({"request": "none", "value": 1}, 422, "value"),
    ],
)
def test_one_wrong_decision_and_none_is_kept(
    serve: Serve, decision: dict[str, Any], status: int, sentence: str
) -> None:
    with serve({"first": Documenter()}) as service:
        refused = decide(service, {"request": suggest(service)["Total"], "value": True}, decision)
        assert refused.status_code == status
        assert sentence in refused.json()["error"]["message"]
        assert service.feedback() == []
        assert decide(service).status_code == 422


def test_the_page_takes_marked_and_changed_ones_and_the_rest_together(serve: Serve) -> None:
    with serve({"first": Documenter()}, redaction=Redaction((r"\d{4}",))) as service:
        requests = suggest(service)
        page = service.client.get("/suggestions", headers=HTML)
        assert page.text.index("Sales.Lines</h2>") < page.text.index("Sales.Orders</h2>")
        page = send(
            service, page, **{f"choice-{requests['ShipTo']}": "reject", f"text-{requests['Total']}": "Sum. Since 1998."}
        )
        assert "2 decisions kept" in page.text
        values = {each.request: each.value for each in service.feedback()}
        assert values == {requests["ShipTo"]: False, requests["Total"]: "Sum. Since ***."}
        page = send(service, page, "accept")
        assert "3 decisions kept" in page.text
        assert "No suggestion waits" in page.text
        assert re.search(r"60 % \(\d+ to \d+\) of 5", page.text)
        assert 'aria-current="page">Suggestions' in page.text


def test_a_decision_can_be_changed_and_the_same_form_counts_once(serve: Serve) -> None:
    with serve({"first": Documenter()}) as service:
        total = suggest(service)["Total"]
        page = service.client.get("/suggestions", headers=HTML)
        for _ in range(2):
            send(service, page, **{f"choice-{total}": "reject"})
        assert len(service.feedback()) == 1
        page = service.client.get("/suggestions?decided=1", headers=HTML)
        assert "0 decisions kept" in send(service, page).text
        send(service, page, **{f"choice-{total}": "accept", f"text-{total}": "Sum <of> lines."})
        assert [each.value for each in service.feedback()] == [False, "Sum <of> lines."]
        page = service.client.get("/suggestions?decided=1", headers=HTML)
        assert "Sum &lt;of&gt; lines.</textarea>" in page.text
        (rate,) = acceptance_by_version(service.registry.store).values()
        assert (rate.edited, rate.rejected) == (1, 0)


@pytest.mark.parametrize("line_end", ["\r\n", "\r", "\n"])
def test_a_text_of_several_lines_that_nobody_touched_is_not_edited(serve: Serve, line_end: str) -> None:
    with serve({"first": Documenter(f"The {{}}.{line_end}In full.")}) as service:
        total = suggest(service)["Total"]
        page = service.client.get("/suggestions", headers=HTML)
        assert "0 decisions kept" in send(service, page).text
        send(service, page, **{f"choice-{total}": "accept"})
        assert [each.value for each in service.feedback()] == [True]
        decide(service, {"request": total, "value": f"Sum.{line_end}In full."})
        page = service.client.get("/suggestions?decided=1", headers=HTML)
        assert "0 decisions kept" in send(service, page).text


def test_an_empty_text_is_not_accepted_and_nothing_typed_is_lost(serve: Serve) -> None:
    with serve({"first": Documenter()}) as service:
        requests = suggest(service)
        page = service.client.get("/suggestions", headers=HTML)
        page = send(
            service, page, **{f"text-{requests['Total']}": " ", f"text-{requests['LineID']}": "Number of the line."}
        )
        assert page.status_code == 422
        assert "needs a text: reject it instead" in page.text
        assert "Number of the line.</textarea>" in page.text
        assert service.feedback() == []


def test_versions_shows_the_rate(
    registry: Registry, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "production.sqlite")]
    versions.main(["contract_qa", *store])
    assert "accepted" not in capsys.readouterr().out
    with serve({"first": Documenter()}) as service:
        decide(service, *({"request": each, "value": True} for each in suggest(service).values()))
    versions.main(["contract_qa", *store])
    assert "100 % (34 to 100) of 5" in capsys.readouterr().out  # two tables, so as two answers
    versions.main(["contract_qa", "v1", *store])
    assert "5 accepted as they were, 0 edited, 0 rejected" in capsys.readouterr().out


def test_other_tasks_have_no_link_to_the_page(serve: Serve) -> None:
    with serve() as service:
        assert ">Suggestions</a>" not in service.client.get("/", headers=HTML).text
