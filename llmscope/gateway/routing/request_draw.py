"""Draws that a request's id determines: the same request falls the same way in every process and replay,
and threads share no random generator.

What does not belong here: what a draw decides (the policies).
"""

from __future__ import annotations

import hashlib

_TWO_TO_64 = 2.0**64


def fractions_of(request_id: str, salt: str) -> tuple[float, float]:
    """Two independent numbers in [0, 1), evenly spread over request ids.

    Args:
        salt: draws with different salts are independent, so that two experiments do not pick the same
            requests.
    """
    text = f"{salt}\x00{request_id}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=16).digest()
    # Of 64 bits the float keeps 53: 2**64 - 1 would round up to 1.0, hence the shift.
    first = (int.from_bytes(digest[:8], "big") >> 11 << 11) / _TWO_TO_64
    second = (int.from_bytes(digest[8:], "big") >> 11 << 11) / _TWO_TO_64
    return first, second


def fraction_of(request_id: str, salt: str) -> float:
    """The first of `fractions_of`."""
    return fractions_of(request_id, salt)[0]
