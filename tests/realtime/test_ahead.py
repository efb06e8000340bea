"""Looking ahead, with people whose changes are known: every change in its second, for few questions."""

import random

from segue.realtime.ahead import SECOND, Ahead, Said

HORIZON = 300
LIMIT = 100


class Components:
    """Each holds people who leave, one after the other, with nothing arriving.

    Args:
        leave: component → the seconds at which somebody leaves.
    """

    def __init__(self, leave: dict[int, list[int]]) -> None:
        self.leave = leave
        self.ahead = Ahead(HORIZON)
        self.state = {component: self.at(component, 0) for component in leave}
        self.noticed: dict[int, list[int]] = {component: [] for component in leave}
        self.questions = 0
        for component in leave:
            self.ahead.touch(component)

    def at(self, component: int, moment: int) -> Said:
        """What is right."""
        return {f"p{n}": ("in",) for n, second in enumerate(self.leave[component]) if moment < second * SECOND}

    def live(self, seconds: int) -> None:
        """Let time pass, second by second, as an engine does that has nothing else to do."""
        for second in range(seconds):
            now = second * SECOND
            for component in self.ahead.due(now):
                said = self.at(component, now)
                if said != self.state[component]:
                    self.noticed[component].append(second)
                    self.state[component] = said
                self.ahead.touch(component, said)
            assert not self.ahead.overdue(now, LIMIT), "looked at too late"
            while (question := self.ahead.question(now, LIMIT)) is not None:
                self.questions += 1
                then = {c: self.at(c, question.moment) for c in question.components}
                self.ahead.answer(question, then, self.state)


def test_every_change_is_noticed_in_its_second_however_many_come_in_one_window() -> None:
    draw = random.Random(1)
    leave = {c: sorted(draw.sample(range(1, 1200), draw.randrange(1, 12))) for c in range(300)}
    leave[300] = [20, 21, 22]
    world = Components(leave)
    world.live(1300)
    assert world.noticed == leave


def test_many_who_change_cost_few_questions() -> None:
    draw = random.Random(2)
    count, windows = 3_000, 4
    world = Components({c: [draw.randrange(1, HORIZON * windows)] for c in range(count)})
    world.live(HORIZON * windows)
    assert world.noticed == world.leave
    # Everyone is asked about once in a window; each second of a window is asked about at most once or twice more.
    assert world.questions < (windows + 1) * (count / LIMIT + 2 * HORIZON)
