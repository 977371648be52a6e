"""A study folder in, one self-contained HTML page out."""
