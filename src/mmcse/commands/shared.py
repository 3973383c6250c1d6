"""What the commands' parsers have in common."""

import argparse

Subcommands = argparse._SubParsersAction
"""What `add_subparsers` returns; argparse has no public name for it."""
