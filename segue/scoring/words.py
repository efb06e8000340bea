"""What the figures of a backtest are of, in words: the key in `propensity.versions.metrics`, and what it stands for."""

WAYS = (
    ("model", "gradient-boosted trees, calibrated"),
    ("logistic", "logistic regression on the same features"),
    ("recency", "recency alone"),
    ("last_rate", "last period's rate for everybody"),
)
