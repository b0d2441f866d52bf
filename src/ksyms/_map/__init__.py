"""The kernel's address space as a picture: what is shown, and the page that shows it."""

from .page import render
from .survey import Gap, Module, Place, Section, Survey, survey

__all__ = ["Gap", "Module", "Place", "Section", "Survey", "render", "survey"]
