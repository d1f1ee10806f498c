"""What a person did that cannot be done: one line, what came and what is allowed."""


class UserError(Exception):
    """Bad input.  The command prints the message and exits with 2."""
