"""The journal of a study: what its records hold, where they are kept, and how they are read."""

from raygen.journal.read import read_records, read_study
from raygen.journal.schema import STATES

__all__ = ["STATES", "read_records", "read_study"]
