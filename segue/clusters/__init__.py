"""Clusters: groups of people that nobody defined, found in how they behave.

Promises: the same people and the same seed give the same clusters; a cluster keeps its id and its name for as long as
it lives, and what happens to it is told; each has a sentence that a marketer can read; too few people, or people who do
not differ, are said to be so, and the last good clusters stay.
Never: takes a missing value for a zero; decides which columns count, which the analysts' YAML does; writes outside the
schema `clusters`.
"""

from segue.clusters.adopt import FAITHFUL, Adoption, adopt, write
from segue.clusters.discover import ClusterReport, MethodReport, discover
from segue.clusters.features import Feature, features_of
from segue.clusters.life import LifeEvent
from segue.clusters.picture import plot, plot_profiles, plot_sizes
from segue.clusters.profiles import Profile
from segue.clusters.tables import ensure_tables

__all__ = [
    "FAITHFUL",
    "Adoption",
    "ClusterReport",
    "Feature",
    "LifeEvent",
    "MethodReport",
    "Profile",
    "adopt",
    "discover",
    "ensure_tables",
    "features_of",
    "plot",
    "plot_profiles",
    "plot_sizes",
    "write",
]
