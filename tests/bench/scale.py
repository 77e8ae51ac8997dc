"""Usage: scripts/bench scale [OPTION]...

How many sessions ONE core process holds: as many edge and load processes as the limit of open files asks for, sessions
opened in stages, then traffic through a random part of them every second with each byte checked; and whether a message
costs more CPU when there are more sessions.

  --sessions N           in all (default 100000)
  --stages N[,N]...      opened up to each number in turn (default: 1000, 250000 or a half, and all)
  --per-edge N           clients of one edge process (default: what its files allow, 15000 at most)
  --rate N               new clients per second (default 2500)
  --active PERCENT       of the sessions that send one message each second (default 1)
  --seconds N            of the traffic, at each stage (default 20)
  --core-workers N       threads of the core (default 2)
  --trunks N             of each edge (default 2)
  --json FILE            figures for machines
  --markdown FILE        what is printed, as Markdown

The core may hold 256 sockets, no more: its listener and --trunks for each edge, so that 1,000,000 sessions on 67 edges
of 15,000 clients make 135. What will not fit is refused at the start: sockets, open files of the whole system, memory at
12.5 KB for both ends of a session; and after each stage of 20,000 sessions or more memory again, by what those that are
open have taken. Programs wait up to a minute for each other, as some hundred share the CPUs.

Prints, for each stage, what each part costs: user memory (anonymous Pss), kernel memory and CPU; and once more for the
last stage while its traffic goes on. The kernel does not tell whose its memory is, so what the slabs (sockets, inodes,
epoll items) have grown by since the start is divided by open files, which nearly all of it comes with; each part's page
tables are added. Buffers of sockets are those of the whole system.

CPU for one relayed message is measured at each stage with the same edges, the same trunks and the same number of
messages per second, that of --active at all sessions, or at 250,000 if there are more; only the number of sessions
differs. The sessions are spread evenly over all edges. At the first stage all of them take part, at those between a tenth
(25,000 at most) opened among the others, which leave afterwards, and at the last all again. It is the median of five
intervals. At 250,000 sessions and below it must be at most 1.3 times what it was at 1,000, for the core and for the
edges; this is judged when the first stage is 1,000 sessions or fewer. A last stage of more than 250,000 sessions has
more messages per second, so it is not compared.

Ends with status 1 if a client, a byte, the number of sockets or the growth of CPU was not as it must be.
"""

import contextlib
import os
import pathlib
import statistics
import sys
import time

import common

CORE_SOCKETS_MAX = 256
MEMORY_SPARE_KB = 524288   # that others shall keep
SESSION_KB = 12.5          # what 250,000 took each, kernel memory of both ends and the clients' programs included
MEMORY_SESSIONS = 20000    # with fewer, what others on the machine do counts for more
FILES_EACH = 2.1           # of the whole system, for one session: both ends of a connection, and a little
WATCHES_EACH = 2.1         # of epoll, likewise
EDGE_NICE = 4              # one core for dozens of edges: among processes of one priority it would be starved
LOAD_NICE = 10
PATIENCE_SECONDS = 60      # for a PING, a handshake or an answer: a program may not get a CPU at once
PROGRESS_SECONDS = 15
GROWTH_MAX = 1.3           # CPU for one message, against the first stage
GROWTH_FIRST = 1000        # sessions of the first stage, at most, for the growth to be judged
GROWTH_SESSIONS = 250000   # up to which it is judged
PROBES_EACH = 1 / 30       # keep-alive probes in a bunch, for one session: 2 s of every 120, and as much again to spare
SENDERS_MAX = 25000        # of a stage that is neither the first nor the last: enough to be in no cache
INTERVALS = 5              # of which the median counts
LEAD_SECONDS = 1           # of traffic before the first interval
TAIL_SECONDS = 4           # and after the last: memory is looked at then
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
PARTS = ("edges", "core", "loads")
STALL_SECONDS = 120        # without one more session open
CLOSE_SECONDS = 900


def arguments(words):
    options = {"sessions": 100000, "per-edge": 15000, "rate": 2500, "active": 1, "seconds": 20, "core-workers": 2,
               "trunks": 2, "stages": None, "json": None, "markdown": None}
    options = common.read_options(__doc__, options, words, {"stages": common.numbers})
    total = options["sessions"]
    middle = GROWTH_SESSIONS if total > GROWTH_SESSIONS else total // 2
    options["stages"] = [n for n in options["stages"] or sorted({GROWTH_FIRST, middle}) if 0 < n < total] + [total]
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


