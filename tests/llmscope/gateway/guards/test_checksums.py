"""Check digits, held against published examples and against errors of one digit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.gateway.guards.checksums import IBAN_LENGTHS, is_card_number, is_iban, passes_luhn

# The networks' and processors' public test numbers.
CARDS = [
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100",
    "2223003122003222", "2223000048410010", "378282246310005", "371449635398431", "30569309025904",
    "38520000023237", "6011111111111117", "6011000990139424", "3530111333300000", "3566002020360505",
    "6205500000000000004", "6759649826438453",
]  # fmt: skip
# The registry's own examples.
IBANS = [
    "GB29NWBK60161331926819", "DE89370400440532013000", "FR1420041010050500013M02606",
    "MT84MALT011000012345MTLCAST001S", "NO9386011117947", "CH9300762011623852957",
    "BR1800360305000010009795493C1", "SC18SSCB11010000000000001497USD", "VG96VPVG0000012345678901",
]  # fmt: skip


@pytest.mark.parametrize("digits", CARDS)
def test_published_card_numbers_are_cards(digits: str) -> None:
    assert is_card_number(digits)


@given(st.sampled_from(CARDS), st.integers(0, 18), st.integers(1, 9))
def test_one_wrong_digit_makes_it_none(digits: str, place: int, by: int) -> None:
    place %= len(digits)
    wrong = digits[:place] + str((int(digits[place]) + by) % 10) + digits[place + 1 :]
    assert not passes_luhn(wrong)
    assert not is_card_number(wrong)


@pytest.mark.parametrize(
    "digits", ["0000000000000000", "1234567812345670", "79927398713", "411111111111111", ""]
)
def test_what_passes_the_check_but_was_never_issued_is_no_card(digits: str) -> None:
    assert not is_card_number(digits)


@pytest.mark.parametrize("iban", IBANS)
def test_the_registrys_examples_are_ibans_in_either_case(iban: str) -> None:
    assert is_iban(iban)
    assert is_iban(iban.lower())
    assert len(iban) == IBAN_LENGTHS[iban[:2]]


@given(st.sampled_from(IBANS), st.integers(2, 30), st.integers(1, 9))
def test_one_wrong_digit_makes_it_no_iban(iban: str, place: int, by: int) -> None:
    place = 2 + place % (len(iban) - 2)
    if iban[place].isdigit():
        assert not is_iban(iban[:place] + str((int(iban[place]) + by) % 10) + iban[place + 1 :])


@pytest.mark.parametrize("iban", ["", "XX00123456789", "DE8937040044053201300", "DE893704004405320130000"])
def test_another_length_or_country_is_no_iban(iban: str) -> None:
    assert not is_iban(iban)
