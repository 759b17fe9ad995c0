"""A headless Chromium for the tests that look at Dagster's UI, and the pictures they keep."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")


def keep(page: Page, name: str, otherwise: Path, *, colours: int = 128) -> None:
    """A picture of the page in few colours, so that it is small: in SCREENSHOT_FOLDER, else in `otherwise`."""
    page.wait_for_timeout(1_500)  # what is drawn settles
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    folder = Path(os.environ.get("SCREENSHOT_FOLDER") or otherwise)
    picture.quantize(colours, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)
