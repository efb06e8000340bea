"""Events: the Segment spec, contracts, the landing zone, the quarantine, importing.

Promises: a file is read exactly once; a message is loaded once, by its id; what breaks the spec or a contract
waits in quarantine with a reason: read = loaded + duplicates + quarantined, always.
Never: guesses at who a message is about, or changes what it says; drops a line.
"""

from segue.events.contracts import Contract, Property, load_contracts
from segue.events.explain import REASONS
from segue.events.import_file import Preview, import_file, preview
from segue.events.ingest import FileReport, IngestReport, ingest
from segue.events.judge import Judge, Judged, RefusedLine
from segue.events.landing import EventFile, PendingFiles, pending_files
from segue.events.loader import COLLECTED
from segue.events.mapping import FieldMapping, load_mapping
from segue.events.quarantine import Quarantined, ReplayReport, list_quarantined, replay, show_quarantined
from segue.events.retention import remove_read_files
from segue.events.spec import TOLERANCE
from segue.events.tables import Accounting, accounting, ensure_tables

__all__ = [
    "COLLECTED",
    "REASONS",
    "TOLERANCE",
    "Accounting",
    "Contract",
    "EventFile",
    "FieldMapping",
    "FileReport",
    "IngestReport",
    "Judge",
    "Judged",
    "PendingFiles",
    "Preview",
    "Property",
    "Quarantined",
    "RefusedLine",
    "ReplayReport",
    "accounting",
    "ensure_tables",
    "import_file",
    "ingest",
    "list_quarantined",
    "load_contracts",
    "load_mapping",
    "pending_files",
    "preview",
    "remove_read_files",
    "replay",
    "show_quarantined",
]
