"""The journal of a study: its records, where they are kept, and what they say of each trial."""

from raygen.journal.read import read_records, read_study
from raygen.journal.records import STATES, Record

__all__ = ["STATES", "Record", "read_records", "read_study"]
