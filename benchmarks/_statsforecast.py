"""Runs in an environment of its own, not in Segue's: MSTL and AutoETS on the series of `benchmarks/anomaly`.

Usage: python _statsforecast.py SERIES.json SCORES.json '["MONDAY", …]'. Each week is forecast from the days before it;
a score is the distance from the forecast in halves of the model's own interval, as a normal deviate.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from statsforecast import StatsForecast
from statsforecast.models import MSTL, AutoETS


def main(source, target, mondays):
    cases = json.loads(Path(source).read_text())
    days = sorted({d for c in cases for d, _ in c["values"]})
    everyday = pd.date_range(days[0], days[-1])
    columns = {}
    for number, case in enumerate(cases):
        values = pd.Series({pd.Timestamp(d): v for d, v in case["values"]}).reindex(everyday)
        columns[number] = values
    scores = {"MSTL": [{} for _ in cases], "AutoETS": [{} for _ in cases]}
    for text in mondays:
        monday = pd.Timestamp(text)
        rows = []
        for number, values in columns.items():
            known = values[values.index < monday].interpolate().bfill()
            rows.append(pd.DataFrame({"unique_id": number, "ds": known.index, "y": known.to_numpy()}))
        models = StatsForecast(
            models=[MSTL(season_length=[7], trend_forecaster=AutoETS(model="ZZN")), AutoETS(season_length=7)],
            freq="D",
            n_jobs=2,
        )
        ahead = models.forecast(df=pd.concat(rows), h=7, level=[95]).set_index(["unique_id", "ds"])
        for name in scores:
            for (number, day), row in ahead.iterrows():
                value = columns[number].get(day)
                if value is None or np.isnan(value):
                    continue
                half = max((row[f"{name}-hi-95"] - row[f"{name}-lo-95"]) / 2, 1e-9)
                scores[name][number][day.date().isoformat()] = float((value - row[name]) / half * 1.96)
    Path(target).write_text(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
