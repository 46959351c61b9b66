"""Records what a language model computes, so that faultline can say what is wrong with it (docs/recording.md)."""

from .recording import Recording, record
from .selection import Selection
from .step import Step
from .writer import CaptureWriter

__all__ = ["CaptureWriter", "Recording", "Selection", "Step", "record"]
