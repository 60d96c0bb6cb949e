"""Errors that a user can mend."""

import os


class UserError(ValueError):
    """One sentence: what was wrong, where, what to do. Programs print it and exit with 2.

    Attributes:
        exit_code: what they exit with.
    """

    exit_code = 2


class LostWorkerError(UserError):
    """Another worker is gone; the same commands, given again, may well succeed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class BadRecordError(UserError):
    """A file of the user's that cannot be used, or be left out with `--skip_bad_records`.

    Args:
        path: of the file.
        reason: goes on after its name; also an attribute.
        advice: what to do; that the flag is there is said after it.
    """

    def __init__(
        self, path: os.PathLike[str], reason: str, advice: str = "leave it out, or mend it"
    ) -> None:
        super().__init__(
            f"{os.fspath(path)} {reason}: {advice}; --skip_bad_records goes on without such files"
        )
        self.reason = reason
