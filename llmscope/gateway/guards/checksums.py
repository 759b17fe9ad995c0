"""What tells the number of a card or an account from any other number.

What does not belong here: finding such numbers in a text (`numbers`, `addresses`).
"""

from __future__ import annotations

import re

# Issuer prefixes with the lengths that they issue (ISO/IEC 7812; the networks' public lists, 2026-11):
# Visa 13, 16, 19; Mastercard 16; American Express 15; Diners Club 14 (36: to 19); Discover, JCB, UnionPay,
# Mir 16 to 19; RuPay, Troy 16; Maestro 13 to 19. Luhn alone lets one in ten arbitrary numbers through,
# with the prefix and its length it is about one in forty.
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}"
    r"|3(?:0[0-59]|[89]\d)\d{11}|36\d{12,17}"
    r"|(?:6011|64[4-9]\d|65\d\d|35(?:2[89]|[3-8]\d)|62\d\d|81\d\d|220[0-4])\d{12,15}"
    r"|(?:508\d|60\d\d|82\d\d|9792)\d{12}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{9,15}"
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

# Length by country (SWIFT IBAN registry, release 99).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    values = [ord(digit) - 48 for digit in digits]
    return (sum(values[-1::-2]) + sum(_DOUBLED[value] for value in values[-2::-2])) % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether `digits` (nothing else) have a prefix and length that an issuer uses, and the check digit."""
    return _ISSUED.fullmatch(digits) is not None and passes_luhn(digits)


def is_iban(characters: str) -> bool:
    """Whether letters and digits (nothing else, in either case) have their country's length and leave 1
    modulo 97 (ISO 13616-1)."""
    upper = characters.upper()
    if len(upper) != IBAN_LENGTHS.get(upper[:2]):
        return False
    # Letters are the numbers 10 to 35, which is what they are to base 36.
    return int("".join(str(int(character, 36)) for character in upper[4:] + upper[:4])) % 97 == 1
