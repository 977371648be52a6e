"""Tests of the report, and what makes studies and browsers for them."""
