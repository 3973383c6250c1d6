"""The errors a user can cause and mend; everything else that is raised is a bug of ours.

A message says what was found, what was expected and what to do. The command line prints it as one paragraph,
without a stack trace.
"""


class UserError(ValueError):
    """Something the user gave (a file, an option, a value) cannot be used as it is."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder the user named, or one that should lie inside it, is not there."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
