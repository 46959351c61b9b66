"""Records what a language model computes, so that faultline can say what is wrong with it (docs/recording.md)."""

from .selection import Selection
from .step import Step
from .writer import CaptureWriter

__all__ = ["CaptureWriter", "Selection", "Step"]
