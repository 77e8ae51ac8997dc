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
PORTS_PER_ADDRESS = 25000  # a little below what ip_local_port_range has by default
KERNEL_BYTES = 10000       # for one session on one machine: both ends of its connection
EDGE_BYTES = 13000
LOAD_BYTES = 14000


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


def sockstat_kb():
    """Buffers of TCP sockets."""
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            return int(words[words.index("mem") + 1]) * 4
    return 0


class Fleet:
    """One core, the edges, and a load generator per edge and stage."""

    def __init__(self, bench, options):
        self.bench = bench
        self.options = options
        self.capacity = min(options["per-edge"], bench.files - common.FILES_SPARE)
        self.loads = []
        self.edges = []
        self.addresses = []
        self.room = []  # clients that each edge can still take
        self.sessions = 0

    def start(self):
        self.core, address = self.bench.core("--workers", self.options["core-workers"])
        count = -(-self.options["sessions"] // self.capacity)
        for i in range(count):
            edge, edge_address = self.bench.edge(address, "--workers", "1", "--trunks", self.options["trunks"],
                                                 name=f"edge-{i}")
            self.edges.append(edge)
            self.addresses.append(edge_address)
            self.room.append(self.capacity)
        # A few clients each, so that what is loaded once is not taken for the sessions'.
        for i, edge_address in enumerate(self.addresses):
            common.Load(self.bench, f"warm-{i}", edge_address, "--clients", "20", "--duration", "0",
                        wait=False).finish()

    def check_memory(self):
        need = self.options["sessions"] * (KERNEL_BYTES + EDGE_BYTES + LOAD_BYTES) // 1024
        have = meminfo()["available_kb"]
        if need > have:
            raise common.Failure(f"{self.options['sessions']:,} sessions may need {need // 1048576} GiB on this machine, "
                                 f"{have // 1048576} GiB are free: give fewer --sessions, or set "
                                 "TRUNKLINE_BENCH_BOLD=1 to try")

    def open_to(self, sessions):
        """Fills the edges one after the other; the loads of a stage share the rate."""
        parts = []
        missing = sessions - self.sessions
        for i, room in enumerate(self.room):
            clients = min(room, missing)
            if clients > 0:
                parts.append((i, clients))
                self.room[i] -= clients
                missing -= clients
        begun = []
        for i, clients in parts:
            name = f"load-{len(self.loads) + len(begun)}"
            # Each edge has addresses of its own: ports are counted for each pair of addresses.
            first = 1 + i * 4
            sources = f"127.77.{first // 256}.{first % 256}"
            rate = max(1, self.options["rate"] * clients // (sessions - self.sessions))
            active = max(1, clients * self.options["active"] // 100)
            load = common.Load(self.bench, name, self.addresses[i], "--clients", clients, "--rate", rate,
                               "--opening", max(20, 400 // len(parts)), "--timeout", "30", "--source-addresses", sources,
                               "--messages-per-second", active, "--duration", self.options["seconds"], "--random")
            load.clients = clients
            begun.append(load)
        self.loads += begun
        for load in begun:
            load.wait_ready(900)
        self.sessions = sessions

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
            "core_sockets": self.core.sockets(), "sockstat_kb": sockstat_kb(), **meminfo(),
        }

    def cpu(self):
        """Seconds of the core, and of all edges."""
        return self.core.cpu_seconds(), sum(edge.cpu_seconds() for edge in self.edges)

    def traffic(self):
        """Lets all loads send. CPU is looked at just before the end, when nothing closes yet; memory is not looked at, as
        that would hold up the processes that are measured."""
        for load in self.loads:
            load.go()
        time.sleep(0.3)
        begun = time.monotonic()
        before = self.cpu()
        time.sleep(max(0.2, self.options["seconds"] - 0.6))
        after = self.cpu()
        seconds = time.monotonic() - begun
        core_sockets = self.core.sockets()
        figures = [load.finish(900) for load in self.loads]
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
            "core_sockets": core_sockets,
        }


def report(stages, traffic, options):
    rows = []
    for before, stage in zip(stages, stages[1:]):
        grown = stage["sessions"] - before["sessions"]

        def per_session(name, before=before, stage=stage, grown=grown):
            return f"{(stage[name] - before[name]) * 1024 / grown:,.0f}"
        rows.append([f"{stage['sessions']:,}", f"{stage['edges_anon_kb'] / 1024:,.0f}", per_session("edges_anon_kb"),
                     f"{stage['core_anon_kb'] / 1024:,.0f}", per_session("core_anon_kb"),
                     f"{stage['loads_kb'] / 1024:,.0f}", f"{(stage['slab_kb'] - stages[0]['slab_kb']) / 1024:,.0f}",
                     per_session("slab_kb"), f"{stage['sockstat_kb'] / 1024:,.0f}",
                     f"{(stage['edges_cpu'] - before['edges_cpu']) / grown * 1e6:,.0f}",
                     f"{(stage['core_cpu'] - before['core_cpu']) / grown * 1e6:,.0f}", str(stage["core_sockets"])])
    common.table(["sessions", "edges MB", "B each", "core MB", "B each", "load MB", "slab MB", "B each", "TCP buffers MB",
                  "edge us/open", "core us/open", "core sockets"], rows)
    print(f"\n  {traffic['messages']:,} messages in {traffic['seconds']:.0f} s through {options['active']} % of the "
          f"sessions each second: {traffic['faults']} lost, doubled, altered or late for ever; {traffic['failed']} "
          f"clients failed")
    print(f"  echo p50 {traffic['echo_p50_us'] / 1000:.2f} ms, p99 {traffic['echo_p99_us'] / 1000:.2f} ms (of the worst "
          f"load process); CPU for one message: core {traffic['core_us_per_message']:.1f} us, edge "
          f"{traffic['edge_us_per_message']:.1f} us")


def run():
    options = arguments(sys.argv[1:])
    common.print_machine()
    with common.Bench() as bench:
        fleet = Fleet(bench, options)
        if "TRUNKLINE_BENCH_BOLD" not in common.os.environ:
            fleet.check_memory()
        fleet.start()
        print(f"  1 core of {options['core-workers']} threads, {len(fleet.edges)} edges of up to {fleet.capacity:,} "
              f"clients, {bench.files:,} open files for each process\n", flush=True)
        time.sleep(1)
        stages = [fleet.costs()]
        for sessions in options["stages"]:
            begun = time.monotonic()
            fleet.open_to(sessions)
            print(f"  {sessions:,} open after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            time.sleep(2)
            stages.append(fleet.costs())
        traffic = fleet.traffic()
    report(stages, traffic, options)
    if options["json"]:
        pathlib.Path(options["json"]).write_text(
            json.dumps({"machine": common.machine(), "options": options, "stages": stages, "traffic": traffic}, indent=2)
            + "\n")
    sockets = max(traffic["core_sockets"], max(stage["core_sockets"] for stage in stages))
    if sockets > CORE_SOCKETS_MAX:
        raise common.Failure(f"the core held {sockets} sockets; {CORE_SOCKETS_MAX} is the most that it may")
    if traffic["faults"] or traffic["failed"]:
        raise common.Failure("not every byte came back once and in order")
    return 0


if __name__ == "__main__":
    common.main(run)
