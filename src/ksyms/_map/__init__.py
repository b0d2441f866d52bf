"""The kernel's address space as a picture: what is shown, and the page that shows it."""

from .page import render
from .survey import Module, Section, Survey, survey

__all__ = ["Module", "Section", "Survey", "render", "survey"]
