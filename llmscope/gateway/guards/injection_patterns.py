"""What prompts say that try to take a model over, as patterns with weights.

Each gap between words is bounded, so that a search takes time in proportion to the text. What does not
belong here: how a text is made plain first, and what follows from a score (`injection`).
"""

# ruff: noqa: E501  a pattern is easier to read in one piece
from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InjectionPattern:
    """One thing that is said.

    Attributes:
        name: for `found_in`.
        weight: 1 for what says all by itself, less for what is also said in good faith.
        expression: searched in the text made plain.
        triggers: the expression is tried only where one of these stands; none: always.
        by_lines: searched with the text's own line breaks; else in one line with single blanks.
    """

    name: str
    weight: float
    expression: re.Pattern[str]
    triggers: frozenset[str]
    by_lines: bool = False

    def is_in(self, flat: str, lines: str, present: Collection[str]) -> bool:
        """Whether it is said: `flat` in one line, `lines` with its line breaks; `present` holds those of
        the triggers that stand in `flat`."""
        if self.triggers and self.triggers.isdisjoint(present):
            return False
        return self.expression.search(lines if self.by_lines else flat) is not None


_WORDS = r"(?:[\w'-]+,? ){0,%d}"
_VERBS = (
    "ignore", "ignoring", "disregard", "forget", "override", "overrule", "bypass", "discard", "neglect",
    "not follow", "don't follow", "stop following", "no attention to", "not obey", "don't obey",
)  # fmt: skip
_RULES = r"(?:instructions?|directions|directives?|rules?|guidelines?|prompts?|commands?|orders|constraints|restrictions|policies|guardrails|programming|training)"
_BEFORE = r"(?:all|any|every|previous|prior|above|earlier|preceding|foregoing|your|initial|original|existing|current|other|policy|system|safety|developer|these|those)"
_SECRET = (
    r"(?:system (?:prompt|message|instructions?)s?|initial (?:prompt|instructions)|original (?:prompt|instructions)"
    r"|hidden (?:prompt|instructions|rules)|secret (?:prompt|instructions|rules)|pre-?prompt"
    r"|developer (?:prompt|message|instructions)|(?:exact |full |all )instructions you (?:were|have been|got|received)|your (?:exact |full |own |entire )?(?:prompt|instructions)"
    r"(?! (?:for|on|to|about|regarding|how|as))|(?:prompt|instructions) above)"
)


def _said(
    name: str, weight: float, expression: str, *triggers: str, by_lines: bool = False
) -> InjectionPattern:
    flags = re.MULTILINE if by_lines else 0
    return InjectionPattern(name, weight, re.compile(expression, flags), frozenset(triggers), by_lines)


