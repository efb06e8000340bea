"""The Dagster-free core of Segue.

Promises: importable and testable without Dagster; every function that depends on time takes `as_of`.
Never: imports dagster, reads the wall clock outside `segue.clock`, reads the environment outside `segue.settings`.
"""
