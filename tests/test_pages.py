"""The pages of docs/ that walk through an example: what they show is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import FIXTURES
from kernel_images import android, bzimage, image_of
from pages import check_page


@pytest.mark.parametrize("name", ["oops.md", "profile.md"])
def test_page(name: str, tmp_path: Path) -> None:
    check_page(name, tmp_path)


def test_images(tmp_path: Path) -> None:
    """Of images of the kernels of two saved machines; with all of their symbols."""
    old = image_of(FIXTURES / "6.1.0-56-amd64-few.tar.gz")
    new = image_of(FIXTURES / "6.12.117+deb12-amd64-few.tar.gz")
    (tmp_path / "vmlinuz-6.1.0-56").write_bytes(bzimage(old))
    (tmp_path / "vmlinuz-6.12.117").write_bytes(bzimage(new))
    (tmp_path / "boot.img").write_bytes(android(new))
    check_page("images.md", tmp_path)
