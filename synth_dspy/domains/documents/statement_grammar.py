"""Closed classes of English words, and the shapes of sentences, by which statements are made into questions."""

from __future__ import annotations

import re
from typing import Final

from synth_dspy.core.text import MONTHS, words

QUOTES: Final = "\"“”„'‘’`"
VOID: Final = words(
    "it its this that these those there they them he she him his her we us our ours i my me such here others "
    "same above below following foregoing previous preceding former latter herein hereof hereby hereunder hereto "
    "thereof thereto therein thereunder so now therefore aforesaid said else either neither which who whom whose what "
    "concrete respective corresponding resulting"
)
"""Words that point at something outside the sentence: a question with one of them is not understood alone."""
OPENING: Final = re.compile(r"(?:Under what condition|Within what period|At what rate|\w+)\b")
POINTING: Final = re.compile(
    r"\b(?:(?:below|above)(?! (?:\d|[$€£]|the\b|an?\b))\b|following|as follows|foregoing|here|aforementioned|"
    r"aforesaid|e\.?g|i\.?e)\b"
    r"|\bthis (?:[Pp]aragraph|[Ss]ection|[Aa]rticle|[Cc]lause|[Ss]ubsection|[Ss]chedule|[Ee]xhibit)\b"
    r"|\b[Oo]ption \d|[\[\]|<>{}*#•]|https?:|\.\.|\b(?:an?|the|your|old|new|each|another) ones?\b"
)
POINTING_ANSWER: Final = re.compile(
    r"(?:it|and|or|they|this|these|that|those|such|he|she|see|consult|refer to)\b"
    r"|\w+ (?:it|them|this|these|so|then|there|here)[.!]?$|(?:do|try|use) (?:that|so)\b|the same\b"
    r"|(?:if|when|once|until|after|before)\b.* (?:it|them)$|.* that [a-z]+$"
    r"|(?:if|when|as) you (?:prefer|like|wish|want|need|choose)\b"
    r"|.*\b(?:his or her|(?:previous|preceding) sentence|hereinafter)\b",
    re.I,
)
"""An answer that points elsewhere or says nothing: "see Appendix C", "use them", "check there", "if you prefer"."""
OPINION: Final = re.compile(
    r"an? (?:[a-z]+ly )?(?:lot|bit|little|matter|great|good|better|best|different|powerful|versatile|common|nice|big)\b"
)
"""What is said of a thing in praise of it does not define it."""
UNTOLD: Final = re.compile(
    r"\b(?:the|an?|your) (?:actual|example|whole|relevant|associated|related|original|given|current|desired|"
    r"appropriate) [a-z]+"
)
"""A thing that the sentences before have told of; "the same", "the resulting" are void in any question."""
DEFINITE: Final = re.compile(
    r"^W\w+ (?:must|shall|should|may|can|will|do|does|is|are|was|were) the [a-z]+"
    r"(?: of the (?:file|folder|page|option|value|command|setting|field|list|item|button|window|screen|box|script))?"
    r" (?:not )?[a-z]+"
    r"(?: (?:to|of|on|by|for|with|from|into|as|be \w+(?: \w+)?|to do))?\?$"
)
"""Asks about "the issue", "the script": one that an earlier sentence has spoken of."""
LEAD: Final = (
    r"(?:If|When|Whenever|Before|After|Once|Upon|Unless|Until|During|Within|While|Without|Except|In case of|"
    r"In the event (?:of|that)|For|In order to|To)\b"
)
STARTS_AS_CLAUSE: Final = re.compile(
    rf"(?:{LEAD}|(?:As|Although|Though|Since|Because|While|Where|In|On|At|By|For|From|With|Under|But|And|Or|Also|Then|"
    r"Outside|Inside|Throughout|Between|Among|Across|Along|Above|Below|Despite|Besides|Apart|"
    r"However|Note|Not|Please|Nothing|None|No one|Nobody|Provided|Notwithstanding|Subject|Instead|Otherwise|Therefore|"
    r"Thus|Additionally|Furthermore|Moreover|Finally|First|Next|Such|Who|What|Which|How|Whether|That|Of|Examples?|Let|Depending|"
    r"Whereas|Just as|Having|\w{2,}ing (?:with|to|for|from|on|in|of|at|by|the|an?|your|this))\b"
    r"|\d|[$€£])",
    re.I,
)
VAGUE_SUBJECT: Final = re.compile(
    r"the (?:most|least)\b|(?:the )?(?:first|second|third|fourth|last|next|other|main|only|final)\b|[a-z]+ly\b", re.I
)
UNFINISHED: Final = words("and or of to also thus then not")
COMMON_NOUN: Final = re.compile(r"(?:[a-rt-z]s|tion|ment|ness|ing|ance|ence|ity|ship|age|ure|port|time|fast|hol|ery)$")
"""Endings of words for things; names of companies seldom have them."""
POSSESSIVES: Final = words("their its his her our my")
DETERMINERS: Final = words(
    "The A An Each Any All Every Both Your Everyone Everybody Other Others New Most Many Some Several Few No Two Three"
)

