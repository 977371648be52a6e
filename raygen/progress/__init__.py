"""What the terminal shows of long work."""

from raygen.progress.lines import StudyProgress, milestone_line
from raygen.progress.plan import plan_text

__all__ = ["StudyProgress", "milestone_line", "plan_text"]
