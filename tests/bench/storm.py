"""Usage: scripts/bench storm [OPTION]...

A reconnect storm: one edge has established clients with traffic, and as many others lose their connections at once (with
resets, as in an outage) and come back at once, each with a full TLS handshake. What do the established ones feel, and how
long until all are back?

  --established N  clients with traffic (default 9000)
  --others N       clients of the storm (default 9000)
  --messages N     for all established clients together, each second (default 1000)
  --seconds N      of the quiet time that the storm is compared with (default 10)
  --rounds N       quiet times and storms in turn (default 3)
  --rate N         clients opened per second before (default 1500)
  --workers N      threads of the edge, each with a CPU of its own (default: half of the CPUs)
  --handshakes N   --handshakes-per-second of the edge (default 0, any number)
  --json FILE      figures for machines
  --markdown FILE  what is printed, as Markdown

Edge, core and all clients share the machine. In a network each would have CPUs of its own, so here the edge has some for
itself, and the core and the generators have the others; there whoever is not measured gives way: the generator of the storm
runs when nobody else wants to (SCHED_IDLE). Without that a message waits several times for a CPU that another program will
give up some milliseconds later, and that is what would be measured. As root the measured programs go ten steps of niceness
before whatever else runs on the machine; what others take of the CPUs is told. Latency is taken by the established clients' generator, from the
intended time of each message until its echo is complete; what the generator itself was late is told as its lag. A first
storm, which is not counted, tells how long one lasts; in the others the established clients send for just so long, so
that their percentiles hold nothing but the storm. Medians of the rounds are compared.

The bars: p99 of the established clients in the storm at most 3 times that of the quiet time; none of them lost, no byte
wrong; each of the others is served again, or was refused, which both sides count. Ends with status 1 if one is missed.
"""

import json
import math
import os
import statistics
import sys
import time

import common

FIRST_NICE = -10 if os.geteuid() == 0 else 0
STRANGERS_MAX = 0.1     # of the CPUs, used by others than this benchmark: more may spoil the figures
RATIO_MAX = 3.0
PILOT_SECONDS = 30      # of the first storm's traffic
BACK_SECONDS = 60       # for a client to be served again
PERCENTS = ("50", "90", "99", "100")
ESTABLISHED_FROM = "127.78.1.0/29"
OTHERS_FROM = "127.78.2.0/29"
QUANTILES = ("p50", "p90", "p99", "p99_9", "max")


def arguments(words):
    options = {"established": 9000, "others": 9000, "messages": 1000, "seconds": 10, "rounds": 3, "rate": 1500, "workers": None,
               "handshakes": 0, "json": None, "markdown": None}
    return common.read_options(__doc__, options, words, {"handshakes": lambda name, text: common.number(name, text, 0)})


