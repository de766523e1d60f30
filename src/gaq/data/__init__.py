"""Reference data: files and data sets become frames in eV and Å, and frames can be made at a level of theory."""

from gaq.data.extxyz import write_frames
from gaq.data.frames import Frames, check_frames, check_training_size
from gaq.data.sources import load_frames
from gaq.data.units import KeyMap

__all__ = ["Frames", "KeyMap", "check_frames", "check_training_size", "load_frames", "write_frames"]
