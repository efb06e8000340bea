"""Identifiers: what they look like once they are kept, and which rules they follow.

Promises: one normal form per type, the same in dbt, in the warehouse, in the engine and in look-ups; an e-mail address
is kept as a keyed hash only; the rules have one home, the variable `identity` of `dbt_project.yml`.
Never: writes the key into SQL, logs or the warehouse; decides who is who.
"""

from segue.identifiers.key import load_key
from segue.identifiers.normal import Normaliser
from segue.identifiers.rules import ID_COLUMNS, TYPES, Rules, TypeRule, load_rules

__all__ = ["ID_COLUMNS", "TYPES", "Normaliser", "Rules", "TypeRule", "load_key", "load_rules"]
