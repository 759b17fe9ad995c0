"""What makes two calls the same: the key of an answer.

A key is a hash, so that it can be written down, sent and logged without telling the prompt. (Whoever can
guess a prompt can check the guess: it is no secret.) What does not belong here: where answers are kept.
"""

from __future__ import annotations

import hashlib
import json

from llmscope.gateway.stages import CacheQuery

KEY_ALGORITHM = "sha256"
# Changes when the meaning of a key does, so that answers kept under an older meaning are not found.
_VERSION = 1


def answer_key(query: CacheQuery, *, share_between_tenants: bool = False) -> str:
    """SHA-256, in hexadecimal, of the model, the prompt, the parameters and (unless shared) the tenant.

    The parts are hashed as one JSON array, which no two different calls have in common: a character that
    moves from one part to the next changes it. Parameters count in any order; numbers that are equal are
    the same (0 and 0.0).
    """
    return _hash(query, query.prompt, share_between_tenants=share_between_tenants)


def neighbourhood_key(query: CacheQuery, *, share_between_tenants: bool = False) -> str:
    """The same without the prompt: calls whose prompts may be compared by meaning."""
    return _hash(query, None, share_between_tenants=share_between_tenants)


def _hash(query: CacheQuery, prompt: str | None, *, share_between_tenants: bool) -> str:
    parameters = [
        (name, int(value) if isinstance(value, float) and value.is_integer() else value)
        for name, value in sorted(query.parameters, key=lambda pair: pair[0])
    ]
    tenant = None if share_between_tenants else query.tenant_id
    # ASCII only, which also takes text that UTF-8 does not (half of a surrogate pair).
    parts = json.dumps([_VERSION, query.model, prompt, parameters, tenant], separators=(",", ":"))
    return hashlib.sha256(parts.encode("ascii")).hexdigest()
