"""Requests that the server refuses."""

from kexue_hf.errors import KexueError


class RequestError(KexueError):
    """A request is refused; the game is unchanged.

    Attributes:
        code: short name of the reason, for the page.
        status: HTTP status.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
