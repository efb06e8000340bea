"""Clusters: groups of people that nobody defined, found in how they behave.

Promises: the same people and the same seed give the same clusters; each cluster has a unique name and a sentence that
a marketer can read; too few people, or people who do not differ, are said to be so and are no failure.
Never: takes a missing value for a zero; decides which columns count, which the analysts' YAML does; writes outside the
schema `clusters`.
"""

from segue.clusters.discover import ClusterReport, MethodReport, discover, ensure_tables
from segue.clusters.features import Feature, features_of
from segue.clusters.picture import plot
from segue.clusters.profiles import Profile

__all__ = [
    "ClusterReport",
    "Feature",
    "MethodReport",
    "Profile",
    "discover",
    "ensure_tables",
    "features_of",
    "plot",
]
