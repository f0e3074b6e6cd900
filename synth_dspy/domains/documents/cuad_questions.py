"""CUAD's 41 categories as questions that a reader of the contract might ask."""

from __future__ import annotations

from typing import Final

# Categories answered by a short fact: the kind of answer, and the question.
FACTS: Final[dict[str, tuple[str, str]]] = {
    "Document Name": ("name", "What is the name of the contract?"),
    "Parties": ("party", "Who are the parties to the contract?"),
    "Agreement Date": ("date", "What is the date of the contract?"),
    "Effective Date": ("date", "On what date does the contract become effective?"),
    "Expiration Date": ("date", "When does the contract's initial term expire?"),
    "Renewal Term": ("period", "For how long is the contract renewed or extended after its initial term expires?"),
    "Notice Period to Terminate Renewal": (
        "period",
        "How much notice is required to prevent the contract's automatic renewal?",
    ),
    "Governing Law": ("law", "Which state's or country's law governs the contract?"),
    "Warranty Duration": ("period", "How long does the warranty on the products or services last?"),
}
# Categories answered by a clause: the question for the clause, and the same as a yes/no question.
CLAUSES: Final[dict[str, tuple[str, str]]] = {
    "Most Favored Nation": (
        "What does the contract say about a party being entitled to the most favored or better terms given to others?",
        "Is a party entitled to the better terms that the other gives to a third party?",
    ),
    "Non-Compete": (
        "What restricts a party from competing or doing business in a certain area or field?",
        "Is a party restricted from competing with the other?",
    ),
    "Exclusivity": (
        "Which exclusive rights or exclusive dealing commitments does the contract give?",
        "Does the contract contain an exclusive dealing commitment?",
    ),
    "No-Solicit of Customers": (
        "What restricts a party from soliciting the customers of the other?",
        "Is a party restricted from soliciting the other's customers?",
    ),
    "Competitive Restriction Exception": (
        "Which exceptions are there to the restrictions on competing, exclusivity or soliciting?",
        "Are there exceptions to the contract's restrictions on competing?",
    ),
    "No-Solicit of Employees": (
        "What restricts a party from soliciting or hiring the employees of the other?",
        "Is a party restricted from soliciting or hiring the other's employees?",
    ),
    "Non-Disparagement": (
        "What forbids a party to disparage the other or harm its reputation?",
        "Is a party forbidden to disparage the other?",
    ),
    "Termination for Convenience": (
        "How can a party terminate the contract at any time without cause by giving notice?",
        "Can a party terminate the contract without cause?",
    ),
    "Rofr/Rofo/Rofn": (
        "What right of first refusal, first offer or first negotiation does the contract grant?",
        "Does the contract grant a right of first refusal, first offer or first negotiation?",
    ),
    "Change of Control": (
        "What happens on a change of control, such as a merger or sale of a party?",
        "Does a change of control of a party need consent or allow termination?",
    ),
    "Anti-Assignment": (
        "Under what conditions may a party assign or transfer the contract to a third party?",
        "Is consent required to assign the contract to a third party?",
    ),
    "Revenue/Profit Sharing": (
        "What share of revenue or profit, such as royalties or commissions, must a party pay to the other?",
        "Must a party share revenue or profit with the other?",
    ),
    "Price Restrictions": (
        "What restricts a party from raising or reducing its prices?",
        "Is a party restricted from changing its prices?",
    ),
    "Minimum Commitment": (
        "What minimum order, purchase, quantity or payment must a party commit to?",
        "Must a party buy or order a minimum amount?",
    ),
    "Volume Restriction": (
        "What happens when use or quantity exceeds a maximum number or limit?",
        "Does the contract limit the volume or amount of use?",
    ),
    "IP Ownership Assignment": (
        "Which intellectual property created under the contract is assigned to or owned by the other party?",
        "Does intellectual property created by one party become the property of the other?",
    ),
    "Joint IP Ownership": (
        "Which intellectual property do the parties own jointly?",
        "Is any intellectual property owned jointly by the parties?",
    ),
    "License Grant": (
        "Which license does a party grant to the other, and to use what?",
        "Does a party grant the other a license?",
    ),
    "Non-Transferable License": (
        "What makes the license non-transferable or limits its transfer and sublicensing?",
        "Is the license non-transferable?",
    ),
    "Affiliate License-Licensor": (
        "Which license is granted by the licensor's affiliates or covers their intellectual property?",
        "Do the licensor's affiliates grant a license?",
    ),
    "Affiliate License-Licensee": (
        "Which license is granted to the licensee and its affiliates?",
        "Does the license extend to the licensee's affiliates?",
    ),
    "Unlimited/All-You-Can-Eat-License": (
        "Which enterprise or unlimited license is granted?",
        "Is an unlimited or enterprise-wide license granted?",
    ),
    "Irrevocable or Perpetual License": (
        "Which irrevocable or perpetual license is granted?",
        "Is an irrevocable or perpetual license granted?",
    ),
    "Source Code Escrow": (
        "What must be deposited in source code escrow, and when is it released?",
        "Must source code be deposited in escrow?",
    ),
    "Post-Termination Services": (
        "Which obligations does a party have after termination or expiration of the contract?",
        "Does a party have obligations after the contract's termination?",
    ),
    "Audit Rights": (
        "What right does a party have to audit or inspect the books and records of the other?",
        "Does a party have the right to audit the other's books or records?",
    ),
    "Uncapped Liability": (
        "For which breaches is a party's liability not limited, such as indemnification or confidentiality?",
        "Is a party's liability unlimited for any breach?",
    ),
    "Cap on Liability": (
        "How is a party's liability for damages limited or capped?",
        "Is a party's liability limited or capped?",
    ),
    "Liquidated Damages": (
        "Which liquidated damages or termination fee must a party pay?",
        "Does the contract provide for liquidated damages or a termination fee?",
    ),
    "Insurance": (
        "What insurance must a party maintain?",
        "Must a party maintain insurance?",
    ),
    "Covenant Not to Sue": (
        "What forbids a party to contest the other's ownership of its intellectual property or bring claims?",
        "Is a party forbidden to contest the other's intellectual property or sue it?",
    ),
    "Third Party Beneficiary": (
        "Which third parties are beneficiaries of the contract and may enforce it?",
        "Does the contract have a third-party beneficiary?",
    ),
}  # fmt: skip
