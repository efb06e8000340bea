"""What an idle hour costs: nothing arrives, and yet people leave "active in the last 24 h" at their second.

An engine with 100,000 people and 5 million events lives through an hour (--quick: 2,000 people, 10 minutes) on a clock
that jumps to whatever is due next, and does all that the process does in that time: it looks ahead for everybody every
five minutes and evaluates those whose second has come. The figure is its processor time. Against it: evaluating
everybody every five minutes, which would notice each change up to five minutes late; one such evaluation is measured
at the end, and it must find nothing that was missed.

    python -m benchmarks.timers [--quick] [--minutes N]
"""

import argparse
import time
from datetime import timedelta

from benchmarks._home import home, loaded_engine
from benchmarks._report import report
from segue.realtime.engine import Engine

SWEEP_SECONDS = 300
GOAL_SECONDS = 360


def idle(engine: Engine, minutes: float) -> tuple[int, int]:
    """Changes that were noticed, and people asked about."""
    now = engine.as_of
    until, changes, before = now + timedelta(minutes=minutes), 0, engine.evaluated_count
    while True:
        while engine.look_ahead(now):
            pass
        moments = [m for m in (engine.next_due, engine.next_look) if m is not None]
        now = max(now, min(moments, default=until))
        if now > until:
            return changes, engine.evaluated_count - before
        update = engine.due(now)
        if update is not None:
            changes += len(update.transitions)
        elif not engine.look_ahead(now):
            now += timedelta(milliseconds=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    people, events = (2_000, 50_000) if options.quick else (100_000, 5_000_000)
    minutes = options.minutes or (10.0 if options.quick else 60.0)
    with home(people=people, events=events) as settings:
        engine = loaded_engine(settings, horizon_seconds=SWEEP_SECONDS)
    while engine.look_ahead(engine.as_of):
        pass  # what follows a start; from here on it is the steady state
    started = time.process_time()
    changes, asked = idle(engine, minutes)
    used = time.process_time() - started
    hour = used * 60 / minutes
    print(f"{minutes:.0f} minutes: {used:.1f} s of processor, {changes:,} changes, {asked:,} people asked about")
    missed, started = 0, time.process_time()
    engine.start_pass("time", all_people=False)
    while (update := engine.pass_step(engine.as_of)) is not None:
        missed += len(update.transitions)
    everybody = (time.process_time() - started) * 3600 / SWEEP_SECONDS
    report(
        "timers",
        figure=hour,
        unit="CPU seconds of an idle hour",
        against=f"{everybody:.0f} CPU seconds for evaluating everybody every 5 minutes",
        goal=f"≤ {GOAL_SECONDS}, a tenth of a core; 0 changes missed",
        holds=hour <= GOAL_SECONDS and missed == 0,
        people=people,
        events_of_history=events,
        minutes=minutes,
        changes=changes,
        only_the_sweep_caught=engine.caught_by_sweep,
        missed=missed,
    )


if __name__ == "__main__":
    main()
