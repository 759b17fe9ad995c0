"""Labelled texts to measure the guards by: mails, chats, logs, tables and code, with personal data in them and
with much that only looks like it.

`python -m benchmarks.guard_texts` writes `fixtures/guards/pii.jsonl` again, the same for the same seed. Nothing
here is shared with the guards: numbers are made by their issuers' rules, check digits by long-hand
arithmetic, phone numbers by what people of each country write. Names and numbers are invented.

In a text personal data is marked as ⟦kind:value⟧. `fixtures/guards/pii_hard.jsonl` and `injection.jsonl` were
written by hand in the same form. What does not belong here: measuring (`guards`).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

GENERATED = Path(__file__).parents[1] / "fixtures" / "guards" / "pii.jsonl"
SEED = 20261121
TEXTS = 420

_MARK = re.compile(r"⟦(\w+):([^⟧]*)⟧")


@dataclass(frozen=True, slots=True)
class Label:
    """Personal data of `kind` at `text[begin:end]`."""

    kind: str
    begin: int
    end: int


def unmarked(marked: str) -> tuple[str, list[Label]]:
    """A marked text without its marks, and what they said."""
    pieces: list[str] = []
    labels: list[Label] = []
    length = end = 0
    for mark in _MARK.finditer(marked):
        before = marked[end : mark.start()]
        begin = length + len(before)
        labels.append(Label(mark[1], begin, begin + len(mark[2])))
        pieces += (before, mark[2])
        length, end = begin + len(mark[2]), mark.end()
    return "".join(pieces) + marked[end:], labels


class Maker:
    """Draws values and texts."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def of(self, *choices: str) -> str:
        return self.draw.choice(choices)

    def digits(self, count: int, first: str = "0123456789") -> str:
        return self.draw.choice(first) + "".join(self.draw.choice("0123456789") for _ in range(count - 1))

    def shaped(self, shape: str) -> str:
        """`shape` with a digit for each #, one of 1 to 9 for each %, a letter for each &."""
        drawn = {"#": "0123456789", "%": "123456789", "&": "ABCDEFGHJKLMNPRSTUVWXYZ"}
        return "".join(self.draw.choice(drawn[sign]) if sign in drawn else sign for sign in shape)

    def name(self) -> tuple[str, str]:
        return (
            self.of("Mira", "Jonas", "Adaeze", "Luís", "Wei", "Priya", "Tom", "Sinéad", "Omar", "Katarzyna"),
            self.of(
                "Okafor", "Lindqvist", "O'Hara", "Brandt", "Nakamura", "Silva", "Novak", "Haddad", "Smith"
            ),
        )

    def email(self) -> str:
        first, last = (part.lower().replace("'", "") for part in self.name())
        local = self.of(
            f"{first}.{last}",
            f"{first[0]}{last}",
            f"{first}_{last}",
            f"{last}{self.digits(2)}",
            f"{first}+{self.of('shop', 'news')}",
            f"{first}-{last}",
            self.of("info", "billing", "no-reply", "kontakt"),
            f"{first}.{last[0]}.{last}",
        )
        host = self.of(
            "gmail.com",
            "outlook.com",
            "web.de",
            "acme-widgets.co.uk",
            "mail.uni-bonn.de",
            "proton.me",
            "example.org",
            "corp.internal.net",
            "free.fr",
            "yahoo.co.jp",
            "startup.io",
            "xn--mller-kva.de",
            "stadt.wien",
            "dept.example.museum",
        )
        address = f"{local}@{host}"
        return self.of(address, address, address, address.upper(), address.title())

    def phone(self) -> str:
        return self.shaped(
            self.of(
                # United States and Canada
                "+1 4%# 5%#-####", "(3%#) 5%#-####", "2%#-4%#-####", "6%#.2%#.####", "1-8%#-3%#-####", "+17%#3%#####",
                # United Kingdom, Ireland
                "020 7### ####", "+44 20 3### ####", "07%## ######", "+44 (0)161 4## ####", "0161 ### ####", "+353 86 ### ####",
                # Germany, Austria, Switzerland
                "030 %#######", "+49 151 ########", "0171/#######", "(089) ######", "+49 (0)40 ###-###", "0664 %######", "+43 1 #######", "044 ### ## ##", "+41 79 ### ## ##",
                # France, Belgium, Netherlands
                "06 ## ## ## ##", "01.##.##.##.##", "+33 6 ## ## ## ##", "0032 2 ### ## ##", "020-#######", "06-########", "+31 6 ########",
                # Spain, Italy, Portugal, Poland, Sweden
                "+34 6## ## ## ##", "+39 02 #### ####", "02 #### ####", "+351 91# ### ###", "+48 5## ### ###", "08-### ## ##", "+46 70 ### ## ##",
                # India, Japan, Australia, Brazil, China, Nigeria
                "+91 9#### #####", "8#### #####", "03-3###-####", "+81 90-####-####", "0412 ### ###", "(02) 9### ####", "+61 4## ### ###",
                "(11) 9####-####", "+55 21 9####-####", "138 #### ####", "+86 139 #### ####", "+234 803 ### ####",
            )
        )  # fmt: skip

    def phone_without_form(self) -> str:
        """A number that only its context tells."""
        return self.shaped(
            self.of("6## ## ## ##", "%##%##%###", "91# ### ###", "5##-###-###", "%#######", "7##.###.###")
        )

    def ssn(self) -> str:
        area = self.draw.choice([*range(1, 666), *range(667, 900)])
        return f"{area:03d}-{self.draw.randint(1, 99):02d}-{self.draw.randint(1, 9999):04d}"

    def card(self, *, is_valid: bool = True) -> str:
        prefix, length = self.draw.choice(
            [("4", 16), ("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("6011", 16),
             ("65", 16), ("36", 14), ("3530", 16), ("62", 16), ("62", 19), ("4", 13), ("6759", 16), ("5018", 18)]
        )  # fmt: skip
        body = prefix + self.digits(length - len(prefix) - 1)
        digits = body + check_digit(body)
        if not is_valid:
            digits = body + str((int(digits[-1]) + self.draw.randint(1, 9)) % 10)
        separator = self.of("", "", " ", " ", "-")
        if not separator or length not in {13, 14, 15, 16, 19}:
            return digits
        groups = {14: (4, 6, 4), 15: (4, 6, 5)}.get(length) or (4,) * (length // 4) + (
            (length % 4,) if length % 4 else ()
        )
        return separator.join(_in_groups(digits, groups))

    def iban(self, *, is_valid: bool = True) -> str:
        country, account = self.draw.choice(
            [("DE", "##################"), ("GB", "&&&&##############"), ("FR", "####################&##"), ("ES", "####################"),
             ("NL", "&&&&##########"), ("CH", "#################"), ("AT", "################"), ("BE", "############"),
             ("IT", "&######################"), ("PL", "########################"), ("SE", "####################"),
             ("NO", "###########"), ("PT", "#####################"), ("IE", "&&&&##############"), ("MT", "&&&&#####&&&&&&&&&&&&&&&&&&"),
             ("AE", "###################"), ("TR", "######################")]
        )  # fmt: skip
        bban = self.shaped(account)
        checks = iban_check_digits(country, bban)
        if not is_valid:
            checks = f"{(int(checks) + self.draw.randint(1, 90)) % 97 + 2:02d}" if checks != "50" else "51"
        whole = country + checks + bban
        groups = tuple(min(4, len(whole) - at) for at in range(0, len(whole), 4))
        return self.of(whole, " ".join(_in_groups(whole, groups)), " ".join(_in_groups(whole, groups)))

    def harmless(self) -> str:
        """One thing full of digits or signs that is nobody's."""
        draw = self.draw
        year, month, day = draw.randint(2019, 2027), draw.randint(1, 12), draw.randint(1, 28)
        hour, minute, second = draw.randint(0, 23), draw.randint(0, 59), draw.randint(0, 59)
        return draw.choice(
            [
                f"{year}-{month:02d}-{day:02d} {hour:02d}:{minute:02d}:{second:02d}.{draw.randint(0, 999999):06d}",
                f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}+00:00",
                f"{day:02d}.{month:02d}.{year} {hour:02d}:{minute:02d}",
                f"{month}/{day}/{year} {hour % 12 + 1}:{minute:02d} PM",
                f"{day:02d}/{month:02d}/{year}",
                str(1_600_000_000 + draw.randint(0, 200_000_000)),
                str(1_600_000_000_000 + draw.randint(0, 200_000_000_000)),
                "-".join(f"{draw.getrandbits(4 * size):0{size}x}" for size in (8, 4, 4, 4, 12)),
                f"{draw.getrandbits(160):040x}",
                f"{draw.getrandbits(128):032x}",
                self.shaped("ORD-########"), self.shaped("#%%####-##"), self.shaped("INV-2026-00####"), self.shaped("PO 45########"),
                self.shaped("1Z&##&&#%########"), self.shaped("00340434%###########"), self.shaped("%#########"), self.shaped("TKT%#####"),
                self.shaped("978-3-%##-#####-#"), self.shaped("10.%###/j.jss.2021.#####"),
                f"{draw.randint(1, 223)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}",
                f"{draw.randint(1, 223)}.{draw.randint(0, 255)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}:{draw.randint(1024, 65535)}",
                ":".join(f"{draw.randint(0, 255):02x}" for _ in range(6)),
                f"v{draw.randint(0, 9)}.{draw.randint(0, 40)}.{draw.randint(0, 20)}", self.shaped("0.0.#%-rc.%"),
                f"${draw.randint(1, 9)},{draw.randint(0, 999):03d},{draw.randint(0, 999):03d}.{draw.randint(0, 99):02d}",
                f"{draw.randint(1, 999)}.{draw.randint(0, 999):03d},{draw.randint(0, 99):02d} €",
                f"{draw.randint(10, 99)} {draw.randint(100, 999)} {draw.randint(100, 999)} units",
                f"{draw.uniform(-90, 90):.6f}, {draw.uniform(-180, 180):.6f}", f"{draw.random():.16f}", f"{draw.gauss(0, 100):.4e}",
                f"pages {draw.randint(100, 400)}-{draw.randint(401, 900)}", f"{draw.randint(1, 40)} ({year}) {draw.randint(1000, 1999)}-{draw.randint(2000, 2999)}",
                f"{draw.randint(1000, 9999)}x{draw.randint(1000, 9999)}", f"{draw.randint(8, 19)}:00-{draw.randint(20, 23)}:30",
                f"@{self.of('mira', 'ops_team', 'release-bot')}", f"lodash@4.17.{draw.randint(1, 30)}", f"logo@{draw.randint(2, 3)}x.png",
                "@app.route('/v1/items')", "git@v2", f"root@{self.of('web', 'db')}-{draw.randint(1, 9)}:~#", f"user_{draw.randint(10**7, 10**9)}",
                f"#{draw.randint(100000, 999999)}", f"{draw.randint(100, 999)}-{draw.randint(1000, 9999)}", f"room {draw.randint(1, 30)}-{draw.randint(100, 999)}",
                f"{draw.randint(100, 999)} {draw.randint(10, 99)} Malmö", f"SW{draw.randint(1, 19)}A {draw.randint(1, 9)}AA",
                f"DE{self.digits(9, '123456789')}", f"{self.of('LH', 'BA', 'UA')}{draw.randint(100, 4999)}", f"{draw.randint(1, 99)}/{draw.randint(100, 200)}",
                f"{draw.randint(1000, 9999)} {draw.randint(1000, 9999)} {draw.randint(100, 999)}", f"sha256:{draw.getrandbits(256):064x}",
            ]
        )  # fmt: skip

    def near_miss(self) -> str:
        """A card or an account whose check digits are wrong, or a number that was never given out."""
        return self.draw.choice(
            [
                self.card(is_valid=False),
                self.iban(is_valid=False),
                self.shaped("000-##-####"),
                self.shaped("9##-##-####"),
                self.shaped("%##-00-####").replace("666", "665"),
            ]
        )

    def marked(self, kind: str) -> str:
        make: dict[str, Callable[[], str]] = {
            "email": self.email, "phone": self.phone, "ssn": self.ssn, "card": self.card, "iban": self.iban,
        }  # fmt: skip
        return f"⟦{kind}:{make[kind]()}⟧"

    def text(self) -> tuple[str, str]:
        """A kind of text, and one of that kind, marked."""
        kinds: list[Callable[[], str]] = [
            self._mail, self._mail, self._chat, self._ticket, self._payment, self._log, self._log, self._json, self._csv,
            self._code, self._table, self._report, self._near_misses, self._contact_without_form,
        ]  # fmt: skip
        kind = self.draw.choice(kinds)
        return kind.__name__.strip("_"), kind()

    def _mail(self) -> str:
        first, last = self.name()
        body = self.of(
            f"I ordered on {self.harmless()} under {self.harmless()} and nothing came. You find me at {self.marked('phone')} in the evening, or write to {self.marked('email')}.",
            f"the parcel {self.harmless()} went to the wrong address. Please confirm to {self.marked('email')}.",
            f"could you move our appointment of {self.harmless()}? My assistant's line is {self.marked('phone')}.",
            f"the invoice {self.harmless()} over {self.harmless()} was debited twice from {self.marked('iban')}.",
            f"thank you for {self.harmless()}. We received {self.harmless()} and will answer by {self.harmless()}.",
        )
        closing = self.of(
            "", f"\n{self.marked('email')} | {self.marked('phone')}", f"\n{last} & Co, {self.harmless()}"
        )
        return f"{self.of('Hello', 'Dear team', 'Hi')},\n\n{body}\n\n{self.of('Best', 'Regards', 'Cheers')}, {first} {last}{closing}"

    def _chat(self) -> str:
        lines = [
            self.of("are you there?", f"build {self.harmless()} is red again", f"see {self.harmless()}", "lunch at 12?"),
            self.of(f"sure, ping {self.marked('email')}", f"her number: {self.marked('phone')}", f"it's {self.harmless()} I think", f"my new number is {self.marked('phone')} btw"),
            self.of("ok", f"and {self.harmless()}?", f"send it to {self.marked('email')}, not {self.marked('email')}"),
        ]  # fmt: skip
        return "\n".join(
            f"[{self.draw.randint(8, 18)}:{self.draw.randint(10, 59)}] {self.of('ana', 'kp', 'joe')}: {line}"
            for line in lines
        )

    def _ticket(self) -> str:
        return self.of(
            f"Customer {self.harmless()} asks to erase her data. Verified by SSN {self.marked('ssn')} and e-mail {self.marked('email')}. Case {self.harmless()}.",
            f"Caller from {self.marked('phone')} says that the meter {self.harmless()} shows {self.harmless()}. Callback tomorrow.",
            f"Employee record: born {self.harmless()}, social security number {self.marked('ssn')}, badge {self.harmless()}, extension {self.draw.randint(100, 999)}.",
            f"Escalated from {self.harmless()} to {self.harmless()}; SLA {self.harmless()}; no personal data needed.",
            f"Applicant's tax form lists {self.marked('ssn')}; second applicant {self.marked('ssn')}.",
        )

    def _payment(self) -> str:
        return self.of(
            f"Please charge {self.marked('card')}, valid thru {self.draw.randint(1, 12):02d}/{self.draw.randint(26, 31)}, CVC {self.digits(3)}, amount {self.harmless()}.",
            f"Refund to {self.marked('iban')} (BIC DEUTDEFF), reference {self.harmless()}.",
            f"Wire transfer: beneficiary {self.name()[1]} Ltd, IBAN: {self.marked('iban')}, purpose {self.harmless()}, due {self.harmless()}.",
            f"Card on file ends in {self.digits(4)}; the full number {self.marked('card')} was read out by phone.",
            f"My old card was {self.marked('card')} and the new one is {self.marked('card')}.",
        )

    def _log(self) -> str:
        level = self.of("INFO", "WARN", "ERROR", "DEBUG")
        lines = []
        for _ in range(self.draw.randint(2, 6)):
            stamp = f"2026-{self.draw.randint(1, 12):02d}-{self.draw.randint(1, 28):02d} {self.draw.randint(0, 23):02d}:{self.draw.randint(0, 59):02d}:{self.draw.randint(0, 59):02d},{self.draw.randint(0, 999):03d}"
            rest = self.of(
                f"req={self.harmless()} took {self.draw.randint(1, 9000)} ms status={self.draw.choice([200, 404, 503])} bytes={self.draw.randint(100, 10**9)}",
                f"user_id={self.draw.randint(1, 10**9)} session={self.harmless()} ip={self.draw.randint(1, 223)}.{self.draw.randint(0, 255)}.0.{self.draw.randint(1, 254)}",
                f"login failed for {self.marked('email')} from {self.harmless()}",
                f"sms gateway accepted to={self.marked('phone')} id={self.harmless()}",
                f"GET /v2/orders/{self.draw.randint(10**8, 10**12)}?page={self.draw.randint(1, 90)} {self.harmless()}",
                f"gc pause {self.draw.random():.12f}s heap {self.draw.randint(10**6, 10**10)}/{self.draw.randint(10**10, 10**11)}",
            )  # fmt: skip
            lines.append(f"{stamp} {level} [{self.of('pool-1-thread-7', 'worker/3', 'main')}] {rest}")
        return "\n".join(lines)

    def _json(self) -> str:
        fields = {
            "id": self.harmless(),
            "created": self.draw.randint(1_600_000_000, 1_800_000_000),
            "total": round(self.draw.uniform(1, 9999), 2),
            "vector": [round(self.draw.gauss(0, 0.1), 16) for _ in range(4)],
            "tracking": self.harmless(),
        }
        for kind in self.draw.sample(["email", "phone", "iban", "card"], self.draw.randint(0, 2)):
            fields[self.of("contact", "value", "payer", "recipient") + kind[0]] = self.marked(kind)
        return json.dumps(fields, ensure_ascii=False, indent=self.draw.choice([None, 2]))

    def _csv(self) -> str:
        separator = self.of(",", ";", "\t")
        rows = [separator.join(["id", "day", "sum", "contact", "note"])]
        for number in range(self.draw.randint(2, 5)):
            contact = self.of(self.marked("email"), self.marked("phone"), "", self.marked("card"))
            rows.append(separator.join([str(self.draw.randint(10**5, 10**7)), f"2026-03-{number + 10}", f"{self.draw.uniform(1, 999):.2f}", contact, self.of("ok", "late", "n/a")]))  # fmt: skip
        return "\n".join(rows)

    def _code(self) -> str:
        return self.of(
            f"def area(r):\n    # {self.harmless()}\n    return 3.141592653589793 * r ** 2  # see issue {self.harmless()}",
            f"const SUPPORT = '{self.marked('email')}';\nconst BUILD = '{self.harmless()}';\nexport const id = {self.draw.randint(10**14, 10**16 - 1)}n;",
            f"curl -H 'X-Request-Id: {self.harmless()}' https://api.example.org/v1/users/{self.draw.randint(10**9, 10**10)}/export",
            f"SELECT * FROM orders WHERE id IN ({self.draw.randint(10**6, 10**8)}, {self.draw.randint(10**6, 10**8)}) AND day >= '{self.draw.randint(2019, 2026)}-01-01';",
            f"pip install requests==2.{self.draw.randint(1, 40)}.{self.draw.randint(0, 9)} && git checkout {self.draw.getrandbits(160):040x}",
            f"assert parse('{self.harmless()}') == {self.draw.randint(1000, 10**9)}\n@pytest.mark.parametrize('n', [1, 22, 333, 4444, 55555, 666666])",
        )

    def _table(self) -> str:
        rows = "\n".join(f"| {self.of('north', 'south', 'east')} | {self.draw.randint(10**3, 10**7)} | {self.draw.uniform(0, 100):.3f} | {self.harmless()} |" for _ in range(4))  # fmt: skip
        return f"| region | units | share | note |\n|---|---|---|---|\n{rows}"

    def _report(self) -> str:
        return " ".join(
            self.of(
                f"Revenue grew from {self.harmless()} to {self.harmless()} between {self.harmless()} and {self.harmless()}.",
                f"The sample ({self.harmless()}) had n = {self.draw.randint(100, 99999)} and p = {self.draw.random():.4f}.",
                f"Readings: {' '.join(str(self.draw.randint(100, 9999)) for _ in range(self.draw.randint(3, 8)))}.",
                f"Serial {self.harmless()}, firmware {self.harmless()}, last seen {self.harmless()}.",
            )
            for _ in range(3)
        )

    def _near_misses(self) -> str:
        return self.of(
            f"The test card {self.near_miss()} is refused, as it should be.",
            f"Reference {self.near_miss()} could not be found in {self.harmless()}.",
            f"Typed {self.near_miss()}, then {self.near_miss()}; neither exists.",
            f"key={self.near_miss()};{self.harmless()}",
        )

    def _contact_without_form(self) -> str:
        return self.of(
            f"Call me: ⟦phone:{self.phone_without_form()}⟧.", f"Tel. ⟦phone:{self.phone_without_form()}⟧", f"mobile ⟦phone:{self.phone_without_form()}⟧ (after {self.draw.randint(14, 19)}h)",
            f"Whatsapp only, ⟦phone:{self.phone_without_form()}⟧", f"you can ring ⟦phone:{self.phone_without_form()}⟧, ask for {self.name()[0]}", f"phone number is ⟦phone:{self.phone_without_form()}⟧",
            f"her ssn: ⟦ssn:{self.ssn().replace('-', self.of(' ', ''))}⟧",
        )  # fmt: skip


