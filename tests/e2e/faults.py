"""What the chaos suite and the soak share: edges and a core with trunkline-chaos in three places, rounds of
trunkline-load beside faults drawn from a seed, and the judgement over each round.

    trunkline-load --> chaos "client" --> edge --> chaos "trunk" --> core --> echo
                                                                      core --> chaos "backend" --> bench-service

A round is reproduced from its seed, which it prints; each chaos also writes its decisions to a log for --replay.
"""
import contextlib
import dataclasses
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import harness
from harness import BIN, EXIT_OK, Process, join_address, patience, pki, split_address, wait_for

SITES = ("client", "trunk", "backend")
STREAMS = ("upstream", "downstream")
ACTIONS_THAT_END = ("drop", "half_close", "close", "reset", "corrupt")
FINISHED, BOTTLENECK = (0, 1), 4
CLIENTS = 24               # of each load
BYTES_PER_SECOND = 100_000  # that all clients of a load send: any line that a fault slows down can still carry it
TRUNKS = 4                 # of each edge, which has two workers
LATE_SECONDS = 1           # of trunks' faults, after the traffic that they meet
DRAIN_SECONDS = 40         # a black-holed trunk is found dead after two PING intervals, its sessions given up after 12 s
PING = ("--ping-interval", "2s", "--ping-timeout", "3s")


# ------------------------------------------------------------------------------------------------ faults

@dataclasses.dataclass(frozen=True)
class Fault:
    """A toxic of one place. `ends`: it ends connections, rather than delaying them."""
    site: str
    stream: str
    type: str
    attributes: tuple
    toxicity: float = 1.0

    @property
    def ends(self):
        return self.type in ENDING

    @property
    def key(self):
        return f"{self.type}_{self.stream}"

    def json(self):
        return {"name": self.key, "type": self.type, "stream": self.stream, "toxicity": self.toxicity,
                "attributes": dict(self.attributes)}

    def __str__(self):
        values = ",".join(f"{name}={value}" for name, value in self.attributes)
        return f"{self.site}:{self.type},stream={self.stream},{values},toxicity={self.toxicity:.2f}"