MONTH: Final = f"(?:{'|'.join(MONTHS).title()})"


def plain(text: str) -> str:
    """A text without inline markup, on one line."""
    for pattern, read in _MARKUP:
        text = pattern.sub(read, text)
    return " ".join(text.split())


def third_person(verb: str) -> str:
    """A verb as it stands after "it", in the present tense."""
    if verb == "have":
        return "has"
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(?:s|sh|ch|x|o)$", verb) else f"{verb}s"


MODAL: Final = r"(?:must|shall|should|may|can|will)"
BE: Final = r"(?:is|are|was|were|(?:must|shall|should|may|can|will) be)"
FINITE: Final = re.compile(
    r"\b(?:is|are|was|were|has|have|had|do|does|did|must|shall|should|may|can|cannot|could|would|will|which|who|that|if|"
    r"when|where|because|and/or|provided|means)\b|[,;:()]"
)
"""A phrase with one of these is a clause, or more than one phrase."""
CAPTIONED: Final = re.compile(
    r"(?<![`\"“]) (?:The|If|A|An|Each|Any|All|This|In|Upon|When|Such|No)\b|\d\.\d|(?:\b[A-Z]{2,} ){2}[A-Z]{2,}"
    r"|^[A-Za-z]+(?:ing|ion) of [A-Z]|^(?:[A-Z][a-z]+ ){3,}[A-Z]"
)
"""Signs that a subject holds the caption before it too, which the conversion of a page ran into the sentence."""
MODAL_CLAUSE: Final = re.compile(rf"(?P<subject>.+?) (?P<modal>{MODAL})(?P<no> not)?,? (?P<rest>[a-z][^?]*)")
BE_CLAUSE: Final = re.compile(rf"(?P<subject>.+?) (?P<be>{BE}) (?P<no>not )?(?P<rest>[^?]*)")

