"""Usage: scripts/bench resume [OPTION]...

Sessions that outlive their trunk: many sessions with traffic while trunks are lost all the time, and what it costs that
bytes are kept until they are acknowledged.

  --part NAME[,NAME]      faults, cost (default: both)
  --only NAME[,NAME]      faults: trunkline, haproxy, nghttpx (default: all)
  --sessions N            faults: (default 10000)
  --messages-per-second N faults: of all sessions together (default 5000)
  --seconds N             faults: with Trunkline (default 300)
  --peer-seconds N        faults: with each peer (default 20)
  --seed N                faults: of all that is drawn (default 1)
  --rounds N              cost: (default 12)
  --round-seconds N       cost: traffic of one round, with and without (default 4)
  --json FILE             figures for machines
  --markdown FILE         what is printed, as Markdown

Faults: one edge (a worker, 4 trunks) and one core; between them trunkline-chaos. Every 2 s one of two faults is
drawn: connections are reset, or they become black holes, which drop every byte. Each trunk is hit with a probability
of a quarter, and it is drawn again until one is hit; so now and then it is several. A black hole is noticed when a
PING stays unanswered, so both ends run with --ping-interval 1s --ping-timeout 1s; it lasts 1 to 2 s by that. Load
generators send 100 bytes in turn on all sessions, to be echoed, and check each byte. A session that waits is no
failure to them; one that ends is, and so is a byte lost, doubled, reordered or altered.

The pause that a session sees: 20 further sessions send 32 bytes every 20 ms, one message at a time. For each fault
and each of them, the pause is the longest echo among those sent from 20 ms before the fault until 20 ms before the
next one. Most faults hit a quarter of the sessions or two, so that the median is that of the others, and the 90th
percentile that of the hit. Quiet windows, as long as those of faults, are measured before the first fault.

Peers see the same faults on the connections behind them: HAProxy with TLS in front and TCP behind, one connection for
each session, to a service that echoes (one in a black hole is not lost, but stands still: its messages count as
wrong); nghttpx with HTTP/1.1 over TLS in front and HTTP/2 behind, to nghttpd, GET after GET on each session. A
session that ended is lost; a request that was answered with an error is told beside it.

Cost: two pairs of edge and core run, one with resuming, one with --resume-timeout 0. In each round one after the
other relays 5,000 messages of 100 bytes a second on 500 sessions, in turns of order. CPU for a message is that of the
process, divided by the messages; the median of the ratios of the rounds counts.

The bars: no session lost and no byte wrong with Trunkline; a message costs at most 1.10 times the CPU with resuming,
on the edge and on the core. Ends with status 1 if one is missed.
"""

import json
import random
import re
import signal
import socket
import ssl
import statistics
import sys
import threading
import time
import urllib.request

import common
import idle

PARTS = ("faults", "cost")
FAULTS = {"reset": "reset", "black hole": "black_hole"}  # toxics by their names in the report
FAULT_SECONDS = 2.0
SHARE = 0.25               # of the connections that a fault hits
QUIET_SECONDS = 10
TRUNKS = 4
LOADS = 4
LOAD_NICE = 10
RATE = 1500                # new clients per second
PATIENCE_SECONDS = 60      # for a handshake, and the last answers
PEER_PATIENCE_SECONDS = 15 # with peers, where some answers never come
WATCHERS = 20
WATCH_SECONDS = 0.02       # between a watcher's messages
HIT_SECONDS = 0.2          # that chaos may take to tell whether a fault has hit
COST_MAX = 1.10
COST_SESSIONS = 500
COST_PER_SECOND = 5000
COST_LEAD_SECONDS = 1.0
WRONG = ("missing", "repeated", "altered", "broken_streams", "unanswered", "unsent", "wrong_status", "wrong_length")


