"""The stages of the graph: each asset calls one function of `segue/` and reports what it did."""