def divide_cpus(workers):
    """(the edge's, all others'), as taskset takes them. On a machine with one CPU both have it."""
    cpus = sorted(os.sched_getaffinity(0))
    own = min(workers or max(1, len(cpus) // 2), max(1, len(cpus) - 1))
    rest = cpus[own:] or cpus
    return [",".join(str(cpu) for cpu in part) for part in (cpus[:own], rest)]


def on_cpus(cpus):
    """The beginning of a command that is to run there."""
    return ["taskset", "-c", cpus]


def cpus_used():
    """CPU seconds of the whole machine since it started: user, nice, system, interrupts and what was stolen."""
    words = open("/proc/stat", encoding="ascii").readline().split()[1:9]
    return sum(int(word) for place, word in enumerate(words) if place not in (3, 4)) / os.sysconf("SC_CLK_TCK")


class Storms:
    def __init__(self, bench, options):
        self.bench = bench
        self.options = options
        need = options["established"] + options["others"]
        if need > bench.files - common.FILES_SPARE:
            raise common.Failure(f"{need} clients of one edge need more than the {bench.files} open files of a process")
        edge_cpus, self.cpus = divide_cpus(options["workers"])
        options["workers"] = options["workers"] or len(edge_cpus.split(","))
        before = common.at_nice(FIRST_NICE)
        self.core, address = bench.core("--workers", "2", before=[*before, *on_cpus(self.cpus)])
        self.edge, self.address = bench.edge(
            address, "--workers", options["workers"], "--trunks", "2", "--handshakes-per-second", options["handshakes"],
            "--handshake-timeout", f"{BACK_SECONDS}s", "--log-level", "info",
            before=[*before, *on_cpus(edge_cpus)])

    def load(self, name, clients, source, *more, before):
        return common.Load(self.bench, name, self.address, "--clients", clients, "--rate", self.options["rate"],
                           "--source-addresses", source, "--timeout", BACK_SECONDS, *more, before=[*before, *on_cpus(self.cpus)])

    def established(self, name, seconds):
        load = self.load(name, self.options["established"], ESTABLISHED_FROM, "--random", "--messages-per-second",
                         self.options["messages"], "--duration", f"{seconds:.2f}", before=common.at_nice(FIRST_NICE))
        load.wait_ready()
        return load

    def others(self, name):
        # One message each second, so that there is traffic at all: the storm is part of it.
        load = self.load(name, self.options["others"], OTHERS_FROM, "--storm", "100", "--messages-per-second", "1",
                         "--duration", "1", before=["chrt", "--idle", "0"])
        load.wait_ready()
        return load

    def quiet(self, name):
        others = self.others(f"{name}-others")
        load = self.established(name, self.options["seconds"])
        common.settle([self.core, self.edge], 10)
        load.go()
        figures = load.finish(allowed=(0, 1, 4))
        return others, figures

    def storm(self, name, others, seconds):
        load = self.established(name, seconds)
        begun, all_before = time.monotonic(), cpus_used()
        before = self.edge.cpu_seconds(), self.core.cpu_seconds()
        own_before = load.cpu_seconds() + others.cpu_seconds()
        load.go()
        others.go()
        back = others.finish(allowed=(0, 1, 4))
        figures = load.finish(allowed=(0, 1, 4))
        figures["edge_cpu"] = self.edge.cpu_seconds() - before[0]
        figures["core_cpu"] = self.core.cpu_seconds() - before[1]
        own = figures["edge_cpu"] + figures["core_cpu"] + figures["cpu_seconds"] + back["cpu_seconds"] - own_before
        figures["strangers"] = (cpus_used() - all_before - own) / (time.monotonic() - begun) / os.cpu_count()
        return figures, back

    def round(self, name, seconds):
        others, quiet = self.quiet(f"{name}-quiet")
        storm, back = self.storm(f"{name}-storm", others, seconds)
        return {"quiet": quiet, "storm": storm, "back": back}

    def stop(self):
        """The edge's totals."""
        self.edge.process.terminate()
        self.edge.process.wait(60)
        for line in self.edge.log.read_text().splitlines():
            if " edge-stopped " in line or "edge-stopped" in line:
                return dict(word.split("=", 1) for word in line.split() if "=" in word)
        self.edge.fail("has not told its totals")
        return None


def faults(figures):
    return sum(figures["messages"][name] for name in ("missing", "repeated", "altered", "broken_streams", "unanswered",
                                                      "unsent")) + figures["failed"]


def middle(rounds, part, *path):
    values = []
    for one in rounds:
        value = one[part]
        for key in path:
            value = value[key]
        values.append(math.inf if value is None else value)
    return statistics.median(values)


def report(rounds, totals):
    rows = []
    for part, title in (("quiet", "quiet"), ("storm", "storm")):
        rows.append([title] + [f"{middle(rounds, part, 'microseconds', 'echo', name) / 1000:.2f}" for name in QUANTILES] +
                    [f"{middle(rounds, part, 'microseconds', 'schedule_lag', 'p99') / 1000:.2f}",
                     f"{middle(rounds, part, 'messages', 'echoed'):,.0f}"])
    common.table(["established clients", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "lag p99 ms", "messages"], rows)
    common.table(["the others are back", *(f"{percent} %" for percent in PERCENTS), "CPU of the edge s", "of the core s"], [
        ["seconds", *(f"{middle(rounds, 'back', 'storm', 'back_microseconds', percent) / 1e6:.2f}" for percent in PERCENTS),
         f"{middle(rounds, 'storm', 'edge_cpu'):.1f}", f"{middle(rounds, 'storm', 'core_cpu'):.1f}"]])
    strangers = max(one["storm"]["strangers"] for one in rounds)
    common.tell(f"other programs took at most {max(0, strangers) * 100:.0f} % of the CPUs in a storm"
                f"{': the latencies may say more of those' if strangers > STRANGERS_MAX else ''}")
    dropped = sum(one["back"]["storm"]["dropped"] for one in rounds)
    returned = sum(one["back"]["storm"]["returned"] for one in rounds)
    refused = sum(one["back"]["failed"] for one in rounds)
    ratios = [one["storm"]["microseconds"]["echo"]["p99"] / max(1, one["quiet"]["microseconds"]["echo"]["p99"])
              for one in rounds]
    ratio = middle(rounds, "storm", "microseconds", "echo", "p99") / max(1, middle(rounds, "quiet", "microseconds", "echo", "p99"))
    lost = sum(one[part]["failed"] for one in rounds for part in ("quiet", "storm"))
    bad = sum(faults(one[part]) for one in rounds for part in ("quiet", "storm"))
    counted = int(totals["over_limit"]) + int(totals["handshakes_failed"]) + int(totals["refused"])
    print()
    return common.judge(f"p99 of established clients in the storm, at most {RATIO_MAX:.0f} times the quiet one: {ratio:.2f} "
                        f"(of the rounds: {', '.join(f'{each:.2f}' for each in ratios)})", ratio <= RATIO_MAX) + \
        common.judge(f"no established client lost, no byte wrong: {lost} lost, {bad} faults", lost == 0 and bad == 0) + \
        common.judge(f"each of the others is back, or was refused and counted: of {dropped:,} dropped {returned:,} are back, "
                     f"{refused:,} were refused; the edge has counted {counted:,}",
                     dropped > 0 and returned + refused == dropped and refused <= counted)


def run():
    options = arguments(sys.argv[1:])
    common.print_machine()
    with common.Bench() as bench:
        storms = Storms(bench, options)
        common.tell(f"1 core, 1 edge of {options['workers']} threads; {options['established']:,} established clients, "
                    f"{options['messages']:,} messages/s; {options['others']:,} others come back at once")
        pilot, back = storms.storm("pilot", storms.others("pilot-others"), PILOT_SECONDS)
        whole = back["storm"]["back_microseconds"]["99"]
        if whole is None:
            raise common.Failure(f"the first storm was not over: {json.dumps(back['storm'])} {back['first_failure']}")
        seconds = max(1.0, whole / 1e6)
        common.say(f"a storm lasts {seconds:.1f} s")
        rounds = []
        for number in range(options["rounds"]):
            rounds.append(storms.round(f"round-{number}", seconds))
            common.say(f"round {number + 1} of {options['rounds']}: p99 {rounds[-1]['quiet']['microseconds']['echo']['p99']} "
                       f"and {rounds[-1]['storm']['microseconds']['echo']['p99']} us")
        totals = storms.stop()
        missed = report(rounds, totals)
        common.keep(options, storm_seconds=seconds, rounds=rounds, edge=totals, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