IMPERATIVE: Final = re.compile(
    r"(?:add|apply|ask|avoid|book|bring|build|call|change|check|choose|clear|click|close|collect|complete|configure|"
    r"confirm|consider|consult|contact|copy|create|delete|disable|do not|download|enable|ensure|enter|execute|"
    r"feel free|fill|find|follow|give|go|inform|insert|install|keep|leave|log|make|move|notify|open|pass|pay|"
    r"press|provide|put|read|rebuild|record|refer|remove|replace|report|request|restart|return|review|run|save|see|select|"
    r"send|set|sign|specify|start|stop|submit|switch|take|tell|test|try|turn|type|update|upgrade|upload|use|verify|visit|wait|write)\b",
    re.I,
)
_VERBS: Final = words(
    "allow apply cause check consist contain control cover create define depend describe determine enable ensure "
    "generate get grant handle include indicate install list need offer own prevent produce protect provide receive "
    "refer remove replace represent require return show specify store support warrant"
)
TRANSITIVE: Final = _VERBS | words(
    "acquire appoint assign bear bring carry collect deliver disclose display furnish implement inspect keep maintain "
    "manage obtain pay perform retain supply"
)
WORKS: Final = {
    third_person(verb): verb
    for verb in words(
        "accept assume compare compress convert create delete detect disable display encrypt enforce exclude execute "
        "expect export extract follow hide ignore import keep limit listen load match merge move negate open override "
        "parse perform preserve print read restore run save scan search send serve set skip start stop track trigger "
        "update use validate verify watch write"
    )
}
"""What programs do: of the third person alone, since many are nouns too, and only where an object follows."""
FORMS: Final = {form: verb for verb in _VERBS for form in (verb, third_person(verb))} | WORKS
"""Forms of the present tense, with the verb as a question has it after "does"."""
PARTICLES: Final = {"apply": "to", "consist": "of", "depend": "on", "refer": "to"}
_LONGEST_FIRST: Final = "|".join(sorted(FORMS, key=lambda form: (-len(form), form)))
PRESENT: Final = re.compile(
    rf"(?P<subject>.+?) (?:(?:also|only|[a-z]+ly) )?(?P<verb>{_LONGEST_FIRST})"
    r"(?: (?P<particle>to|of|on))? (?P<rest>[^?]*)"
)
PAYMENT: Final = re.compile(r"(?P<subject>.+?) (?P<verb>pay|cost|earn|receive|contribute)(?P<s>s)? (?P<rest>.+)")
NO_OBJECT: Final = re.compile(
    r"(?:itself|themselves|yourself|of|in|on|at|by|and|or|to|for|from|that|is|are|whether|how|what|if) "
)
GIVEN_TO: Final = re.compile(r"[A-Z]\w+ (?:an?|the|to|all|any|its|their|with)\b|(?:\S+ ){1,6}with ")
"""After a verb of giving: first to whom, then what."""

ADJUNCT: Final = re.compile(
    r" (?P<word>(?:only |but only )?(?:if|when|until|before|after|once(?! (?:an?|each|every|per)\b)|upon)|"
    r"because|so that|in order to|"
    r"by(?= [a-z]+ing\b)|using) (?!(?:by|and|or)\b)"
)
ENDS_IN_TIME: Final = re.compile(r"\b(?:minutes?|hours?|days?|weeks?|months?|quarters?|years?)$")
ASKED_BY_ADJUNCT: Final = {
    "because": "Why", "so that": "Why", "in order to": "Why", "by": "How", "using": "How", "until": "Until when",
}  # fmt: skip
NOT_BEFORE_ADJUNCT: Final = words(
    "see check determine know ask asks decide verify even as at about or and whether specify long soon just only "
    "merely shortly immediately than commencing based effective conditioned made "
    "binding contingent dependent incumbent except agreed"
)
GOES_ON: Final = re.compile(
    r"(?:Then|Next|Finally|After that|Afterwards|Go|Click|Select|Choose|Press|Enter|Type|Open|Save|Restart|Follow|"
    r"Add)\b"
)
"""A sentence that goes on with what to do."""
INTENTION: Final = re.compile(
    r"\b(?:you (?:want|wish|would|need|like)|possible|necessary|any|so|applicable|appropriate)$|you want|you wish"
)
BEGINS_PHRASE: Final = re.compile(r"(?:an?|the|any|all|each|every|its|their|your|you|both)\b|[A-Z`]|[a-z-]+s\b")