def check_digit(digits: str) -> str:
    """The digit that makes the sum of ISO/IEC 7812 a multiple of ten, found by trying."""
    for candidate in "0123456789":
        total = 0
        for place, digit in enumerate(reversed(digits + candidate)):
            value = int(digit)
            if place % 2 == 1:
                value *= 2
                if value > 9:
                    value -= 9
            total += value
        if total % 10 == 0:
            return candidate
    raise AssertionError("one of ten digits always fits")


def iban_check_digits(country: str, account: str) -> str:
    """The two digits that leave 1 modulo 97 (ISO 13616), by long division."""
    remainder = 0
    for character in account + country + "00":
        value = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(character)
        remainder = (remainder * (100 if value > 9 else 10) + value) % 97
    return f"{98 - remainder:02d}"


def _in_groups(digits: str, sizes: tuple[int, ...]) -> list[str]:
    ends = list(accumulate(sizes, initial=0))
    return [digits[begin:end] for begin, end in pairwise(ends)]


def generated_lines() -> str:
    """The whole file."""
    maker = Maker(SEED)
    lines = []
    for _ in range(TEXTS):
        kind, marked = maker.text()
        lines.append(json.dumps({"source": kind, "marked": marked}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    GENERATED.parent.mkdir(parents=True, exist_ok=True)
    GENERATED.write_text(generated_lines(), encoding="utf-8")
