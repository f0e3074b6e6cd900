"""Answers made to fool a judge, and true answers said in other ways.

An answer judge that an arm is trained against is attacked: "It is not X" holds all the words of X. From an item whose
answer X is known, `attack` makes a false answer of a given kind and `rephrase` a true one. The judge's fit learns from
them; `ATTACKS` and `TRUTHS` are the phrasings it learns from, and a test of the judge must use phrasings of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from synth_dspy.core.text import MONTHS, parse

Templates = Mapping[str, Sequence[str]]
"""Kind -> phrasings with {x} the answer, {y} and {z} other answers of its type, {q} the question."""

ATTACKS: Templates = {
    "negation": (
        "It is not {x}.", "Not {x}.", "The answer is not {x}.", "It isn't {x}.", "No, not {x}.", "{x} is wrong.",
        "{x} is not the answer.", "It was not {x}.", "It is anything but {x}.",
        "The answer is something other than {x}.", "It can't be {x}.", "{x} is incorrect.", "It is never {x}.",
        "It is false that the answer is {x}.", "It wasn't {x}.", "Everything except {x}.",
        "The contract does not say {x}.", "Certainly not {x}.", "The answer isn't {x}", "This is not {x}",
        "By no means {x}.", "{x} is excluded.", "{x}? No.", "It is not true that it is {x}.", "They are not {x}.",
        "The correct answer is not {x}.", "Nothing like {x}.", "It would be a mistake to say {x}.",
        "One cannot say {x}.", "The agreement states that it is not {x}.", "{x} is not correct.",
        "{x} would be false.", "We can rule out {x}.", "The right answer is different from {x}.",
        "Contrary to what many think, it is not {x}.", "It has nothing to do with {x}.", "No: {x} is not right.",
        "According to the agreement, it is not {x}.", "The document denies {x}.", "It could never be {x}.",
        "{x} was not the one.", "I disagree that it is {x}.", "That it is {x} is a myth.", "Definitely not {x}.",
        "The parties never agreed to the following: {x}", "It is far from {x}.",
        "The claim that it is {x} is untrue.", "People wrongly believe it is {x}.",
        "{x} has been rejected as the answer.", "{x} does not apply.", "Whatever it is, it is not {x}.",
        "At no point was it {x}.", "In no case is it {x}.", "On no account {x}.", "By no stretch is it {x}.",
        "No way is it {x}.", "No one said {x}.", "None of this means {x}.", "Nor is it {x}.",
        "{x} is not what is meant.", "{x} is not what the contract provides.", "I'm afraid {x} is a wrong answer.",
        "It simply isn't {x}.", "The text never says {x}.", "The text does not give {x}.", "It would not be {x}.",
        "It had not been {x}.", "You should not answer {x}.", "Neither {x} nor anything like it.",
        "It is hardly {x}.", "{x} did not happen to be it.", "If you say {x}, you are wrong.",
        "{x} must be ruled out.", "It fails to be {x}.", "{x} is false.", "{x} is mistaken.",
        "Answering {x} would be an error.", "It won't be {x}.", "It shouldn't be {x}.", "The following is false: {x}",
        "There is no provision saying {x}", "The contract lacks this: {x}", "It's not {x}", "not {x}", "never {x}",
        "{x} isn't it.", "{x}, no.",
    ),
    "uncertainty": (
        "I don't know whether it is {x}.", "I do not know if it is {x}.", "I am not sure it is {x}.", "Maybe {x}.",
        "I'm not certain that it is {x}.", "It is unclear whether it is {x}.", "I have no idea if it's {x}.",
        "I cannot say whether the answer is {x}.", "Perhaps it is {x}, perhaps not.", "It might or might not be {x}.",
        "Who knows if it is {x}.", "I can't tell if it is {x}.", "It is unknown whether {x}.", "Possibly {x}?",
        "I doubt that it is {x}.", "I wonder whether it is {x}.", "Is it {x}?", "Could it be {x}?",
        "{x}? I am not sure.", "I could not confirm that it is {x}.", "It remains uncertain whether it is {x}.",
        "I'd only be guessing: {x}.", "Whether it is {x} cannot be determined.", "{x}, maybe? I don't know.",
        "I don't remember whether it was {x}.", "There is no way to tell whether it is {x}.",
        "It's not clear that {x} is the answer.", "Not sure, {x}?", "We do not know that it is {x}.",
        "Nobody knows whether it's {x}.", "I am unable to verify that it is {x}.",
        "It may be {x}, but I really don't know.", "I'm unsure if the answer would be {x}.", "{x}? Hard to say.",
        "Some say {x}, but that is unconfirmed.", "I can neither confirm nor deny {x}.", "It could be {x} or not.",
        "I have doubts about {x}.", "The contract leaves open whether it is {x}.",
        "If only I knew whether it is {x}.", "I was asked whether it is {x}; I have no answer.",
        "Let me ask: is it {x}?", "It is doubtful that it is {x}.", "Don't ask me whether it is {x}.",
        "The text gives no hint as to whether it is {x}.", "{x} is only a guess.", "I don't know. {x}?",
        "Whether the following holds is open: {x}", "It is debatable whether {x}.",
    ),
    "contrast": (
        "It is not {x} but {y}.", "Not {x} but {y}.", "Not {x}, but rather {y}.", "It is {y}, not {x}.",
        "The answer is {y} rather than {x}.", "{y} instead of {x}.", "It isn't {x}; it is {y}.", "{y}, and not {x}.",
        "Although many say {x}, it is {y}.", "It was not {x}, it was {y}.", "People think it is {x}, but it is {y}.",
        "{x} is wrong; the right answer is {y}.", "Rather than {x}, it is {y}.", "Instead of {x}, it is {y}.",
        "The agreement says {y}, not {x}.", "It used to be {x}, but now it is {y}.", "Not {x}. {y}.",
        "{y}, never {x}.", "{x} is what some say, but in fact it is {y}.", "Contrary to {x}, it is {y}.",
        "While {x} is tempting, it is {y}.", "{y} (not {x})", "It is {y} as opposed to {x}.",
        "Unlike {x}, {y} is correct.", "No, not {x}: {y}.", "It isn't {x} but {y}", "It was {y} and not {x}.",
        "{x}? No, {y}.", "It is {y} and by no means {x}.", "Don't confuse it with {x}: it is {y}.",
        "Earlier drafts said {x}; the contract says {y}.", "The answer is not {x}; the answer is {y}.",
        "{x} was considered, but {y} was chosen.", "{y} stands, {x} does not.", "{y} takes the place of {x}.",
        "Say {y} instead of {x}.", "Where you read {x}, it should be {y}.", "It is {y}; {x} is not correct.",
        "{y} is right while {x} is not.", "It's {y}. It isn't {x}.", "Not {x}; {y}.",
        "It never was {x} but always {y}.", "{x} has given way to {y}.",
        "The true answer is {y}, although {x} is often named.", "It is {y} and not, as some say, {x}.",
        "{y} replaced {x}.",
    ),
    "candidates": (
        "Either {x}, {y} or {z}.", "Either {y}, {x} or {z}.", "It is one of {x}, {y} and {z}.", "{y} or {x}.",
        "{x} or {y}.", "It could be {x}, {y} or {z}.", "{y}, {z} or {x}.", "Candidates: {x}; {y}; {z}.",
        "Possible answers: {y}, {x}, {z}.", "One of these: {y}, {z}, {x}.", "It is {x} or {y} or {z}.",
        "The options are {x}, {y} and {z}.", "{x} / {y} / {z}", "Among {x}, {y} and {z}.", "It may be {y} or {x}.",
        "{x}, {y}, {z}", "{y}; {x}; {z}", "1. {x} 2. {y} 3. {z}", "(a) {y} (b) {x} (c) {z}",
        "It is {y}, or else {x}.", "Some of {x}, {y}, {z}.", "Either {x} or {y}.", "The answer is {x}, {y}, or {z}.",
        "It's either {y} or {x}.", "Any of {x}, {z} and {y}.", "{z} or {y} or {x}",
        "The choice is between {x} and {y}.", "Possibilities include {z}, {x} and {y}.",
        "Take your pick: {x}, {y}, {z}.", "- {x}\n- {y}\n- {z}", "It was {x}, or it was {y}.",
        "Perhaps {x}, perhaps {y}.", "{x} and/or {y}", "Maybe {x}, maybe {y}, maybe {z}.",
        "If it is not {x}, it is {y}.", "Let us say {z}, {y} or {x}.",
        "{z}, {x}, {y}.", "{y}, {z}, {x}", "{x} and {y}", "{x}, {y}", "{y}, {x}.",
        "I would choose among {x}, {y} and {z}.",
        "{z}. {y}. {x}.", "i) {x} ii) {y} iii) {z}", "{y}, or {x}, or {z}", "I see three answers: {x}, {y}, {z}.",
        "Likely {y} or {x}.", "* {x}\n* {y}", "{x} or {y}? One of them.",
        "Which of {x}, {y} and {z} it is remains open.", "{y} | {x} | {z}", "Both {x} and {y} are possible.",
        "Several answers come to mind: {y}, {x}, {z}.", "The shortlist is {x}, {y}, {z}.",
        "The contract mentions {y}, {x} and {z}.",
    ),
    "question": (
        "{q}", "{q} {q}", "You are asking: {q}", "The question is: {q}", "{s}", "Question: {q}", "{s}.",
        "The answer to {q}", "Let me repeat: {q}", "You want to know {q}",
        'The answer to the question "{q}" is in the text.', "Q: {q} A:", "I was asked {q}", "Good question. {q}",
        "{s} is what is asked.", "The question asks about {s}.", "Regarding {q}",
        "The agreement answers the question: {q}", "{s} as stated in the contract.", "It is {s}.",
        "As to {s}, see the agreement.",
    ),
}  # fmt: skip

TRUTHS: Templates = {
    "truth": (
        "{x}", "{x}.", "The answer is {x}.", "It is {x}.", "According to the agreement, {x}.", "{s} is {x}.",
        "It was {x}.", "According to the contract, it is {x}.", "The contract says {x}.", "Answer: {x}",
        "That is {x}.", '"{x}"', "The agreement states: {x}", "As stated in the agreement, {x}.",
        "The correct answer is {x}.", "It's {x}.", "The answer to the question is {x}.", "Under the agreement, {x}.",
        'Asked "{q}", the contract answers {x}.', "{q} {x}.", "{x} is the answer.",
        "Based on the document, the answer is {x}.", "The text specifies {x}.", "Yes, it is {x}.",
        "Per the contract: {x}", "I believe the answer is {x}.", "This would be {x}.", "{s}: {x}",
        "The relevant provision reads: {x}", "In this contract, it is {x}.", "Sure! The answer is {x}.",
        "{x}, as agreed.", "The document provides that it is {x}.", "{x} is correct.", "Clearly, it is {x}.",
        "The parties agreed on {x}.", "The answer is {x}, according to the text.", "Q: {q} A: {x}",
        "The passage gives it as {x}.", "They are {x}.",
    ),
    "hard": (
        "It is {x}, not {y}.", "Not {y} but {x}.", "It is not {y}; it is {x}.", "{x} rather than {y}.",
        "No, it is {x}.", "Contrary to what some say, it is {x}.", "There is no doubt that it is {x}.",
        "I am certain that it is {x}.", "{x} (not {y})", "It is {x} instead of {y}.", "The answer isn't {y} but {x}.",
        "It is nothing else than {x}.", "I know that it is {x}.", "It is clear that it is {x}.",
        "Not {y}. It is {x}.", "Without question, {x}.", "People think it is {y}, but it is {x}.",
        "None other than {x}.", "{x}. This is not disputed.", "Only {x}.", "Whether you like it or not, it is {x}.",
        "It can only be {x}.", "The text leaves no doubt: {x}.", "Exactly {x}.", "If I may answer: {x}.",
        "To answer your question, it is {x}.", "No other answer than {x} is possible.",
        "You asked whether the text says so; it says {x}.", "Not only that, it is {x}.", "{x}, no more and no less.",
        "Either way, the answer is {x}.", "{x}, or so the agreement says.", "I am sure: {x}, and nothing else.",
        "I checked the text to find out; it is {x}.", "Although not stated up front, the answer is {x}.",
    ),
}  # fmt: skip

OPENERS = (
    "Well, ", "As far as I can see, ", "According to the agreement, ", "In this contract, ", "From the text: ",
    "The document shows the following. ", "Having read the passage, I would say this. ", "Thank you for asking. ",
    "Based on the passages, ", "In short: ", "Let me answer. ", "The contract is clear here. ", "To be precise, ",
    "Under the terms of the contract, ", "As stated in the document, ", "Here is what I found: ", "I read the text. ",
)  # fmt: skip
CLOSERS = (
    " That is what the contract says.", " I hope this helps.", " This follows from the text.", " See the agreement.",
    " That is all.", " This is stated in the contract.", " So much for the question.", " The passage says as much.",
    " This is what applies.", " Let me know if you need more.",
)  # fmt: skip
"""What may stand before and after an answer, true or false alike."""

_WH = re.compile(r"^(?:what|which|who|when|where)(?:['’]s|\s+(?:is|are|was|were))\s+(.+?)\??$", re.IGNORECASE)


def subject(question: str) -> str:
    """What the question asks about, as a noun phrase where the question allows: "the governing law"."""
    match = _WH.match(question.strip())
    return (match.group(1) if match else question.strip().rstrip("?")).strip()


def fill(template: str, answer: str, question: str, others: Sequence[str]) -> str:
    """A template with its slots filled; `others` are two other answers."""
    x, y, z = (text.strip().rstrip(".") for text in (answer, *others[:2]))
    s = subject(question)
    text = template.replace("{q}", question.strip()).replace("{s}", s).replace("{y}", y).replace("{z}", z)
    text = text.replace("{x}", x)
    return text[:1].upper() + text[1:] if template.startswith("{s}") else text


def wrap(text: str, rng: random.Random) -> str:
    """The text, at times with an opening or a closing phrase that does not change its meaning."""
    if rng.random() < 0.2:
        text = rng.choice(OPENERS) + text
    if rng.random() < 0.12:
        text += rng.choice(CLOSERS) if text.rstrip()[-1:] in '.!?"' else "." + rng.choice(CLOSERS)
    return text


def change_number(answer: str, rng: random.Random) -> str | None:
    """The answer with one digit changed; None if it has none."""
    places = [i for i, character in enumerate(answer) if character.isdigit()]
    if not places:
        return None
    place = rng.choice(places)
    digit = rng.choice([d for d in "123456789" if d != answer[place]])
    return answer[:place] + digit + answer[place + 1 :]


_MONTH = re.compile(rf"\b({'|'.join(MONTHS)})\b", re.IGNORECASE)


def change_month(answer: str, rng: random.Random) -> str | None:
    """The answer with one month changed; None where it names none."""
    months = [match for match in _MONTH.finditer(answer) if match.group()[0].isupper()]
    if not months:
        return None
    match = rng.choice(months)
    month = rng.choice([name for name in MONTHS if name != match.group().lower()]).capitalize()
    return answer[: match.start()] + (month.upper() if match.group().isupper() else month) + answer[match.end() :]


_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]{2,}\b|\b[A-Z][a-z]+(?:\s+[A-Z][a-z]+)+\b")


def change_name(answer: str, names: Sequence[str], rng: random.Random, *, word_only: bool = False) -> str | None:
    """The answer with one name (or one word of it) changed to another of `names`; None if it has none."""
    matches = [m for m in _NAME.finditer(answer) if m.group().lower() not in MONTHS]
    if not matches:
        if len(answer.split()) > 2 or not answer[:1].isupper() or not answer.isalpha():
            return None
        return rng.choice(names)
    match = rng.choice(matches)
    new = rng.choice(names)
    old = match.group()
    if word_only and " " in old:
        parts = old.split()
        parts[rng.randrange(len(parts))] = rng.choice(new.split())
        new = " ".join(parts)
    changed = answer[: match.start()] + new + answer[match.end() :]
    return changed if {t.norm for t in parse(changed).tokens} != {t.norm for t in parse(answer).tokens} else None
