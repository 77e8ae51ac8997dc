"""Usage: scripts/bench core-restart [OPTION]...

Sessions that outlive their core: clients with traffic on a service that reopens, while the core is killed with -9 and
started again; then while two cores are restarted one after the other.

  --sessions N            (default 10000)
  --messages-per-second N of all sessions together (default 2000)
  --restarts N            kill -9 of the one core (default 10)
  --seconds N             between two of them (default 5)
  --json FILE             figures for machines
  --markdown FILE         what is printed, as Markdown

One edge (a worker, 4 trunks to each core). Load generators send 100 bytes in turn on all sessions, to be echoed, and
check each byte; a session that waits is no failure to them, one that ends is, and so is a byte lost, doubled, reordered
or altered. The core is started again at once, at the same address.

Time until all have a handler again: from kill -9 until the core that follows has logged as many sessions opened as there
are clients (it writes its log at level debug for that, which costs it some time); looked at every 20 ms. The messages'
latencies are those of the whole run, from the intended time of each.

Rolling restart: the first of two cores gets SIGTERM, moves its sessions to the other and exits; once it has exited it is
started again, and the other follows. It is timed from SIGTERM to the exit.

The bars: no client reconnects (every one ends cleanly on its first connection), and no byte is wrong. Ends with status 1
if one is missed.
"""

import signal
import statistics
import sys
import time

import common

LOADS = 4
LOAD_NICE = 10
RATE = 1500              # new clients per second
PATIENCE_SECONDS = 60    # for a handshake, and the last answers
RETURN_SECONDS = 30      # for all sessions
LEAD_SECONDS = 3
WRONG = ("missing", "repeated", "altered", "broken_streams", "unanswered", "unsent")


def start_core(bench, address, name, level="debug"):
    program = common.Program(bench, name, common.BIN / "trunkline-core", "--listen", address, "--certificate",
                             bench.pki / "core.crt", "--key", bench.pki / "core.key", "--client-ca", bench.pki / "ca.crt",
                             "--service", "echo=echo", "--reopen", "echo", "--log-level", level, "--drain-timeout", "60s",
                             *common.UNSHUT)
    program.address()
    return program


class Sessions:
    """Load generators on one edge, with all of their clients open."""

    def __init__(self, bench, options, cores, name, seconds):
        words = [word for core in cores[1:] for word in ("--core", core)]
        self.edge, address = bench.edge(cores[0], *words, "--core-name", "core", "--workers", "1", "--trunks", "4",
                                        "--reconnect-max", "500ms", name=f"edge-{name}")
        self.loads = []
        for i in range(LOADS):
            clients = options["sessions"] // LOADS + (i < options["sessions"] % LOADS)
            self.loads.append(common.Load(
                bench, f"load-{name}-{i}", address, "--clients", clients, "--rate", RATE // LOADS, "--timeout",
                PATIENCE_SECONDS, "--messages-per-second", max(1, options["messages-per-second"] // LOADS), "--duration",
                round(seconds), nice=LOAD_NICE))
        for load in self.loads:
            load.wait_ready()
        for load in self.loads:
            load.go()
        time.sleep(LEAD_SECONDS)

    def finish(self):
        """(clients that did not end cleanly, messages, those that were wrong, p99 and the longest in ms)."""
        figures = [load.finish(allowed=(0, 1, 4)) for load in self.loads]
        lost = sum(one["clients"] - one["ended_clean"] for one in figures)
        wrong = sum(one["messages"][name] for one in figures for name in WRONG)
        echo = [one["microseconds"]["echo"] for one in figures]
        return (lost, sum(one["messages"]["sent"] for one in figures), wrong,
                max(one["p99"] for one in echo) / 1000, max(one["max"] for one in echo) / 1000)


def opened(core):
    """Sessions that the core has logged so far."""
    return core.log.read_bytes().count(b"session-opened")


def kill(core):
    core.process.send_signal(signal.SIGKILL)
    core.process.wait()


def restarts(bench, options):
    """The times in ms until all sessions had a handler again, and what Sessions.finish says."""
    address = f"127.0.0.1:{common.free_port()}"
    core = start_core(bench, address, "core-0")
    seconds = LEAD_SECONDS + options["restarts"] * (options["seconds"] + 1) + 5
    sessions = Sessions(bench, options, [address], "restarts", seconds)
    times = []
    for i in range(options["restarts"]):
        begun = time.monotonic()
        kill(core)
        core = start_core(bench, address, f"core-{i + 1}")
        while opened(core) < options["sessions"]:
            if time.monotonic() - begun > RETURN_SECONDS:
                core.fail(f"has {opened(core):,} of {options['sessions']:,} sessions after {RETURN_SECONDS} s")
            time.sleep(0.02)
        times.append((time.monotonic() - begun) * 1000)
        common.say(f"restart {i + 1}: all sessions after {times[-1]:,.0f} ms")
        time.sleep(max(0, begun + options["seconds"] - time.monotonic()))
    return times, sessions.finish()


def rolling(bench, options):
    """The times in ms from SIGTERM to the exit of each core, and what Sessions.finish says."""
    addresses = [f"127.0.0.1:{common.free_port()}" for _ in range(2)]
    cores = [start_core(bench, address, f"rolling-{i}", "warning") for i, address in enumerate(addresses)]
    sessions = Sessions(bench, options, addresses, "rolling", LEAD_SECONDS + 20)
    times = []
    for i, address in enumerate(addresses):
        begun = time.monotonic()
        cores[i].process.send_signal(signal.SIGTERM)
        cores[i].process.wait(RETURN_SECONDS)
        times.append((time.monotonic() - begun) * 1000)
        if cores[i].process.returncode != 0:
            cores[i].fail(f"has ended with status {cores[i].process.returncode} on SIGTERM")
        cores[i] = start_core(bench, address, f"rolling-{i}-again", "warning")
        time.sleep(3)
    return times, sessions.finish()


def row(name, times, result):
    lost, messages, wrong, p99, longest = result
    return [name, str(len(times)), f"{statistics.median(times):,.0f}", f"{max(times):,.0f}", f"{messages:,}", f"{lost:,}",
            f"{wrong:,}", f"{p99:,.1f}", f"{longest:,.0f}"]


def run():
    options = {"sessions": 10000, "messages-per-second": 2000, "restarts": 10, "seconds": 5, "json": None,
               "markdown": None}
    options = common.read_options(__doc__, options, sys.argv[1:])
    common.print_machine()
    results = {}
    for name, part in (("kill -9", restarts), ("rolling", rolling)):
        with common.Bench() as bench:
            results[name] = part(bench, options)
    common.table(["cores", "restarts", "median ms", "longest ms", "messages", "reconnected", "wrong", "echo p99 ms",
                  "echo max ms"], [row(name, *result) for name, result in results.items()])
    common.tell("ms: until all sessions have a handler again; rolling: from SIGTERM until the core has exited")
    missed = []
    for name, (_, result) in results.items():
        missed += common.judge(f"{name}: no client of {options['sessions']:,} reconnects: {result[0]:,}", result[0] == 0)
        missed += common.judge(f"{name}: every byte once and in order: {result[2]:,} messages wrong", result[2] == 0)
    common.keep(options, results={name: {"times_ms": times, "lost": result[0], "messages": result[1], "wrong": result[2],
                                         "p99_ms": result[3], "max_ms": result[4]}
                                  for name, (times, result) in results.items()}, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
