"""The Python blocks of a page of the documentation, to be run as they stand there.

Blocks of one `##` section share one namespace, as a reader who types them in one after the other would.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def python_blocks(page: Path) -> dict[str, list[tuple[int, str]]]:
    """`{section: [(first line, code), …]}` of the page's Python blocks."""
    text = page.read_text(encoding="utf-8")
    blocks: dict[str, list[tuple[int, str]]] = {}
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        sections = re.findall(r"^## (.+)$", before, re.MULTILINE)
        blocks.setdefault(sections[-1], []).append((before.count("\n") + 2, match.group(1)))
    return blocks


def run_section(page: Path, section: str) -> dict[str, Any]:
    """Run a section's blocks in order and return what they have defined."""
    namespace: dict[str, Any] = {"__name__": f"{page.stem}: {section}"}
    for line, code in python_blocks(page)[section]:
        # The blank lines make a traceback point at the page itself.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
    return namespace
