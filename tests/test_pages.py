"""The pages of docs/ that walk through an example: what they show is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import check_page


@pytest.mark.parametrize("name", ["oops.md", "profile.md"])
def test_page(name: str, tmp_path: Path) -> None:
    check_page(name, tmp_path)
