"""A database's naming style: spelled out or terse, in snake_case, camelCase, PascalCase or capitals."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ABBREVIATIONS = {
    "account": "acct", "address": "addr", "amount": "amt", "animal": "anml", "annual": "ann", "approved": "appr",
    "area": "ar", "arrival": "arr", "average": "avg", "balance": "bal", "batch": "btch", "billable": "bill",
    "booking": "bkg", "branch": "br", "budget": "bdgt", "building": "bldg", "cancelled": "canc", "capacity": "cap",
    "category": "cat", "center": "ctr", "changed": "chg", "channel": "chnl", "city": "cty", "client": "clnt",
    "code": "cd", "company": "co", "complaint": "cmpl", "contact": "cntct", "contract": "ctr", "cost": "cst",
    "count": "cnt", "country": "ctry", "course": "crs", "created": "crt", "currency": "ccy", "customer": "cust",
    "date": "dt", "delivery": "dlv", "department": "dept", "departure": "dep", "description": "desc",
    "discount": "disc", "distance": "dist", "document": "doc", "duration": "dur", "email": "eml", "employee": "emp",
    "end": "end", "event": "evt", "external": "ext", "first": "fst", "flag": "flg", "gross": "grs", "group": "grp",
    "hours": "hrs", "insurance": "ins", "invoice": "inv", "item": "itm", "language": "lang", "last": "lst",
    "level": "lvl", "limit": "lmt", "location": "loc", "maintenance": "mnt", "manager": "mgr", "maximum": "max",
    "member": "mbr", "minimum": "min", "minutes": "mins", "monthly": "mth", "name": "nm", "number": "no",
    "order": "ord", "owner": "ownr", "package": "pkg", "patient": "pat", "payment": "pmt", "percent": "pct",
    "phone": "tel", "planned": "plan", "policy": "pol", "position": "pos", "postal": "post", "premium": "prem",
    "price": "prc", "product": "prod", "project": "proj", "property": "prop", "purchase": "purch",
    "quality": "qual", "quantity": "qty", "rate": "rt", "reading": "rdg", "received": "rcvd", "reference": "ref",
    "region": "reg", "revenue": "rev", "sale": "sls", "sequence": "seq", "serial": "ser", "service": "svc",
    "source": "src", "start": "strt", "started": "strt", "status": "stat", "stock": "stk", "store": "str",
    "street": "str", "student": "stud", "subscription": "sub", "supplier": "supp", "system": "sys", "tax": "tx",
    "teacher": "tchr", "text": "txt", "ticket": "tkt", "time": "tm", "total": "tot", "transaction": "txn",
    "treatment": "trt", "type": "typ", "unit": "unt", "user": "usr", "valid": "vld", "value": "val",
    "vehicle": "veh", "version": "ver", "weight": "wt", "work": "wrk", "worker": "wrkr", "year": "yr",
}  # fmt: skip
"""What databases commonly write for a word; other long words lose their inner vowels."""

CASES = ("snake", "snake", "snake", "camel", "pascal", "upper")
PREFIXES = ("", "", "", "", "t_", "tbl_", "dim_", "stg_")
_TERSE_FROM = 6  # letters: shorter words are left as they are


@dataclass(frozen=True, slots=True)
class Style:
    """A naming style.

    Attributes:
        case: snake, camel, pascal or upper.
        terse: share of words that are abbreviated, if possible.
        prefix: prefix of every table's name.
        plural: whether tables are named in the plural.
        key: suffix of foreign keys.
        declared: whether foreign keys are declared.
    """

    case: str = "snake"
    terse: float = 0.0
    prefix: str = ""
    plural: bool = True
    key: str = "id"
    declared: bool = True

    @classmethod
    def sample(cls, rng: random.Random) -> Style:
        """A random style."""
        case = rng.choice(CASES)
        return cls(
            case=case,
            terse=rng.choice((0.0, 0.0, 0.4, 1.0)),
            prefix=rng.choice(PREFIXES) if case == "snake" else "T_" if case == "upper" and rng.random() < 0.5 else "",
            plural=rng.random() < 0.6,
            key=rng.choice(("id", "id", "no", "key")),
            declared=rng.random() < 0.6,
        )

    def column(self, words: Sequence[str]) -> str:
        """A column's name from its words."""
        return self._joined([self._word(word) for word in words])

    def table(self, words: Sequence[str]) -> str:
        """A table's name from the words of its entity, which are in the singular."""
        written = [self._word(word) for word in words]
        if self.plural and written[-1] == words[-1]:  # abbreviations have no plural
            written[-1] = plural(words[-1])
        return self.prefix + self._joined(written)

    def _word(self, word: str) -> str:
        # Within a style, a word is abbreviated always or never.
        if random.Random(f"{self.terse}/{word}").random() >= self.terse:
            return word
        return abbreviated(word)

    def _joined(self, words: Sequence[str]) -> str:
        if self.case == "snake":
            return "_".join(words)
        if self.case == "upper":
            return "_".join(words).upper()
        joined = "".join(word.capitalize() for word in words)
        return joined if self.case == "pascal" else joined[:1].lower() + joined[1:]


def abbreviated(word: str) -> str:
    """A word as terse databases write it."""
    if word in ABBREVIATIONS:
        return ABBREVIATIONS[word]
    if len(word) < _TERSE_FROM:
        return word
    return word[0] + "".join(letter for letter in word[1:] if letter not in "aeiou")


def plural(word: str) -> str:
    """The plural of an English noun, well enough for table names."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")
