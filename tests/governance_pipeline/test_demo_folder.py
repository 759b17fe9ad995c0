"""The demo replaces its own folder and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from governance_pipeline.demo.errors import ForeignFolderError
from governance_pipeline.demo.folder import fresh_folder


def test_an_earlier_demo_is_replaced_whole(tmp_path: Path) -> None:
    files = fresh_folder(tmp_path / "demo")
    files.telemetry.write_text("old\n", encoding="utf-8")
    again = fresh_folder(tmp_path / "demo")
    assert again == files
    assert not again.telemetry.exists()
    assert again.telemetry.parent.is_dir()


def test_a_folder_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="left alone"):
        fresh_folder(home)
    assert (home / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_a_link_or_a_file_is_left_alone(tmp_path: Path) -> None:
    target = fresh_folder(tmp_path / "target").home
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for name in ("link", "file"):
        with pytest.raises(ForeignFolderError):
            fresh_folder(tmp_path / name)
    assert any(target.iterdir())


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    assert fresh_folder(tmp_path / "demo").telemetry.parent.is_dir()
