"""The kernel's address space as a picture: the survey of it, and the page that shows it."""

from .page import render
from .survey import ModuleTotal, Section, Survey, survey

__all__ = ["ModuleTotal", "Section", "Survey", "render", "survey"]
