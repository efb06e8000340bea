"""Why a message was not delivered."""

from segue.errors import SegueError


class DeliveryError(SegueError):
    """A channel did not take a message. The text never holds a webhook, a password or an address with one.

    Args:
        is_final: trying again cannot help until somebody changes a setting.
        retry_after: seconds that the channel asked to wait.
    """

    def __init__(
        self, message: str, *, fix: str | None = None, is_final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message, fix=fix)
        self.is_final = is_final
        self.retry_after = retry_after
