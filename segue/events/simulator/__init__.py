"""The simulator: a history of events of an invented shop, and the truth about it.

Promises: the same arguments give the same bytes; memory depends on the people, not on the days; nothing is received
at or after `until`; every line is in the truth's counts, and the truth is never among the events.
Never: reads the clock, a setting or the warehouse.
"""

from segue.events.simulator.files import FileFormat
from segue.events.simulator.run import DisturbedDay, Progress, SimulationReport, simulate

__all__ = ["DisturbedDay", "FileFormat", "Progress", "SimulationReport", "simulate"]