def check_limits(sessions):
    """What the whole system allows."""
    for name, each in (("fs/file-max", FILES_EACH), ("fs/epoll/max_user_watches", WATCHES_EACH)):
        most = int((pathlib.Path("/proc/sys") / name).read_text())
        if sessions * each > most:
            name = name.replace("/", ".")
            raise common.Failure(f"{sessions:,} sessions need {sessions * each:,.0f} of {name}, which is {most:,}: raise "
                                 "it, or give fewer --sessions")
    available, need = meminfo()["available_kb"] - MEMORY_SPARE_KB, sessions * SESSION_KB
    if need > available:
        raise common.Failure(f"{sessions:,} sessions would need {need / 1048576:.1f} GiB of memory, clients included; "
                             f"{max(0, available) / 1048576:.1f} GiB can be had: give fewer --sessions")


@contextlib.contextmanager
def room_for_probes(sessions):
    """Raises net.core.netdev_max_backlog as long as it lasts, if so many sessions need that."""
    setting = pathlib.Path("/proc/sys/net/core/netdev_max_backlog")
    before, need = int(setting.read_text()), round(sessions * PROBES_EACH)
    if before >= need:
        yield
        return
    try:
        setting.write_text(f"{need}\n")
    except OSError as error:
        raise common.Failure(f"{sessions:,} idle sessions need a net.core.netdev_max_backlog of {need:,} for their "
                             f"keep-alive probes; it is {before:,}, and cannot be raised: {error.strerror}") from error
    try:
        common.tell(f"net.core.netdev_max_backlog: {need:,} instead of {before:,} as long as this runs")
        yield
    finally:
        setting.write_text(f"{before}\n")


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
        self.edge_count = -(-options["sessions"] // self.capacity)
        self.loads = []    # whose clients stay until the end
        self.senders = []  # of the present stage
        self.load_count = 0
        self.edges = []
        self.addresses = []
        self.sessions = 0
        self.idle = 0      # sessions of `loads`

    def check_sockets(self):
        """Of the core: one for each trunk, and its listener."""
        trunks = self.edge_count * self.options["trunks"]
        if trunks + 1 > CORE_SOCKETS_MAX:
            raise common.Failure(f"{self.edge_count} edges with {self.options['trunks']} trunks each would need "
                                 f"{trunks + 1} sockets of the core, which may hold {CORE_SOCKETS_MAX}: give fewer "
                                 "--trunks or --sessions, or more clients to each edge (--per-edge, open files)")

    def start(self):
        patience = ["--ping-timeout", f"{PATIENCE_SECONDS}s", "--handshake-timeout", f"{PATIENCE_SECONDS}s"]
        self.core, address = self.bench.core("--workers", self.options["core-workers"], *patience)
        for i in range(self.edge_count):
            edge, edge_address = self.bench.edge(address, "--workers", "1", "--trunks", self.options["trunks"],
                                                 "--open-timeout", f"{PATIENCE_SECONDS}s", *patience, name=f"edge-{i}",
                                                 nice=EDGE_NICE)
            self.edges.append(edge)
            self.addresses.append(edge_address)
        # A few clients each, so that what is loaded once is not taken for the sessions'.
        warm = [common.Load(self.bench, f"warm-{i}", edge_address, "--clients", "20", "--rate", "50", "--duration", "0",
                            wait=False) for i, edge_address in enumerate(self.addresses)]
        for load in warm:
            load.finish(allowed=(0, 4))

    def check_memory(self, before, now):
        """Would the sessions that are missing fit? Judged by what those that are open have taken."""
        if now["sessions"] < MEMORY_SESSIONS:
            return
        each = (before["available_kb"] - now["available_kb"]) / now["sessions"]
        need = each * (self.options["sessions"] - now["sessions"])
        if need > now["available_kb"] - MEMORY_SPARE_KB:
            raise common.Failure(f"{self.options['sessions']:,} sessions would need {need / 1048576:.1f} GiB more at "
                                 f"{each:.1f} KB each, clients included; {now['available_kb'] / 1048576:.1f} GiB are "
                                 "left: give fewer --sessions")

    def senders_of(self, sessions):
        """How many sessions are to carry the traffic of a stage, and leave then. The last stage is measured with all."""
        stages = self.options["stages"]
        if sessions == stages[-1]:
            return 0
        if sessions == stages[0]:
            return sessions
        senders = max(stages[0], min(sessions // 10, SENDERS_MAX))
        return sessions - max(self.idle, sessions - senders)

    def messages_per_second(self, sessions):
        """The same at each stage; more only at a last one of more sessions than growth is judged for."""
        total = self.options["sessions"]
        return max(1, (total if sessions == total else min(total, GROWTH_SESSIONS)) * self.options["active"] // 100)

    def open_to(self, sessions):
        """Opens what is missing, spread evenly over the edges: those that stay until the end, and among them the
        senders of this stage. All share the rate."""
        senders = self.senders_of(sessions)
        idle = sessions - senders
        total = self.options["sessions"]
        missing = sessions - self.idle
        stay, go = [], []
        for i in range(len(self.edges)):
            clients = share(idle, i, len(self.edges)) - share(self.idle, i, len(self.edges))
            self.begin(stay, i, clients, missing, self.messages_per_second(total) / total)
            clients = share(sessions, i, len(self.edges)) - share(idle, i, len(self.edges))
            self.begin(go, i, clients, missing, self.messages_per_second(sessions) / max(1, senders))
        self.wait_open(stay + go, missing)
        self.loads += stay
        self.senders = go
        self.idle = idle
        self.sessions = sessions

    def begin(self, loads, edge, clients, missing, each):
        """Starts a load generator; `each` is the number of messages that one client sends in a second."""
        if clients == 0:
            return
        self.load_count += 1
        before = sum(load.clients for load in loads)
        messages = round((before + clients) * each) - round(before * each)
        # Each edge has four addresses of its own: ports are counted for each pair of addresses, and the kernel looks for
        # a free one longer and longer once a third of them is taken.
        first = 4 * (edge + 1)
        load = common.Load(self.bench, f"load-{self.load_count}", self.addresses[edge], "--clients", clients, "--rate",
                           -(-self.options["rate"] * clients // missing), "--opening",
                           max(20, 400 // len(self.edges)), "--timeout", PATIENCE_SECONDS, "--source-addresses",
                           f"127.77.{first // 256}.{first % 256}/30", "--messages-per-second", max(1, messages),
                           "--duration", LEAD_SECONDS + self.options["seconds"] + TAIL_SECONDS, "--random", nice=LOAD_NICE)
        load.clients = clients
        loads.append(load)

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
                common.say(f"about {min(missing, (sockets - before) // 2):,} of {missing:,} more sessions after "
                    f"{now - begun:.0f} s")

    def check_alive(self):
        for program in [self.core] + self.edges:
            if program.process.poll() is not None:
                program.fail(f"has ended with status {program.process.returncode}")

    def costs(self):
        """Now, for the table: kB, files and sockets."""
        parts = {"edges": self.edges, "core": [self.core], "loads": self.loads + self.senders}
        figures = {"sessions": self.sessions, "core_sockets": self.core.sockets(),
                   "sockstat_kb": sockstat("mem") * PAGE_KB, **meminfo()}
        for part, programs in parts.items():
            memory = [program.memory_kb() for program in programs]
            figures[f"{part}_anon_kb"] = sum(anonymous for anonymous, _ in memory)
            figures[f"{part}_kb"] = sum(total for _, total in memory)
            figures[f"{part}_files"] = sum(program.files() for program in programs)
            figures[f"{part}_page_tables_kb"] = sum(program.page_tables_kb() for program in programs)
        return figures

    def settle(self):
        common.settle([self.core] + self.edges)

    def mark(self):
        """(now, CPU seconds of the core, and of all edges)."""
        return time.monotonic(), self.core.cpu_seconds(), sum(edge.cpu_seconds() for edge in self.edges)

    def traffic(self):
        """Lets the senders of this stage send, all sessions at the last. They leave afterwards. Nothing else is looked
        at meanwhile, as that would hold up the processes that are measured."""
        loads, self.senders = (self.senders, []) if self.senders else (self.loads, [])
        seconds = self.options["seconds"]
        for load in loads:
            load.go()
        begun = time.monotonic()
        marks = []
        for i in range(INTERVALS + 1):
            time.sleep(max(0, begun + LEAD_SECONDS + i * seconds / INTERVALS - time.monotonic()))
            marks.append(self.mark())
        busy = self.costs()
        if time.monotonic() - begun > LEAD_SECONDS + seconds + TAIL_SECONDS:
            common.say("memory during the traffic was looked at too late: some sessions may have left")
        # What went wrong is told with the figures, at the end.
        figures = [load.finish(CLOSE_SECONDS, allowed=(0, 1, 4)) for load in loads]
        self.sessions -= sum(load.clients for load in loads)
        sent = sum(one["messages"]["sent"] - one["clients"] for one in figures)
        each_second = sent / (LEAD_SECONDS + seconds + TAIL_SECONDS)

        def per_message(part):
            return [(after[part] - before[part]) / max(1, each_second * (after[0] - before[0])) * 1e6
                    for before, after in zip(marks, marks[1:])]
        core, edges = per_message(1), per_message(2)
        return {
            "senders": sum(load.clients for load in loads), "messages": sent, "messages_per_second": each_second,
            "core_us": core, "edges_us": edges,
            "core_us_per_message": statistics.median(core), "edges_us_per_message": statistics.median(edges),
            "echo_p50_us": max(one["microseconds"]["echo"]["p50"] for one in figures),
            "echo_p99_us": max(one["microseconds"]["echo"]["p99"] for one in figures),
            "faults": sum(one["messages"][name] for one in figures
                          for name in ("missing", "repeated", "altered", "broken_streams", "unanswered", "unsent")),
            "failed": sum(one["failed"] for one in figures),
            "late_loads": sum(one["bottleneck"] for one in figures),
            "busy": busy,
        }


def add_kernel_memory(stages):
    """Adds "PART_kernel_kb": what slabs have grown by since the start, divided by files, and page tables."""
    start = stages[0]
    for stage in stages + [stage["traffic"]["busy"] for stage in stages if "traffic" in stage]:
        # Other programs may have given some back since.
        slab = stage["slab_grown_kb"] = max(0, stage["slab_kb"] - start["slab_kb"])
        grown = {part: max(0, stage[f"{part}_files"] - start[f"{part}_files"]) for part in PARTS}
        for part in PARTS:
            of_slab = slab * grown[part] / max(1, sum(grown.values()))
            stage[f"{part}_kernel_kb"] = round(of_slab) + stage[f"{part}_page_tables_kb"]


def growth(stages):
    """For each stage with traffic, CPU for one message against the first one: adds "core_growth" and "edges_growth"
    where the messages per second are the same."""
    first = stages[1].get("traffic") if len(stages) > 1 else None
    for stage in stages[2:]:
        traffic = stage.get("traffic")
        if traffic and abs(traffic["messages_per_second"] / max(1, first["messages_per_second"]) - 1) < 0.05:
            for part in ("core", "edges"):
                name = f"{part}_us_per_message"
                traffic[f"{part}_growth"] = traffic[name] / max(1e-9, first[name])


def memory_row(name, stage, per_session):
    """One line of the table; `per_session` makes text of the growth of a figure."""
    cells = [name]
    for part in PARTS:
        cells += [f"{stage[part + '_anon_kb'] / 1024:,.0f}", f"{stage[part + '_kernel_kb'] / 1024:,.0f}"]
        if part != "loads":
            cells.insert(-1, per_session(f"{part}_anon_kb"))
    return cells + [f"{stage['slab_grown_kb'] / 1024:,.0f}", per_session("slab_grown_kb"),
                    f"{stage['sockstat_kb'] / 1024:,.0f}", str(stage["core_sockets"])]


def report_stages(stages):
    rows = [memory_row("0", stages[0], lambda _: "")]
    for before, stage in zip(stages, stages[1:]):
        grown = stage["sessions"] - before["sessions"]
        rows.append(memory_row(f"{stage['sessions']:,}", stage, lambda name, before=before, stage=stage, grown=grown:
                               f"{(stage[name] - before[name]) * 1024 / grown:,.0f}"))
    if "traffic" in stages[-1]:
        rows.append(memory_row("busy", stages[-1]["traffic"]["busy"], lambda _: ""))
    common.table(["sessions", "edges MB", "B each", "kernel", "core MB", "B each", "kernel", "clients MB", "kernel",
                  "slab MB", "B each", "buffers MB", "core sockets"], rows)


def report_traffic(stages):
    rows = []
    for stage in stages[1:]:
        opening = [f"{stage[part + '_open_cpu'] / stage['opened'] * 1e6:,.0f}" for part in ("edges", "core")]
        traffic = stage.get("traffic")
        if not traffic:
            rows.append([f"{stage['sessions']:,}"] + opening + [""] * 11)
            continue
        rows.append([f"{stage['sessions']:,}"] + opening +
                    [f"{traffic['senders']:,}", f"{traffic['messages_per_second']:,.0f}",
                     f"{traffic['messages']:,}", f"{traffic['faults']:,}", f"{traffic['failed']:,}"] +
                    [f"{traffic[name] / 1000:.2f}" for name in ("echo_p50_us", "echo_p99_us")] +
                    [text for part in ("edges", "core")
                     for text in (f"{traffic[part + '_us_per_message']:.1f}",
                                  f"{traffic[part + '_growth']:.2f}" if part + "_growth" in traffic else "")])
    common.table(["sessions", "edge us/open", "core us/open", "senders", "messages/s", "messages", "faults", "failed",
                  "p50 ms", "p99 ms", "edge us/message", "x first", "core us/message", "x first"], rows)
    common.tell("faults: lost, doubled, altered or late for ever; failed: clients; latencies: of the worst load process")
    late = sum(stage["traffic"]["late_loads"] for stage in stages if "traffic" in stage)
    if late:
        common.tell(f"{late} load generators fell behind their own schedule: latencies say more of them than of the relays")


def report_growth(stages):
    """A line for the bar of each part; what has missed it."""
    judged = [stage for stage in stages[2:]
              if stage["sessions"] <= GROWTH_SESSIONS and "core_growth" in stage.get("traffic", {})]
    if not judged or stages[1]["sessions"] > GROWTH_FIRST:
        common.tell(f"growth of CPU per message: not judged; that needs a first stage of {GROWTH_FIRST:,} sessions or "
                    "fewer and another")
        return []
    missed = []
    for part in ("edges", "core"):
        most = max(judged, key=lambda stage, part=part: stage["traffic"][part + "_growth"])
        factor = most["traffic"][part + "_growth"]
        missed += common.judge(f"CPU for one message on the {part}, up to {judged[-1]['sessions']:,} sessions, at most "
                               f"{GROWTH_MAX} times that at {stages[1]['sessions']:,}: {factor:.2f} at "
                               f"{most['sessions']:,}", factor <= GROWTH_MAX)
    return missed


def measure(bench, options, stages):
    """Adds each stage to `stages` as soon as it is measured."""
    fleet = Fleet(bench, options)
    fleet.check_sockets()
    fleet.start()
    common.tell(f"1 core of {options['core-workers']} threads, {len(fleet.edges)} edges of up to {fleet.capacity:,} clients "
                f"with {options['trunks']} trunks each, {bench.files:,} open files for each process")
    fleet.settle()
    stages.append(fleet.costs())
    for sessions in options["stages"]:
        begun, missing = fleet.mark(), sessions - fleet.idle
        fleet.open_to(sessions)
        opened = fleet.mark()
        fleet.settle()
        stages.append(fleet.costs())
        stages[-1].update(opened=missing, core_open_cpu=opened[1] - begun[1], edges_open_cpu=opened[2] - begun[2])
        common.say(f"{sessions:,} open after {opened[0] - begun[0]:.0f} s")
        fleet.check_memory(stages[0], stages[-1])
        stages[-1]["traffic"] = fleet.traffic()


def verdict(stages):
    """A line for each other bar; what has missed it."""
    traffics = [stage["traffic"] for stage in stages if "traffic" in stage]
    sockets = max(one["core_sockets"] for one in stages + [traffic["busy"] for traffic in traffics])
    faults = sum(traffic["faults"] for traffic in traffics)
    failed = sum(traffic["failed"] for traffic in traffics)
    return common.judge(f"sockets of the core, at most {CORE_SOCKETS_MAX}: {sockets}", sockets <= CORE_SOCKETS_MAX) + \
        common.judge(f"every byte of {sum(traffic['messages'] for traffic in traffics):,} messages once and in order: "
                     f"{faults:,} faults, {failed:,} clients failed", faults == 0 and failed == 0)


def run():
    options = arguments(sys.argv[1:])
    check_limits(options["sessions"])
    common.print_machine()
    stages = []
    missed = []
    try:
        with room_for_probes(options["sessions"]), common.Bench() as bench:
            measure(bench, options, stages)
    finally:
        # A run that fails half-way, or is ended, has still measured something.
        if stages:
            add_kernel_memory(stages)
            growth(stages)
        if len(stages) > 1:
            report_stages(stages)
            report_traffic(stages)
            missed = report_growth(stages) + verdict(stages)
        if stages:
            common.keep(options, stages=stages, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
