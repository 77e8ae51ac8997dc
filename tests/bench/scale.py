"""Usage: scripts/bench scale [OPTION]...

How many sessions ONE core process holds: as many edge and load processes as the limit of open files asks for, sessions
opened in stages, then traffic through a random part of them every second with each byte checked.

  --sessions N           in all (default 100000)
  --stages N[,N]...      opened up to each number in turn (default: a fifth, a half, and all)
  --per-edge N           clients of one edge process (default: what its files allow, 15000 at most)
  --rate N               new clients per second (default 1500)
  --active PERCENT       of the sessions that send one message each second (default 1)
  --seconds N            of the traffic (default 20)
  --core-workers N       threads of the core (default 2)
  --trunks N             of each edge (default 2)
  --json FILE            figures for machines

The core may hold 256 sockets, no more. Prints, for each stage, what each part costs: user memory (Pss), kernel memory
(Slab, and the buffers of sockets), CPU; and the CPU for one relayed message. Ends with status 1 if a client, a byte or
the number of sockets was not as it must be.
"""

import json
import pathlib
import sys
import time

import common

CORE_SOCKETS_MAX = 256
MEMORY_SPARE_KB = 524288   # that others shall keep
FILES_EACH = 2.1           # of the whole system, for one session: both ends of a connection, and a little
PROGRESS_SECONDS = 15
STALL_SECONDS = 120        # without one more session open
CLOSE_SECONDS = 900


def number(name, text):
    if not text.isdigit() or not 1 <= int(text) <= 10_000_000:
        raise common.Failure(f"{name}: \"{text}\" is not a number above 0")
    return int(text)


def arguments(words):
    options = {"sessions": 100000, "per-edge": 15000, "rate": 1500, "active": 1, "seconds": 20, "core-workers": 2,
               "trunks": 2, "stages": None, "json": None}
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--help":
            print(__doc__.strip())
            sys.exit(0)
        name = word[2:]
        if not word.startswith("--") or name not in options:
            raise common.Failure(f"unknown option {word}; see scripts/bench scale --help")
        if not words:
            raise common.Failure(f"{word} needs a value")
        value = words.pop(0)
        if name == "stages":
            options[name] = sorted({number(word, text) for text in value.split(",")})
        else:
            options[name] = value if name == "json" else number(word, value)
    total = options["sessions"]
    options["stages"] = [n for n in options["stages"] or [total // 5, total // 2] if 0 < n < total] + [total]
    return options


def meminfo():
    """Kernel memory in kB: slabs (sockets, inodes, epoll items), kernel stacks and page tables aside; free memory."""
    values = {}
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        name, value = line.split(":")
        values[name] = int(value.split()[0])
    return {"slab_kb": values["Slab"], "available_kb": values["MemAvailable"]}


def sockstat(name):
    """A figure of TCP: "inuse" sockets, or "mem", the pages of their buffers."""
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index(name) + 1])
    return 0


def check_files(sessions):
    most = int(pathlib.Path("/proc/sys/fs/file-max").read_text())
    if sessions * FILES_EACH > most:
        raise common.Failure(f"{sessions:,} sessions need {sessions * FILES_EACH:,.0f} open files in all, the system "
                             f"allows {most:,}: raise fs.file-max, or give fewer --sessions")


