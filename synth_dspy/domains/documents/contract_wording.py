"""From the topic of a question to the language of the contract clauses that answer it.

People ask "can they sell to our competitors?" where the clause says "shall not, directly or indirectly, engage in any
competing business". A search for both finds more than a search for the question alone. The table is general drafting
language, not written for a particular contract; other questions are left as they are.
"""

from __future__ import annotations

import re
from typing import Final

_CLAUSES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"\b(law|laws|governs|governed|governing|jurisdiction)\b",
        "shall be governed by and construed in accordance with the laws of the State of, without regard to conflict "
        "of laws principles",
    ),
    (
        r"\b(what|which|the) dates? of\b|\b(dated|signed|entered into)\b",
        "This Agreement is dated, made and entered into as of this day of, by and between; IN WITNESS WHEREOF the "
        "parties have executed this Agreement on the date",
    ),
    (r"\beffective\b|\b(start|begin|commence)s?\b", "effective as of the date first above written (Effective Date)"),
    (
        r"\b(who|parties to)\b",
        "This Agreement is made by and between, a corporation (the Company), and, hereinafter referred to as",
    ),
    (
        r"\brenew\w*|\bextended\b|\bextension\b",
        "shall automatically renew for successive one year periods unless either party gives written notice of "
        "non-renewal at least days prior to the end of the then current term",
    ),
    (
        r"\b(expir(e|es|ation) date|(term|contract|agreement|lease) (expire|end)s?|how long (is|does) the)\b",
        "The term of this Agreement shall commence on the Effective Date and continue for an initial term of years "
        "unless earlier terminated",
    ),
    (
        r"\bafter (the )?(termination|expir)|\bafter the contract|contract's termination\b|post-termination",
        "Upon termination or expiration of this Agreement shall immediately cease to use, deliver or return all "
        "materials, pay all amounts due, may sell off or shall repurchase remaining inventory for a period of days, "
        "shall provide transition assistance",
    ),
    (
        r"\bwithout cause\b|\bfor convenience\b",
        "may terminate this Agreement at any time for any reason or no reason, without cause, upon days prior "
        "written notice",
    ),
    (
        r"\b(assign|assigned to a|assignment of the|transfer the (contract|agreement))\b",
        "may not assign or transfer this Agreement or any of its rights or obligations without the prior written "
        "consent of the other party; successors and permitted assigns",
    ),
    (
        r"\bchange (of|in) control\b|\bmerger\b",
        "change of control, merger, consolidation, sale of all or substantially all of the assets or a majority of "
        "the voting stock shall be deemed an assignment",
    ),
    (
        r"\b(limited or capped|cap on|capped|limit\w* (of|on) liability|liability (is|for damages))\b",
        "in no event shall either party be liable for any indirect, incidental or consequential damages; total "
        "aggregate liability shall not exceed the amounts paid under this Agreement",
    ),
    (
        r"\bliability (is )?(not limited|unlimited|uncapped)|liability not limited\b",
        "the foregoing limitations shall not apply to indemnification obligations, breach of confidentiality, gross "
        "negligence, willful misconduct or fraud",
    ),
    (
        r"\b(liquidated damages|termination fee|penalt\w+)\b",
        "shall pay as liquidated damages and not as a penalty; early termination fee",
    ),
    (
        r"\bwarrant\w+\b",
        "warrants that the products will be free from defects in material and workmanship for a period of months "
        "from the date of delivery",
    ),
    (
        r"\binsurance\b|\binsured\b",
        "shall maintain commercial general liability insurance with limits of not less than per occurrence, naming "
        "as additional insured, and furnish a certificate of insurance",
    ),
    (
        r"\b(audit|inspect)\w*\b",
        "shall keep complete and accurate books and records; shall have the right, upon reasonable prior written "
        "notice and during normal business hours, to audit, inspect and examine",
    ),
    (
        r"\bexclusiv\w+\b",
        "the sole and exclusive right; exclusive distributor in the Territory; shall not appoint, license or grant "
        "to any other third party; shall purchase all its requirements exclusively from",
    ),
    (
        r"\b(compet\w+|non-?compete)\b",
        "shall not, directly or indirectly, engage in, own, operate or assist any competing business, or develop, "
        "market or sell any competitive products, during the term and for a period of years thereafter",
    ),
    (
        r"\bexceptions?\b",
        "notwithstanding the foregoing; the restrictions shall not apply to; nothing herein shall prevent, prohibit "
        "or restrict; except; provided however that may own less than five percent of the stock of a publicly "
        "traded company",
    ),
    (
        r"\b(solicit\w*|hir(e|ing)).*\bemployees\b",
        "shall not solicit, induce, recruit, hire or employ any employee of the other party",
    ),
    (
        r"\bsolicit\w*.*\bcustomers\b",
        "shall not solicit, divert or do business with any customer or client of the other party",
    ),
    (
        r"\b(disparag\w+|reputation)\b",
        "shall not make any disparaging, derogatory or negative statements, or damage the reputation or goodwill of",
    ),
    (
        r"\bfirst (refusal|offer|negotiation)\b",
        "right of first refusal, right of first offer or negotiation; prior to offering to any third party shall "
        "first offer to",
    ),
    (
        r"\b(most favored|better terms)\b",
        "on terms no less favorable than those offered to any other customer; lowest price; most favored",
    ),
    (
        r"\b(share (of )?(revenue|profit)|royalt\w+|commissions?)\b",
        "shall pay a royalty of percent of net sales; commission; share of gross revenues; split of net profits",
    ),
    (
        r"\bprices?\b",
        "prices shall not be increased; price increases shall not exceed percent per year; prices are fixed",
    ),
    (
        r"\bminimum\b",
        "shall purchase or pay at least a minimum amount or quantity during each year; annual minimum purchase; "
        "guaranteed minimum payment; not less than units",
    ),
    (
        r"\b(exceeds?|volume|maximum (number|amount))\b",
        "in excess of; up to a maximum number of; shall not exceed; additional fee for each additional user or unit",
    ),
    (
        r"\bjoint(ly)?\b",
        "shall be jointly owned by the parties; joint inventions and joint intellectual property",
    ),
    (
        r"\bintellectual property\b.*\b(assigned|owned by|become|created)\b",
        "hereby assigns all right, title and interest in and to the inventions, improvements and work product, "
        "works made for hire, which shall be owned by and be the sole and exclusive property of",
    ),
    (
        r"\b(contest|sue|challenge|bring claims)\b",
        "acknowledges the ownership of, and shall not challenge, contest or attack the validity of, the trademarks "
        "or patents; covenants not to sue; releases and waives any claim",
    ),
    (
        r"\b(non-?transferable|sublicens\w+)\b",
        "a non-transferable, non-assignable, non-sublicensable license; shall have no right to sublicense, assign "
        "or transfer the license",
    ),
    (
        r"\blicen[sc]ee and its affiliates|licen[sc]ee's affiliates\b",
        "grants to Licensee and its Affiliates a license; Affiliates shall have the right to use",
    ),
    (
        r"\blicen[sc]or's affiliates\b",
        "Licensor, on behalf of itself and its Affiliates, hereby grants a license; owned by Licensor's Affiliates",
    ),
    (r"\b(irrevocable|perpetual)\b", "a perpetual, irrevocable, fully paid-up license which survives termination"),
    (r"\b(unlimited|enterprise)\b.*\blicen[sc]e", "an unlimited, enterprise-wide license for any number of users"),
    (
        r"\blicen[sc]e\b.*\bgrant|\bgrants?\b.*\blicen[sc]e",
        "hereby grants to a non-exclusive, royalty-free license and right to use, reproduce, distribute and market "
        "the trademarks, software, technology and products during the term",
    ),
    (r"\bescrow\b", "shall deposit the source code with an escrow agent, to be released upon bankruptcy or default"),
    (
        r"\bthird[- ]part(y|ies)\b.*\bbeneficiar",
        "is an intended third party beneficiary of this Agreement and shall be entitled to enforce its provisions",
    ),
)  # fmt: skip
_COMPILED: Final = tuple((re.compile(pattern, re.I), clause) for pattern, clause in _CLAUSES)


def contract_wording(question: str) -> str:
    """The language of the clauses that a question is about, joined; "" for other questions."""
    return "; ".join(clause for pattern, clause in _COMPILED if pattern.search(question))
