"""Is anything lost when processes are killed? kill -9 at random moments, while unmodified clients send.

`segue realtime` runs on a home of its own: collector, event log, engine, landing writer, API, webhooks. Segment's and
RudderStack's Python clients send; every few seconds a process is killed, the supervisor too, and now and then
everything at once, as when the power fails. At last the engine is paused until another one, started by mistake, takes
over, and woken again. Afterwards, of what the clients saw acknowledged:

* each event is in `raw.events` exactly once, and nothing else is;
* memberships in the serving store are those of an evaluation from nothing, for everyone, as of the same time;
* transitions form a chain: nobody enters twice without leaving, and they fold to the memberships;
* each transition arrived at a receiver that verifies signatures, at least once, in the order of its person.

The figure is what was lost, doubled or wrong, and must be 0. The goal is absolute: there is nothing to compare with.

    python -m benchmarks.no_loss [--quick] [--seconds N] [--seed N]
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path

from benchmarks._crash import VICTIMS, Clients, Processes, Receiver, Sent, kill_at_random, tail, usurp, wait_for
from benchmarks._report import report
from benchmarks._truth import evaluator, members_at
from segue.clock import parse_as_of, system_time
from segue.errors import SegueError
from segue.events import accounting, ingest
from segue.keys import create_key
from segue.log import open_log
from segue.models import Project, prepare
from segue.serving import Endpoint, add_endpoint
from segue.settings import Settings
from segue.store import Transition, open_store
from segue.valkey import running
from segue.warehouse import Warehouse

_SECRET = "whsec_" + "bm90IGEgc2VjcmV0LCBidXQgbG9uZyBlbm91Z2g="
_HOOK = "receiver"
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is wrong; every number must be 0."""

    lost: int  # acknowledged, and not in raw.events
    doubled: int  # more than once in raw.events
    unknown: int  # in raw.events or the quarantine, and never sent so
    wrong_members: int  # people whose segments differ from the evaluation
    broken_chains: int  # transitions that do not follow from the ones before
    unfolded: int  # people whose transitions do not lead to their segments
    webhooks_missing: int
    webhooks_out_of_order: int  # people who were told of in another order
    webhooks_unsigned: int

    @property
    def faults(self) -> int:
        return sum(getattr(self, one.name) for one in fields(self))


def run(
    home: Path, *, seconds: float, pause: tuple[float, float], victims: Sequence[str], a_second: float, seed: int
) -> tuple[Verdict, dict[str, int], int, int]:
    """Send, kill, let it settle, and judge.

    Args:
        seconds: how long one process after the other is killed, with a random `pause` in between.
        a_second: events that are sent.

    Returns:
        The verdict, kills by name, events sent, transitions told.
    """
    settings = Settings(home=home, settle_seconds=0, _env_file=None)  # type: ignore[call-arg]
    project = prepare(settings)
    key = create_key(settings, "shop", as_of=system_time())
    receiver = Receiver(_SECRET)
    add_endpoint(settings, Endpoint(name=_HOOK, url=receiver.url, created_at=system_time(), secret=_SECRET))
    with Processes(settings) as processes:
        try:
            # Whom an engine finds at its very first start is told to nobody: nothing has happened to them.
            wait_for(lambda: processes.is_up() and _has_begun(settings), 120, "the engine's first evaluation")
            people = max(20, int(a_second * seconds / 12))
            clients = Clients(processes.url, key, people=people, a_second=a_second, seed=seed)
            kills = kill_at_random(processes, seconds=seconds, pause=pause, victims=tuple(victims), seed=seed)
            usurp(processes)
            kills["paused engine"] = 1
            sent = clients.finish()
            print(f"{time.strftime('%H:%M:%S')} {len(sent.ids)} events were sent; it settles", flush=True)
            _settle(settings, processes)
            assert processes.stop() == 0
        except Exception:
            for name in ("supervisor", *(f"realtime/{one}" for one in VICTIMS[:5])):
                print(f"--- {name}\n{tail(home / f'{name}.log')}", flush=True)
            raise
    receiver.close()
    verdict, told = judge(settings, project, sent, receiver)
    return verdict, kills, len(sent.ids), told


def _has_begun(settings: Settings) -> bool:
    with suppress(SegueError):
        return open_store(settings).as_of() is not None
    return False


def _settle(settings: Settings, processes: Processes) -> None:
    """Until everyone is up, has read all, and has nothing to do."""
    log, store = open_log(settings), open_store(settings)
    quiet_since = 0.0

    def is_quiet() -> bool:
        nonlocal quiet_since
        with suppress(SegueError):
            engine = store.status().engine
            if (
                processes.is_up()
                and all(lag.entries == 0 for lag in log.status().lags.values())
                and engine.get("waiting") == engine.get("to_evaluate") == 0
                and store.outbox.committed(f"webhook:{_HOOK}") == store.outbox.newest()
            ):
                quiet_since = quiet_since or time.monotonic()
                return time.monotonic() - quiet_since > 3
        quiet_since = 0.0
        return False

    wait_for(is_quiet, 180, "everything to be read, evaluated and told")