PATTERNS = (
    _said(
        "override",
        1.0,
        rf"\b(?:{'|'.join(_VERBS)}) {_WORDS % 3}{_BEFORE} {_WORDS % 4}{_RULES}\b"
        rf"|\b(?:{'|'.join(_VERBS)}) (?:the |your |any )?(?:system|developer) (?:message|prompt)\b"
        rf"|\b(?:{'|'.join(_VERBS)}) (?:everything|anything|all|whatever|what) {_WORDS % 4}"
        r"(?:above|before|told|previously|earlier|prior to this)\b"
        rf"|\b(?:{'|'.join(_VERBS)}) (?:all of )?the above(?: and|,| but)? (?:instead )?"
        r"(?:tell|say|output|print|write|respond|reply|answer|give|show|do)\b",
        "ignor", "disregard", "forget", "overr", "bypass", "discard", "neglect", "follow", "attention to", "obey",
    ),
    _said(
        "mode",
        1.0,
        r"\b(?:enter|enable|activate|switch to|turn on|you are (?:now )?in|go into) (?:the )?"
        r"(?:developer|dan|god|debug|jailbreak|jailbroken|unrestricted|admin|root|sudo|maintenance) mode\b"
        r"|\b(?:developer|dan|god|jailbreak|unrestricted) mode (?:is )?(?:enabled|on|activated|active)\b",
        " mode",
    ),
    _said("do_anything_now", 1.0, r"\bdo anything now\b", "do anything now"),
    _said(
        "unbound_persona",
        1.0,
        rf"\b(?:you are|act as|pretend (?:to be|you are|that you are)|play|become|simulate|roleplay as) {_WORDS % 5}"
        r"(?:dan|unrestricted|uncensored|unfiltered|jailbroken|amoral|evil|without (?:any )?"
        r"(?:restrictions|limits|limitations|rules|filters?|ethics|morals|guardrails|censorship))\b",
        "you are", "act as", "pretend", "play", "become", "simulate",
    ),
    _said(
        "unbound",
        1.0,
        rf"\byou (?:have|are bound by|are subject to|obey|follow|know) no {_WORDS % 2}"
        r"(?:rules|restrictions|limits|limitations|guidelines|filters?|ethics|policies|content policy|boundaries)\b"
        rf"|\b(?:ai|model|assistant|bot|chatbot|persona|character) (?:that|who|which) (?:has|knows|obeys|follows) no {_WORDS % 2}"
        r"(?:rules|restrictions|limits|limitations|guidelines|filters?|ethics|policies|content policy|boundaries)\b"
        r"|\b(?:bypass|disable|turn off|remove|circumvent|evade|deactivate|switch off) "
        r"(?:all |any |your |the |its |every |these |of |openai'?s? ){0,3}"
        r"(?:safety|content|ethical|moral|moderation|security|ethics)[ -](?:\w+ )?"
        r"(?:filters?|restrictions|guardrails|safeguards|guidelines|measures|checks|protocols|policies|policy|limits|layer)\b"
        r"|\b(?:bypass|disable|circumvent|evade|deactivate) (?:all |any |your |the |its |every ){0,2}(?:moderation|guardrails)\b",
        " have no", "bound by no", "subject to no", "obey no", "follow no", "know no", " has no", "obeys no", "follows no",
        "bypass", "disable", "turn off", "remove", "circumvent", "evade", "deactivate", "switch off",
    ),
    _said(
        "reveal",
        1.0,
        r"\b(?:reveal|show|print|output|display|repeat|recite|expose|disclose|leak|tell me|give me|share|"
        rf"write (?:out|down)|return|dump|summari[sz]e|translate|copy|paste|send me|post|list) {_WORDS % 5}{_SECRET}"
        r"|\b(?:repeat|print|output|recite|dump|copy) (?:back )?(?:all )?(?:of )?(?:the )?(?:text|words|everything|sentences?)"
        r" (?:above|before this)\b",
        "prompt", "message", "instructions", "rules", " above", "before this",
    ),
    _said(
        "ask_for_prompt",
        1.0,
        r"\bwhat (?:is|are|was|were|does|do|did) (?:in )?(?:your|the) (?:system|initial|original|hidden|secret|exact|"
        r"full|developer|first|underlying) (?:system )?(?:prompts?|instructions?|messages?|rules|directives)\b"
        r"|\bwhat (?:were you told|instructions (?:were you|have you been) given|is your prompt|does your prompt say)\b",
        "prompt", "instruction", "what were you told", "message", "rules", "directives",
    ),
    _said("control_token", 1.0, r"<\|[a-z_]{2,24}\|>|\[/?inst\]|<</?sys>>", "<|", "[inst]", "[/inst]", "<<"),
    _said(
        "fake_end",
        1.0,
        r"\b(?:begin|start|end) (?:of )?(?:the )?(?:system|new|real|actual|admin) (?:prompt|instructions?|message)\b",
        "prompt", "instruction", "message",
    ),
    _said(
        "conceal",
        0.6,
        r"\b(?:not|don't|never|without) (?:tell(?:ing)?|inform(?:ing)?|mention(?:ing)?|reveal(?:ing)?|notify(?:ing)?|"
        rf"alert(?:ing)?|let(?:ting)?) {_WORDS % 3}(?:to )?(?:the )?(?:user|human|reader|operator)\b",
        "user", "human", "reader", "operator",
    ),
    _said(
        "send_secrets",
        0.8,
        rf"\b(?:send|forward|email|post|exfiltrate|upload|leak|append|transmit) {_WORDS % 6}"
        r"(?:api[ -]?keys?|passwords?|credentials|chat history|conversation(?: history)?|secrets?|access tokens?)\b",
        "api", "password", "credential", "history", "conversation", "secret", "access token",
    ),
    _said(
        "new_persona",
        0.5,
        r"\b(?:you are now (?:an?|the|my|called|going to|no longer|free)|from now on,? (?:you|your|always|only|never|answer|"
        r"respond|act|ignore)|pretend (?:to be|you|that you)|act as (?:if|though|an? \w+ (?:who|that|with(?:out)?)))\b",
        "you are now", "from now on", "pretend", "act as",
    ),
    _said(
        "no_limits",
        0.5,
        rf"\b(?:(?:no longer|not) (?:bound|restricted|limited|constrained) by|no longer (?:subject|required|an assistant)|without {_WORDS % 2}(?:restrictions|"
        r"filters?|censorship|limitations|guardrails|warnings|disclaimers|refusing|refusal)|no (?:ethical|moral|content|"
        r"safety) (?:guidelines|limits|restrictions|filters?|considerations)|hypothetical(?:ly)? .{0,40}(?:no rules|"
        r"not bound)|jailbreak\w*|unfiltered|uncensored)\b",
        "no longer", "bound by", "constrained by", "limited by", "restriction", "filter", "censor", "limit", "guardrail", "warning", "disclaimer", "refus",
        "guideline", "considerations", "hypothetical", "jailbreak",
    ),
    _said(
        "new_instructions",
        0.6,
        r"\b(?:new|updated|real|actual|revised|important) (?:system |admin )?(?:instructions?|task|directive|objective|goal)"
        r" ?:|\byour (?:new|real|actual|only) (?:task|goal|objective|purpose|instructions?|role) (?:is|are)\b",
        "instruction", "task", "directive", "objective", "goal", "purpose", "role",
    ),
    _said(
        "fake_turn",
        0.5,
        r"^[^\S\n]{0,8}(?:#{1,6} ?|\*\*|\[|<)?(?:system|assistant|developer|admin)(?: (?:prompt|message|override|note|"
        r"instructions?))?(?:\*\*|\]|>)? ?:",
        "system", "assistant", "developer", "admin",
        by_lines=True,
    ),
    _said(
        "fake_tag",
        0.6,
        r"</?(?:system|assistant|developer|instructions?|prompt|context|user_input|document)(?:[_-]\w+)?>",
        "</", "<system", "<assistant", "<developer", "<instruction", "<prompt",
    ),
    _said(
        "override_in_other_words",
        1.0,
        rf"\b(?:ignorier\w*|vergiss|missachte\w*) {_WORDS % 4}(?:anweisung\w*|instruktion\w*|regeln|vorgaben|befehle)\b"
        rf"|\b(?:ignore[zr]?|oublie[zr]?) {_WORDS % 3}(?:instructions|consignes|regles|directives) (?:precedentes?|"
        r"ci-dessus|anterieures)\b"
        rf"|\b(?:ignora|ignore|olvida|olvide) {_WORDS % 3}(?:instrucciones|reglas|ordenes|indicaciones)\b"
        rf"|\b(?:ignora|dimentica) {_WORDS % 3}(?:istruzioni|regole)\b"
        rf"|\b(?:ignore|esqueca) {_WORDS % 3}(?:instrucoes|regras)\b",
        "ignorier", "vergiss", "missacht", "ignore", "oublie", "ignora", "olvid", "dimentica", "esqueca",
    ),
)  # fmt: skip
