"""Errors that a user can mend."""


class UserError(ValueError):
    """One sentence: what was wrong, where, what to do. Programs print it and exit with 2."""