def draw_slicer(dice, site):
    # A trunk carries the bytes of all, so its slices must not be as slow as those of one client.
    size = dice.choice((1, 5, 40, 300)) if site != "trunk" else dice.choice((60, 300, 1000))
    # Each delay is a wake-up of the proxy's one thread, which could not carry what all clients send a few bytes at a time.
    delay = dice.choice((0, 50)) if site == "trunk" else dice.choice((0, 100, 1000)) if size >= 40 else 0
    return {"average_size": size, "size_variation": dice.randint(0, size - 1), "delay": delay,
            "delay_variation": delay // 2}


def draw_latency(dice, _):
    latency = dice.randint(1, 120)
    return {"latency": latency, "jitter": dice.randint(0, latency)}


def draw_bandwidth(dice, site):
    return {"rate": dice.randint(1500, 8000) if site == "trunk" else dice.randint(60, 600)}


def draw_pause(dice, _):
    return {"after": dice.randint(0, 800), "interval": dice.choice((0, 400, 900)), "duration": dice.randint(50, 700),
            "duration_variation": 50}


def draw_slow_close(dice, _):
    return {"delay": dice.randint(20, 600)}


def draw_slow_open(dice, _):
    return {"delay": dice.randint(10, 400), "jitter": 10}


def draw_cut(dice, site):
    """By bytes, by time, or by both. A trunk's bytes are those of many clients, and its handshake takes 4 KB."""
    bytes_most = 60_000 if site == "trunk" else 12_000
    by = dice.choice(("bytes", "time", "both"))
    return {**({"after_bytes": dice.randint(1, bytes_most)} if by != "time" else {}),
            **({"after_ms": dice.randint(1, 1800)} if by != "bytes" else {})}


def draw_reset(dice, site):
    if dice.random() < 0.25:
        return {"idle_ms": dice.randint(100, 600), "variation": 50}
    return {**draw_cut(dice, site), "variation": dice.randint(0, 100)}


def draw_corrupt(dice, site):
    return {"after_bytes": dice.randint(0, 60_000 if site == "trunk" else 8_000)}


def draw_timeout(dice, _):
    return {"timeout": dice.randint(100, 1500)}


def draw_limit(dice, site):
    return {"bytes": dice.randint(0, 60_000 if site == "trunk" else 8_000)}


DELAYING = {"slicer": draw_slicer, "latency": draw_latency, "bandwidth": draw_bandwidth, "pause": draw_pause,
            "slow_close": draw_slow_close, "slow_open": draw_slow_open}
ENDING = {"reset": draw_reset, "half_close": draw_cut, "black_hole": draw_cut, "corrupt": draw_corrupt,
          "reset_peer": draw_timeout, "timeout": draw_timeout, "limit_data": draw_limit}
# What the decision log calls that which a kind does first; a bandwidth decides nothing.
ACTION_OF = {"slicer": "slice", "latency": "delay", "pause": "pause", "slow_close": "hold", "slow_open": "slow_open",
             "reset": "reset", "half_close": "half_close", "black_hole": "drop", "corrupt": "corrupt",
             "reset_peer": "drop", "timeout": "drop", "limit_data": "close"}
FIN_FAULTS = ("half_close", "timeout", "limit_data")  # they end a stream of plain TCP as its sender would


def allowed(site, kind):
    """Plain TCP behind a backend's chaos cannot tell a corrupted byte from a good one."""
    return not (site == "backend" and kind == "corrupt")


def draw_fault(dice, site, kind, stream=None, toxicity=None):
    stream = stream or dice.choice(STREAMS)
    attributes = {**DELAYING, **ENDING}[kind](dice, site)
    if toxicity is None:
        toxicity = dice.choice((1.0, 0.5)) if kind in DELAYING else dice.choice((0.2, 0.5))
    return Fault(site, stream, kind, tuple(sorted(attributes.items())), toxicity)


def draw_mix(dice, ending_sites):
    """Some faults everywhere; those that end connections at the sites given only."""
    faults = {}
    for site in SITES:
        kinds = dice.sample(sorted(DELAYING), dice.randint(0, 3))
        if site in ending_sites:
            kinds += dice.sample(sorted(kind for kind in ENDING if allowed(site, kind)), dice.randint(0, 2))
        for kind in kinds:
            fault = draw_fault(dice, site, kind)
            faults[site, fault.key] = fault
    return list(faults.values())


# ------------------------------------------------------------------------------------------------ programs

class Chaos(Process):
    """trunkline-chaos with some proxies, its API and a log. `listens`, by name: where to listen; port 0: anywhere."""

    def __init__(self, case, name, seed, upstreams, toxics, listens=None, small_buffers=False):
        config = case.directory / f"{name}.json"
        self.log_path = case.directory / f"{name}.chaos"
        self.names = list(upstreams)
        self.upstreams = upstreams
        config.write_text(json.dumps([
            {"name": each, "listen": join_address((listens or {}).get(each, ("127.0.0.1", 0))),
             "upstream": join_address(upstream), "toxics": [fault.json() for fault in toxics]}
            for each, upstream in upstreams.items()]))
        super().__init__(case, name, [BIN / "trunkline-chaos", "--config", config, "--seed", seed, "--api", "127.0.0.1:0",
                                      "--log", self.log_path, "--receive-buffer", "16K" if small_buffers else "0"],
                         case.directory)
        case.processes.append(self)
        self.wait_output(r"^seed (\d+)$")
        words = [line.split() for line in self.output_text().splitlines()]
        self.api = next(line[2] for line in words if line[0] == "api")
        self.addresses = dict(zip(self.names, [split_address(line[2]) for line in words if line[0] == "listening"]))

    def populate(self, toxics):
        """Its proxies have these from now on, open connections included."""
        body = [{"name": name, "listen": join_address(address), "upstream": join_address(self.upstreams[name]),
                 "toxics": [fault.json() for fault in toxics]} for name, address in self.addresses.items()]
        request = urllib.request.Request(f"http://{self.api}/populate", json.dumps(body).encode(), method="POST",
                                         headers={"User-Agent": "test"})
        with urllib.request.urlopen(request, timeout=10 * patience()) as answer:
            self.case.assertEqual(answer.status, 201)

    def finish(self):
        if self.running():
            self.popen.terminate()
        code = self.wait(20)
        self.case.assertIsNone(harness.SANITIZER.search(self.error_text()), self.error_text()[-4000:])
        self.case.assertEqual(code, EXIT_OK, self.error_text()[-2000:])

    def end(self):
        """Ends it now, and hands it over: the case's clean-up has nothing to do with it any more."""
        self.finish()
        self.case.processes.remove(self)

    def decisions(self):
        """(proxy, connection, action) of each decision; once it has ended, all are there."""
        with open(self.log_path, encoding="utf-8") as log:
            for line in log:
                words = line.split(" ", 7)
                if len(words) == 8 and words[6] != "config":
                    yield words[1], int(words[2]), words[6]

    def count(self, hits):
        """Adds the decisions by action, and returns the connections that a fault has ended, by proxy."""
        ended = {name: set() for name in self.names}
        for proxy, connection, action in self.decisions():
            hits[action] = hits.get(action, 0) + 1
            if action in ACTIONS_THAT_END:
                ended[proxy].add(connection)
        return {name: len(connections) for name, connections in ended.items()}


class Rig:
    """Edges and a core that live through all rounds, and what stands around them. `case.again` tells how to repeat."""

    def __init__(self, case, seed, edges=1, log_level="warning"):
        self.case = case
        self.trunk_port = harness.free_port()
        backend_port = harness.free_port()
        service_port = harness.free_port()
        self.service = ("127.0.0.1", service_port)
        self.backend_listens = {"backend": ("127.0.0.1", backend_port)}
        case.start("service", BIN / "trunkline-bench-service", f"127.0.0.1:{service_port}")
        self.core = case.core("--drain-timeout", "20s", *PING, "--resume-timeout", "12s", services=("echo=echo",
                              f"all=forward:127.0.0.1:{backend_port}"), log_level="info")
        self.trunk = None
        self.trunk_uses = 0
        self.renew_trunk(seed, [])
        self.hits = {}
        self.edges = [case.edge(self.trunk.addresses["trunk"], *PING, "--drain-timeout", "20s", "--trunks", TRUNKS // 2,
                                "--alpn", "all", "--route", "alpn=all,service=all", "--core-name", "core",
                                "--handshake-timeout", "10s", "--linger-timeout", "1s", "--open-timeout", "10s",
                                "--reconnect-max", "300ms", "--resume-timeout", "8s", name=f"edge-{number}",
                                log_level="info", trunks_up=TRUNKS)
                      for number in range(edges)]
        self.sessions = 0
        self.messages = 0
        self.bytes = 0
        self.failed = 0
        self.rest = None

    def programs(self):
        return [self.core, *self.edges]

    def renew_trunk(self, seed, toxics):
        """A new chaos before the core, where edges look for it; all trunks are dialled again."""
        if self.trunk is not None:
            self.trunk.end()
            self.trunk.count(self.hits)
        self.trunk = Chaos(self.case, "trunk", seed, {"trunk": self.core.address}, toxics,
                           {"trunk": ("127.0.0.1", self.trunk_port)})
        self.trunk_uses = 0

    @staticmethod
    def trunks_up(edge):
        up = set()
        for line in edge.log():
            if line["event"] == "trunk-up":
                up.add((line["worker"], line["trunk"]))
            elif line["event"] in ("trunk-down", "trunk-closed"):
                up.discard((line["worker"], line["trunk"]))
        return len(up)

    def wait_trunks(self):
        """All places of all edges have a trunk that is up."""
        wait_for(lambda: all(self.trunks_up(edge) >= TRUNKS for edge in self.edges), 30,
                 lambda: "all trunks are up: " + "; ".join(f"{edge.name} has {self.trunks_up(edge)}" for edge in self.edges))

    def drained(self):
        """Nothing is left of a round: as many files are open as before."""
        files = {program.name: program.files() for program in self.programs()}
        if self.rest is None:
            self.rest = files
        return all(files[name] <= self.rest[name] for name in files)

    def wait_drained(self):
        wait_for(self.drained, DRAIN_SECONDS, lambda: "sessions and sockets are gone: " + ", ".join(
            f"{program.name} has {program.files()} files open, {self.rest[program.name]} at rest"
            for program in self.programs()))

    # -------------------------------------------------------------------------------------------- a round

    def load(self, name, address, size, seconds, *options):
        figures = self.case.directory / f"{name}.json"
        figures.unlink(missing_ok=True)
        per_second = max(20, min(400, BYTES_PER_SECOND // size))
        process = self.case.start(name, BIN / "trunkline-load", "--connect", join_address(address), "--server-name",
                                  "localhost", "--ca", pki()["ca.crt"], "--clients", CLIENTS, "--rate", 200,
                                  "--messages-per-second", per_second, "--size", size, "--random", "--duration", seconds,
                                  "--timeout", int(12 * patience()), "--json", figures, *options)
        process.figures = figures
        return process

    def round(self, seed, faults, seconds=1, renew=True):
        """One round: all sites get their faults, each edge two loads, and what they tell is judged. Raises an
        AssertionError that tells how to repeat the round."""
        try:
            self.run_round(seed, faults, seconds, renew)
        except AssertionError as fault:
            raise AssertionError(f"{fault}\nseed {seed}, faults: {'; '.join(map(str, faults)) or 'none'}\n{self.case.again}"
                                 f"\ndecision logs for trunkline-chaos --replay FILE are in {self.keep_logs()}") from None

    def keep_logs(self):
        """The directory, which outlives the test, with the logs of all that run and ran in this round."""
        kept = tempfile.mkdtemp(prefix="trunkline-faults-")
        for process in [each for each in self.case.processes if isinstance(each, Chaos)]:
            process.finish()  # the last lines are written
        for pattern in ("*.chaos", "*.json", "*.out", "*.err"):
            for path in self.case.directory.glob(pattern):
                shutil.copy(path, kept)
        return kept

    def run_round(self, seed, faults, seconds, renew):
        dice = random.Random(f"{seed} traffic")
        at = {site: [fault for fault in faults if fault.site == site] for site in SITES}
        self.wait_trunks()
        self.drained()
        if renew or self.trunk_uses >= 8:  # so that the log stays short
            self.renew_trunk(seed, at["trunk"])
        else:
            self.trunk.populate(at["trunk"])
        self.trunk_uses += 1
        client = Chaos(self.case, "client", seed, {edge.name: edge.address for edge in self.edges}, at["client"],
                       small_buffers=dice.random() < 0.5)
        backend = Chaos(self.case, "backend", seed, {"backend": self.service}, at["backend"], self.backend_listens,
                        small_buffers=dice.random() < 0.5)
        loads = []
        for edge in self.edges:
            address = client.addresses[edge.name]
            size = dice.choice((32, 100, 1000, 4000))
            loads.append((edge.name, "echo", self.load(f"{edge.name}-echo", address, size, seconds)))
            loads.append((edge.name, "all", self.load(
                f"{edge.name}-all", address, size, seconds, "--alpn", "all", "--traffic",
                dice.choice(("echo", "mix", "echo,down", "echo,http")), "--path", "/bytes/3000", "--length", 3000)))
        self.recover_trunk(seed, at["trunk"], [load for _, _, load in loads], seconds + LATE_SECONDS)
        for _, _, load in loads:
            load.wait(60 + 3 * seconds)
        client.end()
        backend.end()
        ended = client.count(self.hits)
        ended["backend"] = backend.count(self.hits)["backend"]
        for name, service, load in loads:
            self.case.processes.remove(load)
            self.judge(faults, ended, name, service, load)
        self.wait_drained()

    def recover_trunk(self, seed, faults, loads, seconds):
        """The trunks' faults end with the traffic, while clients still wait for what was sent: sessions whose trunk is
        lost again and again are given up in the end, and no session may be given up here. A connection that bytes were
        taken from is of no use any more, so after such faults all are cut once more."""
        until = time.monotonic() + seconds
        for load in loads:
            with contextlib.suppress(subprocess.TimeoutExpired):
                load.popen.wait(max(0.0, until - time.monotonic()))
        if any(fault.ends for fault in faults):
            self.renew_trunk(seed, [])
        else:
            self.trunk.populate([])

    # -------------------------------------------------------------------------------------------- the judgement

    def judge(self, faults, ended, name, service, load):
        text = load.figures.read_text() if load.figures.exists() else ""
        self.case.assertIn(load.popen.returncode, (*FINISHED, BOTTLENECK), load.error_text() + load.output_text())
        self.case.assertTrue(text, f"{load.name} tells its figures: {load.error_text()}")
        figures = json.loads(text)
        complaints = complaints_about(figures, service, faults, ended[name], ended["backend"])
        self.sessions += figures["opened"]
        self.failed += figures["failed"]
        self.messages += figures["messages"]["echoed"] + figures["messages"]["delivered"] + figures["http"]["answered"]
        self.bytes += figures["bytes"]["up"] + figures["bytes"]["down"]
        self.case.assertEqual(complaints, [], f"{load.name}: {load.output_text()}")

    def stop(self):
        """Edges first; each tells totals, and that nothing is left (harness.Program.check)."""
        for program in [*self.edges, self.core]:
            program.stop(60)
        self.trunk.end()
        self.trunk.count(self.hits)

    def tell(self, out=sys.stderr):
        hits = ", ".join(f"{name} {count}" for name, count in sorted(self.hits.items()))
        print(f"{self.sessions} sessions, {self.failed} of them cut by faults; {self.messages} messages and {self.bytes} "
              f"bytes checked; decisions of the faulty proxies: {hits}", file=out)


def complaints_about(figures, service, faults, ended_clients, ended_backends):
    """What must not be, whatever the faults were. `ended_clients`: connections before this edge that a fault has
    ended, `ended_backends`: all behind the core."""
    found = []
    messages, http, failures = figures["messages"], figures["http"], figures["failures"]

    def demand(kept, text):
        if not kept:
            found.append(text)
    for what in ("missing", "repeated", "altered", "broken_streams"):
        demand(messages[what] == 0, f"{messages[what]} messages {what}")
    demand(http["wrong_status"] == 0, f"{http['wrong_status']} answers with a wrong status")
    demand(http["wrong_length"] == 0, f"{http['wrong_length']} answers of a wrong length")
    kinds = {}
    for where, count in failures.items():  # "open.peer-reset"
        kind = where.split(".", 1)[1]
        kinds[kind] = kinds.get(kind, 0) + count
    demand(kinds.get("invalid", 0) == 0, "bytes came that answer nothing")
    fins = service == "all" and any(fault.site == "backend" and fault.type in FIN_FAULTS for fault in faults)
    demand(fins or kinds.get("peer-closed", 0) == 0, f"{kinds.get('peer-closed', 0)} cut sessions look like clean ends")
    may_end = ended_clients + (ended_backends if service == "all" else 0)
    lost = figures["failed"] + max(messages["stalled_clients"], figures["ended_other"])
    demand(lost <= may_end, f"{figures['failed']} clients failed ({figures['first_failure']}), "
           f"{messages['stalled_clients']} stalled and {figures['ended_other']} had no clean end, but faults have ended no "
           f"more than {may_end} connections")
    if may_end == 0:
        demand(figures["opened"] == figures["clients"], f"only {figures['opened']} clients were served")
        demand(messages["unanswered"] == 0, f"{messages['unanswered']} messages without an answer")
        demand(figures["ended_clean"] == figures["clients"], f"only {figures['ended_clean']} had a clean end")
    return found
