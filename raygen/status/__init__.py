"""The progress of a study, and what happened to a trial: from the journal, at any time."""

from raygen.status.facts import status
from raygen.status.story import why_text
from raygen.status.text import measured, status_text

__all__ = ["measured", "status", "status_text", "why_text"]
