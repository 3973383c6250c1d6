"""An experiment suite for audio-visual video parsing, built around MM-CSE."""

__version__ = "0.1.0"
