"""Usage: scripts/soak [OPTION]...

Edges and a core among random faults for as long as is asked: rounds of trunkline-load, whose bytes are all checked, with
another mixture of faults between clients and edges, on the trunks, and behind the core in each.

  --minutes N   how long (default 1)
  --seed S      of all that is random; default: a new one, which is printed
  --edges N     edges before the one core, with two workers each (default 2)
  --kill        faults may end the trunks' connections, too; edges and the core are never killed
  --asan        with the address and undefined behaviour sanitizers; builds into build-asan

After each round sessions and sockets must be gone, and at the end memory must not have grown from the first third to the
last. Each round prints its seed and its faults; one that fails tells how to repeat it, and keeps all logs. Status 1 if
anything was not as it must be.
"""
import random
import statistics
import sys
import time

import harness
from faults import Rig, draw_mix
from harness import Case, sanitized

OPTIONS = {"--minutes": 1.0, "--seed": None, "--edges": 2}
LEAST = {"--minutes": 0.1, "--edges": 1}
KILL = "--kill"
ROUNDS_LEAST = 9          # for a judgement over memory
GROWTH_PERCENT, GROWTH_BYTES = 10, 3 << 20
settings = dict(OPTIONS, **{KILL: False})


class Growth:
    """The memory of programs, looked at after each round, when nothing is left to do."""

    def __init__(self):
        self.seen = {}

    def look(self, programs):
        for program in programs:
            self.seen.setdefault(program.name, []).append(program.memory())

    def complaints(self):
        found = []
        for name, sizes in self.seen.items():
            third = len(sizes) // 3
            if len(sizes) < ROUNDS_LEAST:
                continue
            # What a round needed may be given back some seconds later: medians, so that single rounds do not count.
            first, last = statistics.median(sizes[:third]), statistics.median(sizes[-third:])
            if last > first * (100 + GROWTH_PERCENT) / 100 + GROWTH_BYTES:
                found.append(f"{name} has grown from {first / 1024:.0f} KB to {last / 1024:.0f} KB")
        return found

    def __str__(self):
        return ", ".join(f"{name} {sizes[0] >> 10} KB after the first round and {sizes[-1] >> 10} KB after the last"
                         for name, sizes in self.seen.items())


class Soak(Case):
    def setUp(self):
        self.seed = settings["--seed"]
        if self.seed is None:
            self.seed = random.SystemRandom().randrange(1 << 32)
        kill = f" {KILL}" if settings[KILL] else ""
        self.again = f"again: scripts/soak --minutes {settings['--minutes']:g} --seed {self.seed}{kill} " \
                     f"--edges {settings['--edges']}"
        print(f"seed {self.seed}", file=sys.stderr)

    def test_nothing_is_lost_and_nothing_is_left(self):
        dice = random.Random(self.seed)
        started = time.monotonic()
        ends = started + 60 * settings["--minutes"]
        rig = Rig(self, self.seed, edges=settings["--edges"])
        growth = Growth()
        number = 0
        while time.monotonic() < ends:
            number += 1
            ending = [site for site in ("client", "backend", *(["trunk"] if settings[KILL] else [])) if dice.random() < 0.6]
            drawn = draw_mix(dice, ending)
            seed, seconds = dice.randrange(1 << 32), dice.randint(1, 4)
            renew = settings[KILL] and dice.random() < 0.3
            print(f"{time.monotonic() - started:6.0f} s  round {number}, seed {seed}, {seconds} s: "
                  f"{'; '.join(map(str, drawn)) or 'no faults'}", file=sys.stderr, flush=True)
            rig.round(seed, drawn, seconds=seconds, renew=renew)
            growth.look(rig.programs())
        rig.stop()
        print(f"\n{number} rounds in {time.monotonic() - started:.0f} s, seed {self.seed}; memory: {growth}", file=sys.stderr)
        rig.tell()
        self.assertGreater(rig.messages, 0)
        if not sanitized():  # which keep what was freed, for a while
            self.assertEqual(growth.complaints(), [], self.again)


class GrowthTest(Case):
    class Leaky:
        name = "leaky"

        def __init__(self, step):
            self.size, self.step = 10 << 20, step

        def memory(self):
            self.size += self.step
            return self.size

    def test_growth_is_found(self):
        for step, grows in ((0, False), (1 << 20, True)):
            growth, program = Growth(), self.Leaky(step)
            for _ in range(2 * ROUNDS_LEAST):
                growth.look([program])
            self.assertEqual(bool(growth.complaints()), grows)


def read_options(words):
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--help":
            print(__doc__.strip())
            sys.exit(0)
        if word == KILL:
            settings[KILL] = True
            continue
        try:
            settings[word] = (float if word == "--minutes" else int)(words.pop(0)) if word in OPTIONS else None
        except (IndexError, ValueError):
            settings[word] = None
        if word not in OPTIONS or settings[word] is None or settings[word] < LEAST.get(word, 0):
            print(f"soak: {word} is unknown, or its value is wrong; see --help", file=sys.stderr)
            sys.exit(2)
    sys.argv[1:] = []


if __name__ == "__main__":
    read_options(sys.argv[1:])
    harness.main()
