"""Blind comparison: sheets with anonymous answers, and the key to their arms.

A comparison is a folder: `sheets.jsonl` and `sheets.csv` have the same items, each with the arms' outputs in random
order; `key.json` names their arms, and is kept by whoever runs the comparison.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, ID, TEXT, TEXTS, Check, read_rows
from synth_dspy.core.io.reading import Json, read_json_object
from synth_dspy.core.printable import visible
from synth_dspy.evaluation.blind.powered import SCORED, judge_scores
from synth_dspy.evaluation.blind.votes import BOTH, NEITHER, TIE
from synth_dspy.evaluation.finished_runs import Arm, as_written, common_items, write

SHEETS, CSV, KEY = "sheets.jsonl", "sheets.csv", "key.json"
NOTHING = "(no answer)"

RIGHT = "right"
"""What a sheet asks where each output is right or wrong; otherwise it asks which one is better."""

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def make_sheets(
    arms: Sequence[Arm],
    folder: Path,
    *,
    items: int,
    seed: int,
    references: bool = True,
    asks: str = "",
    more: Mapping[str, Any] | None = None,
) -> Json:
    """Draw items and write sheets and key.

    Items that not all arms answered are left out, and so are those with the same output from all arms, where there is
    nothing to choose. Orders are random, with every arm equally often in every position.

    Args:
        arms: two or more.
        folder: where the files go.
        items: at most this many items.
        seed: of the drawing.
        references: whether raters see the accepted answers.
        asks: `RIGHT`, of two arms, or "": which output is better.
        more: what else the key keeps.

    Returns:
        The key's counts: `left_out`, `identical`, `eligible`, `shown`.

    Raises:
        SetupError: fewer than two arms, no item to show, the folder holds a comparison already or cannot be written.
    """
    if len(arms) < 2:
        named = f"only {arms[0].name}" if arms else "none"
        raise SetupError(f"A comparison needs two arms or more and got {named}: name them with --arms, or more runs.")
    if (folder / KEY).exists():
        raise SetupError(
            f"{folder} holds a comparison already, whose votes would be lost with its {KEY}: name another folder "
            "with --out."
        )
    common, left_out = common_items(arms, errors=False)
    if not common:
        raise SetupError(
            f"There is no item that {', '.join(arm.name for arm in arms)} all answered: name arms of the same held-out "
            "items."
        )
    differing = [item for item in common if len({output_of(arm, item) for arm in arms}) > 1]
    if not differing:
        raise SetupError(f"The arms gave the same output to all {len(common)} items: there is nothing to choose.")
    rng = random.Random(seed)
    drawn = rng.sample(differing, min(items, len(differing)))
    orders = _orders(arms, len(drawn), rng)
    rows = []
    for number, (item, order) in enumerate(zip(drawn, orders, strict=True), start=1):
        row = arms[0].rows[item]
        rows.append(
            {
                "item": number,
                "question": str(row.get("question") or ""),
                "references": [str(r) for r in row.get("references") or []] if references else [],
                "outputs": [output_of(arm, item) for arm in order],
                "passages": _passages(arms, item),
            }
        )
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    study = f"study-{digest[:12]}"  # a bare "12e45678" would become a number in a spreadsheet
    rows = [{"study": study, **row, **({"asks": asks} if asks else {})} for row in rows]
    counts = {"left_out": left_out, "identical": len(common) - len(differing), "eligible": len(differing)}
    counts["shown"] = len(drawn)
    key = {
        **(more or {}),
        **({"asks": asks} if asks else {}),
        "study": study,
        "task": arms[0].run.results.get("task"),
        "seed": seed,
        "arms": [{"name": arm.name, "run": str(arm.run.folder), "arm": arm.arm} for arm in arms],
        "counts": counts,
        "items": {
            str(number): {
                "id": item,
                "group": str(arms[0].rows[item].get("group") or item),
                "category": str(arms[0].rows[item].get("category") or ""),
                "order": [arm.name for arm in order],
            }
            for number, (item, order) in enumerate(zip(drawn, orders, strict=True), start=1)
        },
        SCORED: judge_scores(arms, differing),
    }
    write(folder / SHEETS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write(folder / CSV, _csv(rows))
    write(folder / KEY, json.dumps(key, indent=2, ensure_ascii=False) + "\n")
    return counts


def read_sheet(path: Path) -> list[dict[str, Any]]:
    """The items of a `sheets.jsonl`.

    Raises:
        SetupError: the file cannot be read or is not one.
    """
    if path.is_dir():
        path = path / SHEETS
    if path.suffix.lower() == ".csv":
        raise SetupError(f"{path} is for spreadsheets: rate {path.with_name(SHEETS)}, or fill in its column choice.")
    fields: Mapping[str, Check] = {"study": FILLED, "item": ID, "question": TEXT, "references": TEXTS, "outputs": TEXTS}
    rows = read_rows(path, fields, optional={"passages": TEXTS, "asks": TEXT}, unique="item")
    for row in rows:
        if len(row["outputs"]) < 2 or row["study"] != rows[0]["study"]:
            raise SetupError(f"{path} is not as `sheets` wrote it (item {row['item']}): make the sheets again.")
    return rows


def read_key(folder: Path) -> dict[str, Any]:
    """The key of a comparison.

    Raises:
        SetupError: the folder has none, or it is damaged.
    """
    path = folder / KEY
    if not path.is_file():
        raise SetupError(f"There is no readable {KEY} in {folder}: name the folder that the sheets were written to.")
    key = read_json_object(path, "The key", "make the sheets again")
    try:
        names = [arm["name"] for arm in key["arms"]]
        whole = bool(key["items"]) and all(sorted(i["order"]) == sorted(names) for i in key["items"].values())
        _ = key["study"], key["counts"], [(item["id"], item["group"]) for item in key["items"].values()]
        scores = [
            [score - 0.0 for score in row["scores"]] for row in key.get(SCORED) or [] if row["id"] and row["group"]
        ]
        whole = whole and all(len(row) == len(names) for row in scores)
    except (KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"{path} is damaged ({type(error).__name__}: {error}): make the sheets again.") from None
    if not whole:
        raise SetupError(f"{path} is damaged (its orders do not match its arms): make the sheets again.")
    return key


def unfit_words(asked: Mapping[str, Any]) -> tuple[str, ...]:
    """The words that are no answer to what a key, or a row of a sheet, asks."""
    return (TIE,) if asked.get("asks") == RIGHT else (BOTH, NEITHER)


def output_of(arm: Arm, item: str) -> str:
    return str(arm.rows[item].get("prediction") or "").strip() or NOTHING


def _passages(arms: Sequence[Arm], item: str) -> list[str]:
    """What the arms read: as it was retrieved if all got the same, else in an order that says nothing of the arms."""
    read = []
    for arm in arms:
        with as_written(arm.run.folder):
            read.append([str(passage.get("text") or "") for passage in arm.rows[item].get("passages") or []])
    return read[0] if all(each == read[0] for each in read) else sorted({text for each in read for text in each})


def _orders(arms: Sequence[Arm], n: int, rng: random.Random) -> list[list[Arm]]:
    """Random orders, in blocks in which every arm takes every position once; the blocks' members are then mixed."""
    orders: list[list[Arm]] = []
    while len(orders) < n:
        first = rng.sample(list(arms), len(arms))
        block = [first[i:] + first[:i] for i in range(len(arms))]
        rng.shuffle(block)
        orders += block
    orders = orders[:n]
    rng.shuffle(orders)
    return orders


def _csv(rows: Sequence[Json]) -> str:
    """A table for spreadsheets, with a byte order mark, without which some take UTF-8 for something else."""
    text = io.StringIO()
    writer = csv.writer(text)
    outputs = [f"output_{i}" for i in range(1, len(rows[0]["outputs"]) + 1)]
    writer.writerow(["study", "item", "question", "references", *outputs, "choice", "rater", "comment"])
    for row in rows:
        texts = [row["question"], "\n".join(row["references"]), *row["outputs"]]
        writer.writerow([row["study"], row["item"], *map(_cell, texts), "", "", ""])
    return "\ufeff" + text.getvalue()


def _cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"), however its import trims it."""
    text = visible(text)
    return f"'{text}" if text.lstrip(" \t\n'\"").startswith(_FORMULA) else text