class Chaos(common.Program):
    """trunkline-chaos with one proxy."""

    def __init__(self, bench, upstream, seed):
        super().__init__(bench, "chaos", common.BIN / "trunkline-chaos", "--proxy", f"p=127.0.0.1:0,{upstream}", "--api",
                         "127.0.0.1:0", "--seed", seed, "--log-level", "error")
        self.proxy = self.address()
        self.api = self.wait_until(lambda: re.search(r"^api on (\S+)$", self.out.read_text(), re.M), "say its API")[1]
        self.count = 0

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://{self.api}{path}", None if body is None else json.dumps(body).encode(),
                                         method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def hits(self, name):
        for line in self.call("GET", "/metrics").splitlines():
            if line.startswith("trunkline_chaos_toxic_hits_total") and f'toxic="{name}"' in line:
                return int(line.split()[-1])
        return 0

    def strike(self, kind, stream):
        """Hits some of the open connections; how many: 0 if there are none any more."""
        hits = 0
        given_up = time.monotonic() + FAULT_SECONDS
        while hits == 0 and time.monotonic() < given_up:
            self.count += 1
            name = f"fault-{self.count}"
            self.call("POST", "/proxies/p/toxics", {"name": name, "type": kind, "stream": stream, "toxicity": SHARE})
            end = time.monotonic() + HIT_SECONDS
            while hits == 0 and time.monotonic() < end:
                hits = self.hits(name)
            # What it has done to a connection stays done.
            self.call("DELETE", f"/proxies/p/toxics/{name}")
        return hits


class Watcher(threading.Thread):
    """A session that sends message after message: when each was sent, and how long its echo took."""

    def __init__(self, address, authority):
        super().__init__(daemon=True)
        host, port = address.rsplit(":", 1)
        context = ssl.create_default_context(cafile=authority)
        self.tls = context.wrap_socket(socket.create_connection((host, int(port)), PATIENCE_SECONDS),
                                       server_hostname="localhost")
        self.tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.over = threading.Event()
        self.echoes = []
        self.fault = None

    def run(self):
        try:
            while not self.over.wait(WATCH_SECONDS):
                self.echo(b"%032d" % len(self.echoes))
        except (OSError, common.Failure) as error:
            self.fault = str(error) or type(error).__name__
        finally:
            self.tls.close()

    def echo(self, message):
        begun = time.monotonic()
        self.tls.sendall(message)
        back = b""
        while len(back) < len(message):
            part = self.tls.recv(len(message) - len(back))
            if not part:
                raise common.Failure("the connection ended")
            back += part
        if back != message:
            raise common.Failure("what came back is not what was sent")
        self.echoes.append((begun, time.monotonic() - begun))

    def longest(self, begin, end):
        """Of the echoes sent then; None if there was none."""
        return max((took for sent, took in self.echoes if begin <= sent < end), default=None)


def pauses(watchers, windows):
    """Milliseconds, sorted: the longest echo of each watcher in each window (begin, end)."""
    found = [watcher.longest(begin - WATCH_SECONDS, end - WATCH_SECONDS) for begin, end in windows for watcher in watchers]
    return sorted(pause * 1000 for pause in found if pause is not None)


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class Trunkline:
    """Edge, core and trunkline-chaos between them."""

    load_options = ()

    def __init__(self, bench, options):
        pings = ("--ping-interval", "1s", "--ping-timeout", "1s", "--log-level", "info", "--log-format", "json",
                 "--handshake-timeout", f"{PATIENCE_SECONDS}s")
        self.sessions = options["sessions"]
        self.core, address = bench.core("--workers", "2", *pings)
        self.chaos = Chaos(bench, address, options["seed"])
        self.edge, self.address = bench.edge(self.chaos.proxy, "--workers", "1", "--trunks", TRUNKS, "--reconnect-max",
                                             "500ms", "--open-timeout", f"{PATIENCE_SECONDS}s", *pings)

    def totals(self):
        """Ends both; the counters of their last lines."""
        last = {}
        for program, event in ((self.edge, "edge-stopped"), (self.core, "core-stopped")):
            program.process.send_signal(signal.SIGTERM)
            program.process.wait(60)
            lines = [json.loads(line) for line in program.log.read_text().splitlines() if event in line]
            if not lines:
                program.fail("has not told its totals")
            last[event] = lines[-1]
        return last