TO_DO: Final = (
    r"(?:required|allowed|expected|entitled|obliged|obligated|permitted|encouraged|intended|authorized|authorised|able|"
    r"free|supposed|designed|advised|asked|forbidden|prohibited from|responsible for)"
)
PARTICIPLE: Final = (
    r"(?:[a-z-]+ed|responsible|subject|liable|eligible|given|made|known|built|held|sent|paid|written|shown|set|due|"
    r"run|kept|chosen|found|hidden)"
)
PASSIVE: Final = re.compile(
    rf"(?P<what>(?:\w+ly )?{PARTICIPLE}) (?P<to>to|by|for|from|with|into|as|in|at|on|of|until|within) (?P<object>.+)"
)
SOURCES: Final = words("borrowed bought collected hired rented obtained ordered returned")
SENT: Final = words("sent given granted shown reported forwarded handed paid lent addressed assigned")
PLACES: Final = re.compile(
    r"(?:located|documented|described|listed|found|stored|kept|published|recorded|installed|saved|shown|posted|hosted|"
    r"displayed|available|archived|deposited)$"
)
IDIOM: Final = re.compile(
    r"(?:accordance|writing|addition|order|case|general|particular|full|force|effect|part|turn|good faith|"
    r"(?:the|any|no) event|connection|respect|advance|place|favou?r|behalf|lieu|whole|time|such|fact|a timely|"
    r"compliance|the same)\b"
)
IDLE: Final = re.compile(r"set forth|time to time|follows\b|described|provided|specified|stated|defined")
OBJECT: Final = re.compile(
    r"(?:(?:an?|the|any|all|each|every|its|their|your|his|both|either|one|two|three|other)\b|[A-Z0-9`$€£]|[a-z]+s\b)"
    r"(?! reason)"
)
LAW: Final = re.compile(
    r"(?P<law>(?:the )?(?:(?:internal|substantive) )?laws? of (?:the )?[A-Z]\w+(?:(?: of| and)?(?: the)? [A-Z]\w+)*)"
)
NEXT_PREDICATE: Final = re.compile(
    r",? and (?:can|cannot|may|must|shall|should|will|is|are|has|have|costs?|needs?|takes?|includes?|covers|"
    r"gives|keeps|gets|starts|ends|opens|closes|lasts|contains|supersedes)\b"
    r"|(?<=\w) because\b|, (?:as|which|so|but|where|although|since|while)\b|: (?!`[^`]+`$)"
)
"""After an answer that names a thing: what else the sentence says of its subject."""
NEXT_CLAUSE: Final = re.compile(
    r"[,;] (?:and|but|so|provided|however|in which case)"
    rf"(?= (?:\S+ ){{1,6}}?(?:{MODAL}|{BE}|has|have|that)\b)|; "
)
SECOND_CLAUSE: Final = re.compile(
    rf"\b(?:and|but|or) (?:(?!to\b|that\b|which\b|who\b)[\w'’-]+ ){{1,4}}(?:{MODAL}|is|are|has|responsible)\b"
    r"|\b(?:this|these|such) [a-z]"
)

DEFINED: Final = re.compile(
    r"(?:(?:The|the) (?:term|word|expression) )?[\"“”]+(?P<term>[^\"“”]{2,60}?)[,.]?[\"“”]+,? "
    r"(?:(?:shall|will) mean|means?|(?:shall |will )?refers? to|is defined as|stands for),? (?P<rest>.+)"
)
ROLE: Final = re.compile(
    r"\((?:the |hereinafter(?: referred to as)?,? (?:the )?|referred to (?:herein )?as (?:the )?)?"
    r"[\"“](?P<role>[A-Z][a-z]+(?: [A-Z][a-z]+)?)[,.]?[\"”]\)"
)
GENERIC_ROLES: Final = words(
    "Agreement Contract Effective Date Term Services Products Product Territory Software Release Notice Committee "
    "Meeting Announcement"
)
_FIRM_END: Final = (
    r"(?:Inc|LLC|L\.L\.C|Ltd|Limited|Corp|Corporation|Company|GmbH|AG|AB|B\.V|N\.V|S\.A|LLP|L\.P|plc|PLC|INC|LTD|CORP|"
    r"Bank)\b\.?"
)
FIRM: Final = re.compile(
    rf"(?P<firm>(?!The Company\b)[A-Z][\w&'’.-]*(?:,? (?:[A-Z&][\w&'’.-]*|of|and|the|de))*?,? {_FIRM_END})"
)

