"""The kernel's address space as a picture: the survey, and the page that shows it."""

from .page import render
from .survey import Gap, Module, Section, SizedSymbol, Survey, survey

__all__ = ["Gap", "Module", "Section", "SizedSymbol", "Survey", "render", "survey"]
