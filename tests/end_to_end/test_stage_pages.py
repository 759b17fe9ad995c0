"""`docs/guards.md` and `docs/cache.md`: their code as a reader would run it, their sections of a
`runtime.yaml` as the runtime reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from llmscope.gateway.runtime_sections import StagesSection
from tests.end_to_end.documented_code import DOCS, run_section


@pytest.mark.parametrize("page", ["guards.md", "cache.md"])
def test_the_code_of_the_page_runs_as_it_stands(page: str) -> None:
    run_section(DOCS / page, "By hand")


@pytest.mark.parametrize("page", ["guards.md", "cache.md"])
def test_the_yaml_of_the_page_is_what_a_route_may_say(page: str) -> None:
    (block,) = re.findall(
        r"^```yaml\n(.*?)^```$", Path(DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    section = StagesSection.model_validate(yaml.safe_load(block))
    assert (section.guards is not None) != (section.cache is not None)