def say(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def share(number, index, count):
    """Part `index` of a number that is divided evenly among `count`; never less when the number is larger."""
    return number // count + (index < number % count)


class Fleet:
    """One core, the edges, and a load generator per edge and stage. Load generators whose clients rest are frozen: 200
    of them would take half a CPU for looking whether there is something to do."""

    def __init__(self, bench, options):
        self.bench = bench
        self.options = options
        self.capacity = min(options["per-edge"], bench.files - common.FILES_SPARE)
        self.loads = []
        self.load_count = 0
        self.edges = []
        self.addresses = []
        self.sessions = 0

    def start(self):
        self.core, address = self.bench.core("--workers", self.options["core-workers"])
        count = -(-self.options["sessions"] // self.capacity)
        for i in range(count):
            edge, edge_address = self.bench.edge(address, "--workers", "1", "--trunks", self.options["trunks"],
                                                 name=f"edge-{i}")
            self.edges.append(edge)
            self.addresses.append(edge_address)
        # A few clients each, so that what is loaded once is not taken for the sessions'.
        warm = [common.Load(self.bench, f"warm-{i}", edge_address, "--clients", "20", "--rate", "50", "--duration", "0",
                            wait=False) for i, edge_address in enumerate(self.addresses)]
        for load in warm:
            load.finish(allowed=(0, 4))

    def check_memory(self, before, now):
        """Would the sessions that are missing fit? Judged by what those that are open have taken."""
        each = (before["available_kb"] - now["available_kb"]) / now["sessions"]
        need = each * (self.options["sessions"] - now["sessions"])
        if need > now["available_kb"] - MEMORY_SPARE_KB:
            raise common.Failure(f"{self.options['sessions']:,} sessions would need {need / 1048576:.1f} GiB more at "
                                 f"{each:.1f} KB each, clients included; {now['available_kb'] / 1048576:.1f} GiB are "
                                 "left: give fewer --sessions")

    def open_to(self, sessions):
        """Opens what is missing, spread evenly over the edges; the loads of a stage share the rate."""
        count = len(self.edges)
        missing = sessions - self.sessions
        begun = []
        for i in range(count):
            clients = share(sessions, i, count) - share(self.sessions, i, count)
            if clients > 0:
                begun.append(self.load(i, clients, missing))
        self.wait_open(begun, missing)
        self.loads += begun
        self.sessions = sessions

    def load(self, edge, clients, missing):
        self.load_count += 1
        # Each edge has addresses of its own: ports are counted for each pair of addresses.
        first = 1 + edge * 4
        return common.Load(self.bench, f"load-{self.load_count}", self.addresses[edge], "--clients", clients, "--rate",
                           max(1, self.options["rate"] * clients // missing), "--opening",
                           max(20, 400 // len(self.edges)), "--timeout", "30", "--source-addresses",
                           f"127.77.{first // 256}.{first % 256}", "--messages-per-second",
                           max(1, clients * self.options["active"] // 100), "--duration", self.options["seconds"],
                           "--random")

    def wait_open(self, loads, missing):
        """Until all clients of the loads are open. It takes as long as it takes, but one must follow the other."""
        waiting = list(loads)
        begun = moved = said = time.monotonic()
        before = most = sockstat("inuse")
        while waiting:
            time.sleep(0.1)
            for load in [load for load in waiting if load.is_ready()]:
                load.freeze()
                waiting.remove(load)
            self.check_alive()
            now = time.monotonic()
            sockets = sockstat("inuse")
            if sockets > most:
                most, moved = sockets, now
            if now - moved > STALL_SECONDS:
                raise common.Failure(f"no session more is open after {STALL_SECONDS} s: {len(waiting)} load generators "
                                     "still wait for clients")
            if now - said > PROGRESS_SECONDS:
                said = now
                say(f"about {min(missing, (sockets - before) // 2):,} of {missing:,} more sessions after "
                    f"{now - begun:.0f} s")

    def check_alive(self):
        for program in [self.core] + self.edges:
            if program.process.poll() is not None:
                program.fail(f"has ended with status {program.process.returncode}")

    def costs(self):
        """Now, for the table: kB and seconds."""
        edges = [edge.memory_kb() for edge in self.edges]
        loads = [load.memory_kb() for load in self.loads]
        core = self.core.memory_kb()
        return {
            "sessions": self.sessions,
            "core_anon_kb": core[0], "core_kb": core[1],
            "edges_anon_kb": sum(one[0] for one in edges), "edges_kb": sum(one[1] for one in edges),
            "loads_kb": sum(one[1] for one in loads),
            "core_cpu": self.core.cpu_seconds(), "edges_cpu": sum(edge.cpu_seconds() for edge in self.edges),
            "loads_cpu": sum(load.cpu_seconds() for load in self.loads),
            "core_sockets": self.core.sockets(), "sockstat_kb": sockstat("mem") * 4, **meminfo(),
        }

    def cpu(self):
        """Seconds of the core, and of all edges."""
        return self.core.cpu_seconds(), sum(edge.cpu_seconds() for edge in self.edges)

    def traffic(self):
        """Lets all loads send. CPU is looked at just before the end, when nothing closes yet; memory is not looked at,
        as that would hold up the processes that are measured."""
        for load in self.loads:
            load.go()
        time.sleep(0.3)
        begun = time.monotonic()
        before = self.cpu()
        time.sleep(max(0.2, self.options["seconds"] - 0.6))
        after = self.cpu()
        seconds = time.monotonic() - begun
        core_sockets = self.core.sockets()
        # What went wrong is told with the figures, at the end.
        figures = [load.finish(CLOSE_SECONDS, allowed=(0, 1, 4)) for load in self.loads]
        sent = sum(one["messages"]["sent"] - one["clients"] for one in figures)
        messages = sent * seconds / self.options["seconds"]
        return {
            "seconds": self.options["seconds"], "messages": sent,
            "core_us_per_message": (after[0] - before[0]) / max(1, messages) * 1e6,
            "edge_us_per_message": (after[1] - before[1]) / max(1, messages) * 1e6,
            "echo_p50_us": max(one["microseconds"]["echo"]["p50"] for one in figures),
            "echo_p99_us": max(one["microseconds"]["echo"]["p99"] for one in figures),
            "faults": sum(one["messages"][name] for one in figures
                          for name in ("missing", "repeated", "altered", "broken_streams", "unanswered", "unsent")),
            "failed": sum(one["failed"] for one in figures),
            "late_loads": sum(one["bottleneck"] for one in figures),
            "core_sockets": core_sockets,
        }


def report_stages(stages):
    rows = []
    for before, stage in zip(stages, stages[1:]):
        grown = stage["sessions"] - before["sessions"]

        def per_session(name, before=before, stage=stage, grown=grown):
            return f"{(stage[name] - before[name]) * 1024 / grown:,.0f}"
        rows.append([f"{stage['sessions']:,}", f"{stage['edges_anon_kb'] / 1024:,.0f}", per_session("edges_anon_kb"),
                     f"{stage['core_anon_kb'] / 1024:,.0f}", per_session("core_anon_kb"),
                     f"{stage['loads_kb'] / 1024:,.0f}", f"{(stage['slab_kb'] - stages[0]['slab_kb']) / 1024:,.0f}",
                     per_session("slab_kb"),
                     f"{stage['sockstat_kb'] / 1024:,.0f}",
                     f"{(stage['edges_cpu'] - before['edges_cpu']) / grown * 1e6:,.0f}",
                     f"{(stage['core_cpu'] - before['core_cpu']) / grown * 1e6:,.0f}", str(stage["core_sockets"])])
    common.table(["sessions", "edges MB", "B each", "core MB", "B each", "load MB", "slab MB", "B each",
                  "TCP buffers MB", "edge us/open", "core us/open", "core sockets"], rows)


def report_traffic(traffic, options):
    print(f"\n  {traffic['messages']:,} messages in {traffic['seconds']:.0f} s through {options['active']} % of the "
          f"sessions each second: {traffic['faults']} lost, doubled, altered or late for ever; {traffic['failed']} "
          f"clients failed")
    print(f"  echo p50 {traffic['echo_p50_us'] / 1000:.2f} ms, p99 {traffic['echo_p99_us'] / 1000:.2f} ms (of the "
          f"worst load process); CPU for one message: core {traffic['core_us_per_message']:.1f} us, edge "
          f"{traffic['edge_us_per_message']:.1f} us")
    if traffic["late_loads"]:
        print(f"  {traffic['late_loads']} load generators fell behind their own schedule, so latencies say more of them "
              "than of the relays")


def measure(bench, options, stages):
    """Adds to `stages` what there is so far; returns the figures of the traffic."""
    fleet = Fleet(bench, options)
    fleet.start()
    print(f"  1 core of {options['core-workers']} threads, {len(fleet.edges)} edges of up to {fleet.capacity:,} "
          f"clients, {bench.files:,} open files for each process\n", flush=True)
    time.sleep(1)
    stages.append(fleet.costs())
    for sessions in options["stages"]:
        begun = time.monotonic()
        fleet.open_to(sessions)
        opened = time.monotonic()
        time.sleep(2)
        stages.append(fleet.costs())
        say(f"{sessions:,} open after {opened - begun:.0f} s; measured in {time.monotonic() - opened - 2:.1f} s")
        fleet.check_memory(stages[0], stages[-1])
    return fleet.traffic()


def verdict(stages, traffic):
    """What was not as it must be."""
    sockets = max([stage["core_sockets"] for stage in stages] + [traffic["core_sockets"]])
    if sockets > CORE_SOCKETS_MAX:
        yield f"the core held {sockets} sockets; {CORE_SOCKETS_MAX} is the most that it may"
    if traffic["faults"] or traffic["failed"]:
        yield "not every byte came back once and in order"


def run():
    options = arguments(sys.argv[1:])
    check_files(options["sessions"])
    common.print_machine()
    stages = []
    traffic = None
    try:
        with common.Bench() as bench:
            traffic = measure(bench, options, stages)
    finally:
        # A run that fails half-way, or is ended, has still measured something.
        if len(stages) > 1:
            report_stages(stages)
        if options["json"] and stages:
            figures = {"machine": common.machine(), "options": options, "stages": stages, "traffic": traffic}
            pathlib.Path(options["json"]).write_text(json.dumps(figures, indent=2) + "\n")
    report_traffic(traffic, options)
    missed = list(verdict(stages, traffic))
    for text in missed:
        print(f"bench: {text}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
