"""What analysts define, followed while they edit."""

import logging
import threading
from collections.abc import Mapping

from segue.errors import SegueError
from segue.models import fingerprint_of, prepare
from segue.segments import Segment, definitions
from segue.settings import Settings

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


class FollowedProject:
    """The segments that are served in real time, as the project had them last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.fingerprint = ""  # of the state that was read last; "" before the first
        self.segments: Mapping[str, Segment] = {}
        self.unusable: frozenset[str] = frozenset()  # models that have a fault; what they said before may still hold

    @property
    def is_known(self) -> bool:
        """Whether the project could be read at all."""
        return bool(self.fingerprint)

    def look(self) -> None:
        """Look once; takes seconds when something has changed.

        Raises:
            SegueError: when the project cannot be used; the last state stays.
        """
        newest = fingerprint_of(self._settings)
        if newest == self.fingerprint:
            return
        project = prepare(self._settings)
        known = definitions(project)
        self.unusable = frozenset({*known.errors, *(broken.name for broken in project.broken)})
        self.segments = {s.name: s for s in known.segments if s.realtime}
        self.fingerprint = newest

    def follow(self, stop: threading.Event) -> None:
        """Look again and again, until told to stop. For a thread of its own."""
        said = ""
        while not stop.is_set():
            try:
                self.look()
                said = ""
            except (SegueError, OSError) as error:  # a file may be replaced while it is read
                text = error.message if isinstance(error, SegueError) else str(error)
                if text != said:
                    _log.warning("the dbt project cannot be used, its last state stays: %s", text)
                said = text
            stop.wait(_LOOK_SECONDS)
