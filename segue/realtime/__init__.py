"""Real time: the analysts' SQL for just the people a batch of events touches.

Promises: at any time it says what the same models would say if they were run for everyone as of that time; a change
that comes with time alone is noticed, most in their second and all within the sweep; a merge is told as a merge; what
the store has and how far the log was read are written together.
Never: writes the warehouse; reads a rule otherwise than by running it; lets one failing segment or one person with
very many events hold up the others.
"""

from segue.realtime.engine import Engine
from segue.realtime.judging import ContractJudge
from segue.realtime.lease import LeaseLostError
from segue.realtime.service import Service

__all__ = ["ContractJudge", "Engine", "LeaseLostError", "Service"]