def judge(settings: Settings, project: Project, sent: Sent, receiver: Receiver) -> tuple[Verdict, int]:
    """Look at what is there, with everything stopped. Returns the verdict and how many transitions there were."""
    with running(settings):
        store = open_store(settings)
        mine = {person: tuple(sorted(since)) for person, since in store.memberships() if since}
        outbox = [row.transition for row in store.outbox.read("", limit=10_000_000)]
        said = parse_as_of(store.status().engine["as_of"])
        as_of = max(said, store.as_of() or said)
    warehouse = Warehouse(settings)
    ingest(warehouse, as_of=system_time())
    with warehouse.read() as con:
        books = accounting(con)
        assert books.holds, books.problems
        stored = Counter(dict(con.execute("select message_id, count(*) from raw.events group by 1").fetchall()))
        refused = con.execute("select reason, detail, count(*) from raw.quarantine group by all").fetchall()
        everyone = evaluator(project, con, until=as_of + timedelta(days=1))
    for reason, detail, count in refused[:_SHOWN]:
        print(f"  {count} refused: {reason}, {detail}", flush=True)
    # What comes with time alone is found to the second.
    theirs = members_at(project, everyone, as_of.replace(microsecond=0))
    everyone.close()
    wrong = [person for person in mine.keys() | theirs.keys() if mine.get(person) != theirs.get(person)]
    for person in wrong[:_SHOWN]:
        print(f"  {person}: {mine.get(person)} in the store, {theirs.get(person)} by evaluation", flush=True)
    broken, unfolded = chain_faults(outbox, mine)
    missing, reordered = delivery_faults(outbox, receiver.arrived)
    return Verdict(
        lost=len(sent.acknowledged - stored.keys()),
        doubled=sum(count - 1 for count in stored.values()),
        unknown=len(stored.keys() - sent.ids.keys()) + sum(count for *_, count in refused),
        wrong_members=len(wrong),
        broken_chains=broken,
        unfolded=unfolded,
        webhooks_missing=missing,
        webhooks_out_of_order=reordered,
        webhooks_unsigned=receiver.unsigned,
    ), len(outbox)


def chain_faults(outbox: Sequence[Transition], members: dict[str, tuple[str, ...]]) -> tuple[int, int]:
    """Transitions that do not follow from those before, and people whose transitions do not lead to their segments."""
    inside: dict[str, set[str]] = {}
    broken = 0
    seen: set[str] = set()
    for t in outbox:
        mine = inside.setdefault(t.person_id, set())
        is_in = t.segment in mine
        wanted = {"entered": not is_in, "exited": is_in, "merged": True}[t.change]
        is_consistent = (t.segment in t.before) == is_in != (t.segment in t.after)
        if not wanted or not is_consistent or t.transition_id in seen:
            broken += 1
            if broken <= _SHOWN:
                print(f"  does not follow: {t}", flush=True)
        seen.add(t.transition_id)
        (mine.discard if is_in else mine.add)(t.segment)
    folded = {person: tuple(sorted(names)) for person, names in inside.items() if names}
    return broken, sum(folded.get(person) != members.get(person) for person in folded.keys() | members.keys())


def delivery_faults(outbox: Sequence[Transition], arrived: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Transitions that never arrived, and people whose transitions came in another order than they happened."""
    first = {name: at for at, name in reversed(list(enumerate(name for name, _ in arrived)))}
    last: dict[str, int] = {}
    missing = 0
    reordered: set[str] = set()
    for t in outbox:
        at = first.get(f"tr_{t.transition_id}")
        if at is None:
            missing += 1
        elif at < last.get(t.person_id, -1):
            reordered.add(t.person_id)
        else:
            last[t.person_id] = at
    return missing, len(reordered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seconds = options.seconds or (15 if options.quick else 300)
    pause = (0.5, 2.0) if options.quick else (1.0, 6.0)
    victims = VICTIMS[:5] if options.quick else VICTIMS
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="no-loss-") as folder:
        verdict, kills, events, told = run(
            Path(folder) / "home", seconds=seconds, pause=pause, victims=victims, a_second=60, seed=options.seed
        )
    print(f"kills: {kills}", flush=True)
    report(
        "no_loss",
        figure=verdict.faults,
        unit="events, memberships, transitions and webhooks lost, doubled or wrong",
        against="what was acknowledged, and an evaluation from nothing",
        goal="0",
        holds=verdict.faults == 0,
        **{one.name: getattr(verdict, one.name) for one in fields(verdict)},
        kills=sum(kills.values()),
        events=events,
        transitions=told,
        seconds=round(time.monotonic() - started, 1),
    )


if __name__ == "__main__":
    main()
