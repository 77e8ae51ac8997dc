"""Usage: scripts/bench return [OPTION]...

Whether memory comes back: again and again a crowd of TLS clients connects to one edge with one core, exchanges messages,
and leaves.

  --clients N     of each crowd (default 15000)
  --rounds N      (default 10)
  --rate N        new clients per second (default 1500)
  --messages N    for each client, after the one that opens it (default 2)
  --workers N     threads of the edge, and of the core (default 1)
  --json FILE     figures for machines
  --markdown FILE what is printed, as Markdown

Memory is the proportional memory (Pss) of edge and core. "Before" is what they take when they have just started and their
trunks are up, before any client has come. "Peak" is the most that was seen while a crowd was there. "After" is taken when
all clients of a round have left and memory has not changed for 7 s, as what a crowd leaves behind is given back some
seconds later. "Back" is how long after the last client the bar was kept for the first time.

The bars: after each round at most what it was before, 10 % and 2 MB; after the last round at most what it was after the
first, 10 % and 2 MB. Ends with status 1 if one is missed, or if a client or a byte was not as it must be.
"""

import sys
import time

import common

PARTS = ("edge", "core")
MESSAGES_PER_SECOND = 3000
CROWD_SECONDS = 600      # for all clients of a crowd to come, and for them to leave
BACK_SECONDS = 30        # for memory to come back, and to rest
BAR_PERCENT = 10
BAR_KB = 2048


def arguments(words):
    options = {"clients": 15000, "rounds": 10, "rate": 1500, "messages": 2, "workers": 1, "json": None,
               "markdown": None}
    return common.read_options(__doc__, options, words)


def bar_kb(base_kb):
    return base_kb * (100 + BAR_PERCENT) // 100 + BAR_KB


def look(programs):
    """By part, anonymous and all memory in kB."""
    return {part: dict(zip(("anon_kb", "kb"), program.memory_kb())) for part, program in programs.items()}


def more(one, other):
    return {part: max(one[part], other[part], key=lambda memory: memory["kb"]) for part in PARTS}


def crowd(bench, address, programs, name, options):
    """Clients come, exchange messages and leave; the most memory that was seen while they were there."""
    messages = options["clients"] * options["messages"]
    seconds = max(1, messages // MESSAGES_PER_SECOND)
    load = common.Load(bench, name, address, "--clients", options["clients"], "--rate", options["rate"],
                       "--messages-per-second", -(-messages // seconds), "--duration", seconds)
    load.wait_ready(CROWD_SECONDS)
    peak = look(programs)
    load.go()
    end = time.monotonic() + CROWD_SECONDS
    while load.process.poll() is None and time.monotonic() < end:
        peak = more(peak, look(programs))
        time.sleep(0.25)
    figures = load.finish(1, allowed=(0, 4))
    return peak, figures["messages"]["sent"]


def wait_back(programs, before):
    """Until memory rests; seconds until each part was within its bar, None for never."""
    begun = time.monotonic()
    back = dict.fromkeys(PARTS)

    def note():
        now = look(programs)
        for part in PARTS:
            if back[part] is None and now[part]["kb"] <= bar_kb(before[part]["kb"]):
                back[part] = time.monotonic() - begun
    common.settle(programs.values(), BACK_SECONDS, note)
    return back


def one_round(bench, address, programs, before, number, options):
    peak, messages = crowd(bench, address, programs, f"crowd-{number}", options)
    back = wait_back(programs, before)
    after = look(programs)
    common.say(f"round {number} of {options['rounds']}")
    return {"round": number, "messages": messages, "peak": peak, "after": after, "back_seconds": back}


def megabytes(memory_kb):
    return f"{memory_kb / 1024:.2f}"


def report(before, rounds):
    rows = [["before"] + [text for part in PARTS
                          for text in ("", megabytes(before[part]["kb"]), megabytes(before[part]["anon_kb"]), "")]]
    for one in rounds:
        row = [str(one["round"])]
        for part in PARTS:
            back = one["back_seconds"][part]
            row += [megabytes(one["peak"][part]["kb"]), megabytes(one["after"][part]["kb"]),
                    megabytes(one["after"][part]["anon_kb"]), "never" if back is None else f"{back:.1f}"]
        rows.append(row)
    common.table(["round"] + [f"{part} {text}" for part in PARTS for text in ("peak MB", "after", "anonymous", "back s")],
                 rows)


def verdict(before, rounds):
    """A line for each bar; what has missed it."""
    missed = []
    for part in PARTS:
        first, last = rounds[0]["after"][part]["kb"], rounds[-1]["after"][part]["kb"]
        most = max(one["after"][part]["kb"] for one in rounds)
        bar = bar_kb(before[part]["kb"])
        missed += common.judge(f"{part} after every round at most {megabytes(bar)} MB, what it was before, {BAR_PERCENT} % "
                               f"and {BAR_KB // 1024} MB: {megabytes(most)} MB", most <= bar)
        if len(rounds) > 1:
            bar = bar_kb(first)
            missed += common.judge(f"{part} after round {len(rounds)} at most {megabytes(bar)} MB, what it was after round "
                                   f"1, {BAR_PERCENT} % and {BAR_KB // 1024} MB: {megabytes(last)} MB", last <= bar)
    return missed


def run():
    options = arguments(sys.argv[1:])
    common.print_machine()
    rounds = []
    missed = []
    before = None
    try:
        with common.Bench() as bench:
            core, core_address = bench.core("--workers", options["workers"])
            edge, address = bench.edge(core_address, "--workers", options["workers"])
            programs = {"edge": edge, "core": core}
            common.settle(programs.values())
            before = look(programs)
            for number in range(1, options["rounds"] + 1):
                rounds.append(one_round(bench, address, programs, before, number, options))
    finally:
        if rounds:
            common.tell(f"{options['clients']:,} clients in each of {len(rounds)} rounds, "
                        f"{sum(one['messages'] for one in rounds):,} messages, each byte checked")
            report(before, rounds)
            missed = verdict(before, rounds)
            common.keep(options, before=before, rounds=rounds, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
