"""Runs in an environment of its own, with `lifetimes`: its data, and what its BG/NBD says."""

import json
import sys
from pathlib import Path

from lifetimes import BetaGeoFitter
from lifetimes.datasets import load_dataset
from lifetimes.utils import calibration_and_holdout_data

CALIBRATION_END, END = "19970930", "19980630"


def main(out: str) -> None:
    columns = ["customer_id", "customer_index", "date", "quantity", "amount"]
    bought = load_dataset("CDNOW_sample.txt", header=None, sep=r"\s+", names=columns)
    bought["date"] = bought["date"].astype(str)
    summary = calibration_and_holdout_data(
        bought, "customer_id", "date", calibration_period_end=CALIBRATION_END, observation_period_end=END,
        freq="D", datetime_format="%Y%m%d",
    )  # fmt: skip
    model = BetaGeoFitter(penalizer_coef=0.0)
    model.fit(summary["frequency_cal"], summary["recency_cal"], summary["T_cal"])
    days = float(summary["duration_holdout"].iloc[0])
    summary["predicted"] = model.conditional_expected_number_of_purchases_up_to_time(
        days, summary["frequency_cal"], summary["recency_cal"], summary["T_cal"]
    )
    with Path(out).open("w") as file:
        json.dump(
            {
                "purchases": sorted({(int(c), d) for c, d in zip(bought["customer_id"], bought["date"], strict=True)}),
                "people": {
                    str(int(c)): [float(row["frequency_holdout"]), float(row["predicted"])]
                    for c, row in summary.iterrows()
                },
            },
            file,
        )


if __name__ == "__main__":
    main(sys.argv[1])
