"""Usage: scripts/bench upgrade [OPTION]...

An upgrade of the edge: clients with traffic whose every byte is checked, while one process of the edge takes over from the
other, again and again. Before each takeover a new process fails, at another point each time. What do the clients feel?

  --clients N      with traffic (default 15000)
  --takeovers N    (default 10)
  --messages N     for all clients together, each second (default 3000)
  --pause N        seconds between takeovers (default 2)
  --rate N         clients opened per second before (default 1500)
  --workers N      threads of the edge (default 2)
  --json FILE      figures for machines
  --markdown FILE  what is printed, as Markdown

Edge, core and generator share the machine. Latency is taken by the generator, from the intended time of each message until
its echo is complete, so that nothing of a pause is hidden; "frozen" is what the edge itself says of the time in which
nobody served its clients. The failing process is not a real one, but speaks as one does up to the point where it hangs up.

The bars: no client is disconnected, no byte is lost, doubled or altered, in any of the takeovers; each failed attempt leaves
all clients with the running process. Ends with status 1 if one is missed.
"""

import pathlib
import re
import sys
import time

import common

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import taker  # noqa: E402

POINTS = ("HELLO", "WELCOME", "READY", "WORKER", "END", "PREPARED", "COMMIT")
QUANTILES = ("p50", "p99", "p99_9", "max")
SOURCES = "127.79.1.0/29"


def arguments(words):
    options = {"clients": 15000, "takeovers": 10, "messages": 3000, "pause": 2, "rate": 1500, "workers": 2, "json": None,
               "markdown": None}
    return common.read_options(__doc__, options, words)


class Upgrade:
    def __init__(self, bench, options):
        self.bench = bench
        self.options = options
        if options["clients"] > bench.files - common.FILES_SPARE:
            raise common.Failure(f"{options['clients']} clients need more than the {bench.files} open files of a process")
        self.control = bench.directory / "control"
        self.core, self.core_address = bench.core("--workers", "2")
        self.edge, self.address = self.start("edge-0")
        self.frozen = []
        self.seconds = []
        self.failed = 0

    def start(self, name, *more):
        return self.bench.edge(self.core_address, "--control", self.control, "--workers", self.options["workers"],
                               "--trunks", "2", "--log-level", "info", *more, name=name)

    def attempt(self, point):
        """A new process that hangs up there; the running one says so."""
        said = self.count("takeover-failed")
        one = taker.Taker(self.control, 30)
        try:
            one.go_to(self.core_address, getattr(taker, point), self.options["workers"])
        finally:
            one.close()
        self.edge.wait_until(lambda: self.count("takeover-failed") > said, "notice that the new process is gone")
        self.failed += 1

    def count(self, event):
        return len(re.findall(rf" {event} ", self.edge.log.read_text(errors="replace")))

    def take_over(self, number):
        began = time.monotonic()
        new, _ = self.start(f"edge-{number}", "--takeover", self.control)
        line = new.wait_until(lambda: re.search(r"edge-took-over clients=(\d+) frozen_ms=(\d+)",
                                                new.log.read_text(errors="replace")), "take over", 60)
        self.seconds.append(time.monotonic() - began)
        self.frozen.append(int(line[2]))
        status = self.edge.process.wait(60)
        if status != 0:
            self.edge.fail(f"has ended with status {status} after it was taken over")
        self.edge = new
        return int(line[1])

    def run(self):
        clients, takeovers = self.options["clients"], self.options["takeovers"]
        # Long enough for everything; it is told to end when all is done, as what is left of the time would only be quiet.
        duration = takeovers * (self.options["pause"] + 4) + 10
        load = common.Load(self.bench, "load", self.address, "--clients", clients, "--rate", self.options["rate"], "--random",
                           "--source-addresses", SOURCES, "--timeout", 60, "--messages-per-second", self.options["messages"],
                           "--duration", duration)
        load.wait_ready()
        common.say(f"{clients} clients are open")
        load.go()
        handed = []
        for number in range(1, takeovers + 1):
            time.sleep(self.options["pause"] / 2)
            self.attempt(POINTS[(number - 1) % len(POINTS)])
            time.sleep(self.options["pause"] / 2)
            handed.append(self.take_over(number))
            common.say(f"takeover {number}: {handed[-1]} clients, frozen for {self.frozen[-1]} ms")
        return handed, load.finish(allowed=(0, 1, 4))


def run():
    options = arguments(sys.argv[1:])
    with common.Bench() as bench:
        common.print_machine()
        upgrade = Upgrade(bench, options)
        handed, figures = upgrade.run()
        echo = figures["microseconds"]["echo"]
        messages = figures["messages"]
        common.table(["", *QUANTILES], [["echo, ms", *(f"{echo[name] / 1000:.1f}" for name in QUANTILES)]])
        common.table(["", "p50", "max"], [
            ["frozen, ms", sorted(upgrade.frozen)[len(upgrade.frozen) // 2], max(upgrade.frozen)],
            ["start of the new process to its service, s", f"{sorted(upgrade.seconds)[len(upgrade.seconds) // 2]:.2f}",
             f"{max(upgrade.seconds):.2f}"]])
        common.tell(f"{messages['echoed']} messages in {len(handed)} takeovers; {upgrade.failed} attempts before them failed")
        wrong = sum(messages[name] for name in ("missing", "repeated", "altered", "broken_streams", "unanswered"))
        missed = common.judge(f"every takeover had all {options['clients']} clients",
                              all(count == options["clients"] for count in handed))
        missed += common.judge(f"disconnected: {figures['failed']}", figures["failed"] == 0)
        missed += common.judge(f"messages lost, doubled or altered: {wrong}", wrong == 0)
        common.keep(options, handed=handed, frozen_ms=upgrade.frozen, seconds=upgrade.seconds, load=figures, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