class HaproxyBehind:
    """HAProxy, TCP through trunkline-chaos, and the service."""

    load_options = ()

    def __init__(self, bench, options):
        service = common.Program(bench, "service", common.BIN / "trunkline-bench-service", "127.0.0.1:0")
        self.sessions = min(options["sessions"], (bench.files - common.FILES_SPARE) // idle.Haproxy.files_per_client)
        self.chaos = Chaos(bench, service.address(), options["seed"])
        subject = idle.Haproxy(bench, self.chaos.proxy)
        subject.start()
        self.address = subject.address


class NghttpxBehind(idle.Nghttpx):
    """nghttpx, HTTP/2 through trunkline-chaos, and nghttpd."""

    load_options = ("--traffic", "http", "--path", "/hundred", "--length", "100", "--alpn", "http/1.1")
    backend_options = ";;proto=h2"

    def __init__(self, bench, options):
        self.sessions = options["sessions"]
        port = common.free_port()
        site = bench.directory / "site"
        site.mkdir(exist_ok=True)
        (site / "hundred").write_bytes(b"x" * 100)
        server = common.Program(bench, "nghttpd", "/usr/sbin/nghttpd", "--no-tls", "--address=127.0.0.1", "--htdocs", site,
                                "--max-concurrent-streams=10000", port)
        server.wait_port(port)
        self.chaos = Chaos(bench, f"127.0.0.1:{port}", options["seed"])
        super().__init__(bench, self.chaos.proxy)
        self.start()


SUBJECTS = {"trunkline": Trunkline, "haproxy": HaproxyBehind, "nghttpx": NghttpxBehind}


def share(number, index, count):
    return number // count + (index < number % count)


def start_loads(bench, subject, messages, seconds):
    patience = PATIENCE_SECONDS if isinstance(subject, Trunkline) else PEER_PATIENCE_SECONDS
    loads = []
    for i in range(LOADS):
        loads.append(common.Load(bench, f"load-{i}", subject.address, "--clients", share(subject.sessions, i, LOADS), "--rate",
                                 RATE // LOADS, "--timeout", patience, "--source-addresses", f"127.77.0.{8 + 4 * i}/30",
                                 "--messages-per-second", max(1, messages // LOADS), "--duration", seconds,
                                 *subject.load_options, nice=LOAD_NICE))
    for load in loads:
        load.wait_ready()
    return loads


def strike_for(subject, generator, seconds, check):
    """Faults for so long: (time, name, connections hit) of each."""
    found = []
    begun = time.monotonic()
    while (due := begun + len(found) * FAULT_SECONDS) < begun + seconds - FAULT_SECONDS:
        time.sleep(max(0.0, due - time.monotonic()))
        check()
        name = generator.choice(sorted(FAULTS))
        stream = generator.choice(("upstream", "downstream"))
        at = time.monotonic()
        found.append((at, name, subject.chaos.strike(FAULTS[name], stream)))
    time.sleep(max(0.0, begun + seconds - time.monotonic()))
    return found


def faults_of(bench, name, options):
    """The figures of one program."""
    subject = SUBJECTS[name](bench, options)
    ours = name == "trunkline"
    seconds = options["seconds" if ours else "peer-seconds"]
    watchers = [Watcher(subject.address, bench.pki / "ca.crt") for _ in range(WATCHERS)] if ours else []
    lead = QUIET_SECONDS if ours else 1
    loads = start_loads(bench, subject, options["messages-per-second"], lead + seconds + 3)

    def check():
        for program in bench.programs:
            if program not in loads and program.process.poll() is not None:
                program.fail(f"has ended with status {program.process.returncode}")
    for load in loads:
        load.go()
    for watcher in watchers:
        watcher.start()
    quiet = time.monotonic() + 1
    time.sleep(lead)
    struck = strike_for(subject, random.Random(options["seed"]), seconds, check)
    ended = time.monotonic()
    figures = [load.finish(PATIENCE_SECONDS * 3, allowed=(0, 1, 4)) for load in loads]
    for watcher in watchers:
        watcher.over.set()
    for watcher in watchers:
        watcher.join(2 * PATIENCE_SECONDS)
        if watcher.is_alive():
            watcher.fault = "no answer has come"
    windows = [(at, at + FAULT_SECONDS, kind) for at, kind, _ in struck]
    windows += [(quiet + i * FAULT_SECONDS, quiet + (i + 1) * FAULT_SECONDS, "quiet")
                for i in range(int((QUIET_SECONDS - 1) / FAULT_SECONDS))]
    result = {
        "sessions": subject.sessions + len(watchers), "faults": len(struck), "hit": sum(hits for _, _, hits in struck),
        "kinds": {kind: sum(one == kind for _, one, _ in struck) for kind in FAULTS}, "seconds": ended - quiet,
        "lost": sum(one["failed"] for one in figures) + sum(watcher.fault is not None for watcher in watchers),
        "first": [one["first_failure"] for one in figures if one["first_failure"]] + [w.fault for w in watchers if w.fault],
        "wrong": {key: sum({**one["messages"], **one["http"]}[key] for one in figures) for key in WRONG},
        "messages": sum(one["messages"]["sent"] + one["http"]["requests"] for one in figures) + sum(len(watcher.echoes) for watcher in watchers),
        "late_loads": sum(one["bottleneck"] for one in figures),
        "load_us": [one["microseconds"].get("echo" if not subject.load_options else "answer") for one in figures],
        "pauses_ms": {kind: pauses(watchers, [(begin, end) for begin, end, one in windows if one == kind])
                      for kind in ("quiet", *FAULTS)},
        "totals": subject.totals() if ours else {},
    }
    bench.stop_all()
    return result


def report_faults(results):
    rows = []
    for name, r in results.items():
        rows.append([name, f"{r['sessions']:,}", f"{r['faults']}", f"{r['hit']:,}", f"{r['messages']:,}", f"{r['lost']:,}",
                     f"{sum(r['wrong'].values()):,}"])
    common.table(["", "sessions", "faults", "connections hit", "messages or requests", "sessions lost", "bytes or answers wrong"], rows)
    for name, r in results.items():
        if r["first"]:
            common.tell(f"{name}: first failure: {r['first'][0]}")
        if r["late_loads"]:
            common.tell(f"{name}: {r['late_loads']} of {LOADS} load generators fell behind their own schedule")
    ours = results.get("trunkline")
    if ours is None:
        return
    rows = [[kind, f"{len(found)}"] + [f"{percentile(found, percent):,.1f}" for percent in (50, 75, 90, 99)] +
            [f"{found[-1]:,.1f}"] for kind, found in ours["pauses_ms"].items() if found]
    common.table(["longest echo in a window", "pauses", "p50 ms", "p75 ms", "p90 ms", "p99 ms", "max ms"], rows)
    edge, core = ours["totals"]["edge-stopped"], ours["totals"]["core-stopped"]
    common.tell(f"edge: {edge['suspended']:,} times a session lost its trunk, {edge['resumed']:,} times it went on; core: "
                f"{core['sessions_resumed']:,} went on, {core['resumes_refused']:,} refused")


def judge_faults(results):
    if "trunkline" not in results:
        return []
    ours = results["trunkline"]
    wrong = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in ours["wrong"].items() if count) or "none wrong"
    return common.judge(f"every session goes on through {ours['faults']} faults: {ours['lost']:,} lost", ours["lost"] == 0) + \
        common.judge(f"every byte of {ours['messages']:,} messages once and in order: {wrong}", wrong == "none wrong")


# ---- cost ----

class Pair:
    """Edge and core, with options for both."""

    def __init__(self, bench, name, *options):
        self.bench = bench
        core, address = bench.core("--workers", "1", *options, name=f"core-{name}")
        edge, self.address = bench.edge(address, "--workers", "1", "--trunks", TRUNKS, *options, name=f"edge-{name}")
        self.parts = {"edge": edge, "core": core}

    def measure(self, name, seconds):
        """CPU for one message by part, in microseconds."""
        load = common.Load(self.bench, name, self.address, "--clients", COST_SESSIONS, "--rate", RATE, "--messages-per-second",
                           COST_PER_SECOND, "--duration", seconds + 2 * COST_LEAD_SECONDS, nice=LOAD_NICE)
        load.wait_ready()
        load.go()
        time.sleep(COST_LEAD_SECONDS)
        begun = time.monotonic(), {part: program.cpu_seconds() for part, program in self.parts.items()}
        time.sleep(seconds)
        ended = time.monotonic(), {part: program.cpu_seconds() for part, program in self.parts.items()}
        load.finish(allowed=(0, 4))
        return {part: (ended[1][part] - begun[1][part]) / (COST_PER_SECOND * (ended[0] - begun[0])) * 1e6
                for part in self.parts}


def costs_of(bench, options):
    """By part, a pair (with, without) for each round."""
    pairs = {"on": Pair(bench, "on"), "off": Pair(bench, "off", "--resume-timeout", "0")}
    for name, pair in pairs.items():
        pair.measure(f"warm-{name}", 1)
    found = {"edge": [], "core": []}
    for number in range(options["rounds"]):
        common.say(f"cost, round {number + 1} of {options['rounds']}")
        order = ("on", "off") if number % 2 == 0 else ("off", "on")
        costs = {name: pairs[name].measure(f"{name}-{number}", options["round-seconds"]) for name in order}
        for part, rounds in found.items():
            rounds.append((costs["on"][part], costs["off"][part]))
    bench.stop_all()
    return found


def cost_ratio(rounds):
    return statistics.median(on / max(1e-9, off) for on, off in rounds)


def report_costs(costs):
    rows = []
    for part, rounds in costs.items():
        ratios = sorted(on / max(1e-9, off) for on, off in rounds)
        rows.append([part, f"{statistics.median(on for on, _ in rounds):.1f}", f"{statistics.median(off for _, off in rounds):.1f}",
                     f"{cost_ratio(rounds):.2f}", f"{ratios[0]:.2f}-{ratios[-1]:.2f}"])
    common.table(["CPU for one message", "us, resuming", "us, without", "ratio", "of rounds"], rows)


def judge_costs(costs):
    missed = []
    for part, rounds in costs.items():
        ratio = cost_ratio(rounds)
        missed += common.judge(f"CPU for one message on the {part} with resuming, at most {COST_MAX:.2f} times that without: "
                               f"{ratio:.2f}", ratio <= COST_MAX)
    return missed


def arguments(words):
    options = {"part": list(PARTS), "only": list(SUBJECTS), "sessions": 10000, "messages-per-second": 5000, "seconds": 300,
               "peer-seconds": 20, "seed": 1, "rounds": 12, "round-seconds": 4, "json": None, "markdown": None}
    return common.read_options(__doc__, options, words,
                               {"part": idle.names_of(PARTS), "only": idle.names_of(SUBJECTS)})


def run():
    options = arguments(sys.argv[1:])
    common.print_machine()
    results, costs, missed = {}, {}, []
    try:
        with common.Bench() as bench:
            for name in options["only"] if "faults" in options["part"] else []:
                common.say(f"faults: {name} ...")
                results[name] = faults_of(bench, name, options)
            if "cost" in options["part"]:
                costs = costs_of(bench, options)
    finally:
        for found, report, judge in ((results, report_faults, judge_faults), (costs, report_costs, judge_costs)):
            if found:
                report(found)
                missed += judge(found)
        common.keep(options, faults=results, costs=costs, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