_CALLED: Final = (
    "Agreement|Contract|Lease|Licen[cs]e|Policy|Handbook|Guide|Manual|Plan|Addendum|Amendment|Code|Charter|Procedure|"
    "Standard|Report|Statement|Specification"
)
_CALLED_TOO: Final = f"(?:{_CALLED}|{_CALLED.upper()})"
SELF: Final = re.compile(r"\b[Tt]his (?P<noun>[A-Z][a-z]+)\b")
NAMED_SELF: Final = re.compile(
    r"\b[Tt](?:his|HIS) (?P<name>(?:[A-Z][\w’'&-]+,? (?:and |of |for )?){1,6}?"
    + rf"{_CALLED_TOO}(?: {_CALLED_TOO})*\b)"
)
NAMED_AT_HEAD: Final = re.compile(rf"\b(?P<name>(?:[A-Z][A-Z&-]+ (?:AND |OF |FOR )?){{1,5}}?(?:{_CALLED.upper()})\b)")

_MARKUP: Final = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)(?:\{[^}]*\})?"), ""),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)(?:\{[^}]*\})?"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\[[^\]]*\]"), r"\1"),
    (re.compile(r":(?:[\w.+-]+:)+`~?([^`<]+?)(?: <[^>`]*>)?`"), r"\1"),
    (re.compile(r"(?<!`)`([^`<]+?) <[^>`]*>`__?"), r"\1"),
    (re.compile(r"(?<!`)`([^`]+)`__?(?!\w)"), r"\1"),
    (re.compile(r"``([^`]+)``"), r"`\1`"),
    (re.compile(r"(?<![\w*])([*_])(?=(?:is|are|does|has|contains) )([^*_`]+)(?<=[^\s_])\1(?![\w*])"), r"“\2”"),
    (re.compile(r"\*\*(?=[^\s*])([^*]+?)(?<=[^\s*])\*\*"), r"\1"),
    (re.compile(r"(?<![\w*`/\[])\*(?=[^\s*])([^*`]+?)(?<=[^\s*])\*(?![\w*`/\]])"), r"\1"),
    (re.compile(r"(?<![\w`/.-])(__?)(?=[^\s_])([^_`]+?)(?<=[^\s_])\1(?![\w`/])"), r"\2"),
)
"""Markdown's and reStructuredText's inline markup, with what is read of it. Code keeps one backtick on each side."""
ODD: Final = re.compile(r"_{2,}|-{3,}|\t|\. ?\. ?\.|…|\[[^\]]*\]\(|\b[A-Z]{2,}(?: [A-Z]{2,}){3,}")
PREAMBLE: Final = re.compile(
    r"^(?:(?:Please )?(?:[Nn]ote|[Rr]emember)(?: also| however|, however,)? that|Note:|Additionally,|Furthermore,|"
    r"Moreover,|In addition,|Unfortunately,) (?=\S)"
)
"""Words before a statement that add nothing to it."""
WHERE_TRUE: Final = re.compile(
    rf"(?P<lead>By default|On (?!{MONTH})[A-Z][\w.]*(?:,? (?:and |or )?[A-Z][\w.]*){{0,2}}), (?P<main>.+)"
)
ITEM: Final = re.compile(r"^(?:[#>*•·▪●-]+\s+|\(?[a-z0-9]{1,3}[.)]\s+|\d{1,2}(?:\.\d{1,2})*\.?\s+(?=[A-Z]))+")
CAPTION: Final = re.compile(
    r"^(?:[A-Z][\w&’'/-]*(?: (?:and|of|or|to|the|for|on|in|by|[A-Z][\w&’'/-]*)){0,6}\.|[A-Z][A-Z ]{3,}[.:])\s+(?=[A-Z])"
)
LABEL: Final = re.compile(
    r"[*•·-] +(?:`(?P<code>[^`]+)`:? *(?:[-–—:] +)?|(?P<name>[A-Z][^*:`.]{2,49})(?:: +| +[–—-] +))(?P<text>[A-Z][^:]+)"
)
ASKING: Final = re.compile(
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|do|does|did|can|may|must|should|will)\b", re.I
)
