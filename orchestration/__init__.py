"""Assembles the graph for Dagster: definitions, resources, automation, jobs, the wiring of dbt.

Promises: `orchestration.definitions` loads whatever state the installation is in, and a fault in one
dbt model stays with that model.
Never: holds business logic; that is in `segue/`, and SQL is in `dbt_project/`.
"""

import warnings

from dagster import BetaWarning

# What Dagster calls beta is pinned here by the lock and held by tests; a person at a terminal can do nothing about it.
warnings.filterwarnings("ignore", category=BetaWarning)
