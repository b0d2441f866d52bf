"""The kernel's address space as a picture: the survey, and the page that shows it."""

from .page import render
from .survey import Module, Section, Survey, survey

__all__ = ["Module", "Section", "Survey", "render", "survey"]
