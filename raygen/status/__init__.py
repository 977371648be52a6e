"""How a study stands, and why a trial went as it did: from the journal, while it runs or after."""

from raygen.status.facts import status
from raygen.status.story import why_text
from raygen.status.text import measured, status_text

__all__ = ["measured", "status", "status_text", "why_text"]
