"""Usage: scripts/bench idle [OPTION]...

User memory and CPU for one idle TLS client: Trunkline's edge and core, and HAProxy, nginx (stream), nghttpx, hitch and
stunnel, each with one worker, the same ECDSA certificate, and a service behind it that echoes.

  --part NAME[,NAME]   memory, handshakes (default: both)
  --only NAME[,NAME]   trunkline, haproxy, nginx, nghttpx, hitch, stunnel (default: all)
  --suite NAME         the cipher that clients offer: aes-128-gcm, aes-256-gcm, chacha20-poly1305, or any, which leaves
                       the choice to each program (default aes-128-gcm)
  --clients N[,N]...   memory: numbers of clients (default 1000,5000,15000)
  --rate N             memory: new clients per second (default 800)
  --handshakes N       handshakes: clients of each round (default 400)
  --rounds N           handshakes: (default 5)
  --json FILE          figures for machines
  --markdown FILE      what is printed, as Markdown

Memory: one program after the other. Clients are opened up to each number in turn; each is served once, then all rest,
until memory has not changed for 7 s. Memory is anonymous proportional memory (Pss_Anon of all processes of a program).
What one client costs is the growth between the last two numbers, divided by their difference, so that what a program
takes at its start does not count. A program that needs two files for each client (all but Trunkline and nghttpx) is
measured up to what the limit of open files allows, and one that fails to serve so many up to the number before.

Handshakes: all programs run at the same time, and in each round one after the other is measured while the others rest, in
another order each time; medians of the rounds count, and for comparisons the median of the ratios of a round. CPU per
handshake is that of a connection from its first to its last byte: TCP, TLS 1.3, the way to the service, one message of
100 bytes and back, and the end. "Resumed" is the same with a ticket, and the end is a reset. 250 come per second.

nghttpx relays HTTP only: its clients make one request instead of one echo.

The bars: between 5,000 and 15,000 clients at most 512 bytes for one on the edge and on the core, of anonymous and of
all proportional memory; CPU of a full handshake on the edge below HAProxy's and nginx's; a resumed one cheaper than a full
one. Ends with status 1 if one is missed. A bar for which not enough was measured is not judged.
"""

import pathlib
import shutil
import statistics
import sys
import time

import common

PARTS = ("memory", "handshakes")
BYTES_MAX = 512
BYTES_BETWEEN = [5000, 15000]
HANDSHAKES_PER_SECOND = 250   # slowly: a queue would not make one cost less
STORM_TAIL_SECONDS = 2        # between the last client's return and the end of all
RESUMED_SHARE_MIN = 0.99      # of the handshakes that were to be
SUITES = {0x1301: "aes-128-gcm", 0x1302: "aes-256-gcm", 0x1303: "chacha20-poly1305"}
ANY = "any"


class Subject:
    """A program, or two, that terminate TLS."""

    files_per_client = 2
    load_options = ()

    def __init__(self, bench, backend):
        self.bench = bench
        self.backend = backend
        self.port = common.free_port()
        self.parts = {}  # by the name of the row
        self.tls_options = []  # of its load generators
        self.address = f"127.0.0.1:{self.port}"

    def load(self, name, *options, wait=True):
        return common.Load(self.bench, name, self.address, *options, *self.load_options, *self.tls_options, wait=wait)

    def warm(self):
        """What a program loads with its first clients is no client's."""
        self.load("warm", "--clients", "50", "--duration", "1", wait=False).finish(allowed=(0, 4))

    def combined(self):
        """Key and certificate in one file, as some want it."""
        path = self.bench.directory / "edge.pem"
        pki = self.bench.pki
        path.write_text((pki / "edge.crt").read_text() + (pki / "edge.key").read_text())
        return path

    def configuration(self, name, text):
        path = self.bench.directory / name
        path.write_text(text)
        return path

    def run(self, name, *command):
        if shutil.which(str(command[0])) is None:
            raise common.Failure(f"{command[0]} is not installed: scripts/bench installs it")
        self.parts[name] = common.Program(self.bench, name, *command)
        self.parts[name].wait_port(self.port)


class Trunkline(Subject):
    files_per_client = 1

    def start(self):
        core, core_address = self.bench.core("--workers", "1")
        edge, self.address = self.bench.edge(core_address, "--workers", "1")
        self.parts = {"trunkline edge": edge, "trunkline core": core}


class Haproxy(Subject):
    def start(self):
        limit = (self.bench.files - common.FILES_SPARE) // 2
        path = self.configuration("haproxy.cfg", f"""
global
    nbthread 1
    maxconn {limit}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend clients
    bind {self.address} ssl crt {self.combined()} ssl-min-ver TLSv1.2
    default_backend service
backend service
    server service {self.backend}
""")
        self.run("haproxy", "/usr/sbin/haproxy", "-db", "-f", path)


class Nginx(Subject):
    def start(self):
        path = self.configuration("nginx.conf", f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
worker_rlimit_nofile {self.bench.files};
daemon off;
pid {self.bench.directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {self.bench.files}; }}
stream {{
    server {{
        listen {self.address} ssl backlog=4096;
        ssl_certificate {self.bench.pki}/edge.crt;
        ssl_certificate_key {self.bench.pki}/edge.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        proxy_pass {self.backend};
        proxy_timeout 1h;
    }}
}}
""")
        self.run("nginx", "/usr/sbin/nginx", "-e", "stderr", "-c", path)


class Nghttpx(Subject):
    files_per_client = 1
    load_options = ("--traffic", "http", "--path", "/bytes/100", "--alpn", "http/1.1")
    backend_options = ""

    def start(self):
        host, port = self.backend.split(":")
        self.run("nghttpx", "/usr/sbin/nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{self.port}",
                 f"--backend={host},{port}{self.backend_options}", "--workers=1", "--frontend-read-timeout=1h",
                 "--frontend-keep-alive-timeout=1h", "--accesslog-file=/dev/null", "--errorlog-file=/dev/stderr",
                 f"--rlimit-nofile={self.bench.files}", "--backlog=4096", self.bench.pki / "edge.key",
                 self.bench.pki / "edge.crt")


class Hitch(Subject):
    def start(self):
        path = self.configuration("hitch.conf", f"""
frontend = {{ host = "127.0.0.1" port = "{self.port}" }}
backend = "[127.0.0.1]:{self.backend.split(':')[1]}"
pem-file = "{self.combined()}"
workers = 1
backlog = 4096
daemon = off
quiet = on
user = "nobody"
tls-protos = TLSv1.2 TLSv1.3
""")
        self.bench.directory.joinpath("edge.pem").chmod(0o644)
        self.run("hitch", "/usr/sbin/hitch", f"--config={path}")


class Stunnel(Subject):
    def start(self):
        path = self.configuration("stunnel.conf", f"""
foreground = quiet
debug = err
pid =
[service]
accept = {self.address}
connect = {self.backend}
cert = {self.bench.pki}/edge.crt
key = {self.bench.pki}/edge.key
sslVersionMin = TLSv1.2
TIMEOUTidle = 3600
TIMEOUTclose = 0
""")
        self.run("stunnel", "/usr/bin/stunnel4", path)


SUBJECTS = {"trunkline": Trunkline, "haproxy": Haproxy, "nginx": Nginx, "nghttpx": Nghttpx, "hitch": Hitch,
            "stunnel": Stunnel}


def names_of(known):
    """Reads names with commas between."""
    def read(option, text):
        for name in text.split(","):
            if name not in known:
                raise common.Failure(f"{option}: nothing is called \"{name}\"")
        return text.split(",")
    return read


def read_suite(option, text):
    if text not in SUITES.values() and text != ANY:
        raise common.Failure(f"{option}: \"{text}\" is not {', '.join(SUITES.values())} or {ANY}")
    return text


def arguments(words):
    options = {"part": list(PARTS), "only": list(SUBJECTS), "suite": SUITES[0x1301], "clients": [1000, 5000, 15000],
               "rate": 800, "handshakes": 400, "rounds": 5, "json": None, "markdown": None}
    return common.read_options(__doc__, options, words, {"part": names_of(PARTS), "only": names_of(SUBJECTS),
                                                         "suite": read_suite, "clients": common.numbers})


def check_suite(figures, suite):
    """What was negotiated, which must be what was asked for."""
    negotiated = SUITES.get(figures["tls_suite"], f"{figures['tls_suite']:#06x}")
    if figures["tls_version"] != 0x0304 or suite not in (ANY, negotiated):
        raise common.Failure(f"clients got {negotiated} of TLS {figures['tls_version']:#06x}, and not {suite} of TLS 1.3")
    return negotiated


def cpu_of(subjects):
    """CPU seconds by the name of the part."""
    return {name: part.cpu_seconds() for subject in subjects for name, part in subject.parts.items()}


def memory_at_rest(subject):
    """By part, (anonymous, all) in kB."""
    common.settle(subject.parts.values())
    return {name: part.memory_kb() for name, part in subject.parts.items()}


def memory_by_clients(subject, options):
    """Opens clients up to each number; per part, (clients, anonymous kB, all kB, CPU seconds) from 0 clients on."""
    limit = (subject.bench.files - common.FILES_SPARE) // subject.files_per_client
    sizes = sorted({min(size, limit) for size in options["clients"]})
    at_rest, cpu = memory_at_rest(subject), cpu_of([subject])
    points = {name: [(0, *at_rest[name], cpu[name])] for name in subject.parts}
    loads = []
    opened = 0
    for size in sizes:
        load = subject.load(f"load-{len(loads)}", "--clients", size - opened, "--rate", options["rate"], "--duration",
                            "0")
        loads.append(load)
        load.wait_ready()
        opened = size
        cpu = cpu_of([subject])
        at_rest = memory_at_rest(subject)
        for name, found in points.items():
            found.append((size, *at_rest[name], cpu[name]))
    before = cpu_of([subject])
    time.sleep(5)
    rest = {name: (seconds - before[name]) / 5 for name, seconds in cpu_of([subject]).items()}
    for load in loads:
        load.go()
    # A peer that cannot hold a number of clients is measured up to the one before, and that is said.
    failed = None
    for stage, load in enumerate(loads):
        figures = load.finish(allowed=(0,) if isinstance(subject, Trunkline) else (0, 1))
        suite = check_suite(figures, options["suite"])
        if failed is None and figures["failed"] > 0:
            failed = f"of {sizes[stage]:,} clients {figures['failed']:,} failed"
            points = {name: found[:stage + 1] for name, found in points.items()}
    if min(len(found) for found in points.values()) < 2:
        raise common.Failure(f"{subject.address}: not even the first clients were served: {failed}")
    return points, rest, failed, suite


def figures_of(points, rest, failed, suite):
    """What a client of one part costs, and everything that it was made from."""
    (lower, upper) = points[-2:]
    clients = upper[0] - lower[0]
    return {
        "failed": failed,
        "suite": suite,
        "points": [{"clients": point[0], "pss_anon_kb": point[1], "pss_kb": point[2]} for point in points],
        "bytes_per_client": (upper[1] - lower[1]) * 1024 / clients,
        "pss_bytes_per_client": (upper[2] - lower[2]) * 1024 / clients,
        "measured_between": [lower[0], upper[0]],
        "idle_cpu_us_per_client_second": rest / upper[0] * 1e6,
        "open_cpu_us": (upper[3] - points[0][3]) / upper[0] * 1e6,
    }


def start(bench, name, service, suite):
    subject = SUBJECTS[name](bench, service.address())
    subject.tls_options = ["--tls-version", "1.3"] + ([] if suite == ANY else ["--tls-suite", suite])
    subject.start()
    subject.warm()
    return subject


def memory_of(bench, name, options):
    """By part, the figures of one program."""
    service = common.Program(bench, "service", common.BIN / "trunkline-bench-service", "127.0.0.1:0")
    subject = start(bench, name, service, options["suite"])
    points, rest, failed, suite = memory_by_clients(subject, options)
    bench.stop_all()
    return {part: figures_of(points[part], rest[part], failed, suite) for part in subject.parts}


def cpu_at_rest(subject):
    """CPU seconds by part, as soon as it is done with what it has been given."""
    end = time.monotonic() + 5
    known = cpu_of([subject])
    while time.monotonic() < end:
        time.sleep(0.3)
        now = cpu_of([subject])
        if sum(now.values()) - sum(known.values()) < 0.001:
            break
        known = now
    return now


def handshakes_once(subject, name, options):
    """By part, CPU for a full and for a resumed handshake in microseconds. Clients are opened, then a storm drops them
    all, and they come back with their tickets; then they end. The first and the last are the full ones' cost."""
    clients = options["handshakes"]
    storm_seconds = clients / HANDSHAKES_PER_SECOND
    begun = cpu_at_rest(subject)
    load = subject.load(name, "--clients", clients, "--rate", HANDSHAKES_PER_SECOND, "--messages-per-second", "0",
                        "--resume", "--storm", "100", "--jitter", f"{storm_seconds:.1f}", "--duration",
                        f"{storm_seconds + STORM_TAIL_SECONDS:.1f}")
    load.wait_ready()
    opened = cpu_at_rest(subject)
    load.go()
    time.sleep(storm_seconds + STORM_TAIL_SECONDS / 2)
    back = cpu_of([subject])
    figures = load.finish(allowed=(0, 4))
    ended = cpu_at_rest(subject)
    check_suite(figures, options["suite"])
    return {part: {"full_us": (opened[part] - begun[part] + ended[part] - back[part]) / clients * 1e6,
                   "again_us": (back[part] - opened[part]) / clients * 1e6,
                   "resumed_share": figures["handshakes"]["resumed"] / clients} for part in subject.parts}


def handshakes(bench, options):
    """By part, medians and each round's figures. All programs run; one at a time has something to do."""
    service = common.Program(bench, "service", common.BIN / "trunkline-bench-service", "127.0.0.1:0")
    subjects = [start(bench, name, service, options["suite"]) for name in options["only"]]
    rounds = {part: [] for subject in subjects for part in subject.parts}
    for number in range(options["rounds"]):
        common.say(f"handshakes, round {number + 1} of {options['rounds']}")
        turn = number % len(subjects)
        for subject in subjects[turn:] + subjects[:turn]:
            for part, costs in handshakes_once(subject, f"handshakes-{number}", options).items():
                rounds[part].append(costs)
    bench.stop_all()
    return {part: {"full_us": statistics.median(one["full_us"] for one in found),
                   "again_us": statistics.median(one["again_us"] for one in found),
                   "resumed_share": min(one["resumed_share"] for one in found),
                   "rounds": found} for part, found in rounds.items()}


def report_memory(results):
    # Peers hold a client's whole state in one program; what they are compared with is the edge.
    base = results.get("trunkline edge")
    rows = []
    for name, r in results.items():
        ratio = "" if base is None or base["bytes_per_client"] <= 0 else \
            f"{r['bytes_per_client'] / base['bytes_per_client']:.1f}"
        points = r["points"][1:]
        rows.append([name, f"{r['measured_between'][0]:,}-{r['measured_between'][1]:,}",
                     f"{r['bytes_per_client']:,.0f}", ratio, f"{r['pss_bytes_per_client']:,.0f}"] +
                    [f"{(p['pss_anon_kb'] - r['points'][0]['pss_anon_kb']) / 1024:,.1f}" for p in points[-3:]] +
                    [""] * (3 - len(points[-3:])) +
                    [f"{r['open_cpu_us']:,.0f}", f"{r['idle_cpu_us_per_client_second']:.2f}", r["suite"]])
    common.table(["", "between clients", "B/client", "x edge", "all Pss", "MB, 1st", "2nd", "3rd", "us/open",
                  "us/client/s idle", "cipher"], rows)
    for name, r in results.items():
        if r["failed"]:
            common.tell(f"{name}: {r['failed']}, so it was measured below")


def ratios(results, one, other, name):
    """The median of the ratios of two programs' figures in the same round."""
    return statistics.median(mine[name] / max(1e-9, its[name])
                             for mine, its in zip(results[one]["rounds"], results[other]["rounds"]))


def report_handshakes(results):
    rows = []
    for name, r in results.items():
        spread = [one["full_us"] for one in r["rounds"]]
        against = f"{ratios(results, name, 'trunkline edge', 'full_us'):.2f}" if "trunkline edge" in results else ""
        rows.append([name, f"{r['full_us']:,.0f}", f"{min(spread):,.0f}-{max(spread):,.0f}", against,
                     f"{r['again_us']:,.0f}", f"{r['resumed_share']:.0%}"])
    common.table(["", "us/full", "of rounds", "x edge", "us/again", "resumed"], rows)


def judge_memory(results):
    """A line for each bar; what has missed it. The larger of two ways to count is judged."""
    missed = []
    for name, r in results.items():
        if not name.startswith("trunkline"):
            continue
        each = max(r["bytes_per_client"], r["pss_bytes_per_client"])
        text = f"user memory of one idle client on the {name.split()[1]}, at most {BYTES_MAX} bytes"
        if r["measured_between"] == BYTES_BETWEEN:
            missed += common.judge(f"{text}: {each:,.0f}", each <= BYTES_MAX)
        else:
            common.tell(f"{text}: not judged; that needs {BYTES_BETWEEN[0]:,} and {BYTES_BETWEEN[1]:,} clients")
    return missed


def judge_handshakes(results):
    missed = []
    if "trunkline edge" not in results:
        return missed
    for name in ("haproxy", "nginx"):
        if name in results:
            ratio = ratios(results, "trunkline edge", name, "full_us")
            text = f"CPU of a full handshake on the edge, below that of {name}: {ratio:.2f} times"
            missed += common.judge(text, ratio < 1)
    edge = results["trunkline edge"]
    share = edge["resumed_share"]
    ratio = statistics.median(one["again_us"] / max(1e-9, one["full_us"]) for one in edge["rounds"])
    missed += common.judge(f"CPU of a resumed handshake on the edge, below that of a full one: {ratio:.2f} times, "
                           f"{share:.0%} resumed", ratio < 1 and share >= RESUMED_SHARE_MIN)
    return missed


def run():
    options = arguments(sys.argv[1:])
    memory, costs = {}, {}
    missed = []
    common.print_machine()
    try:
        with common.Bench() as bench:
            for name in options["only"] if "memory" in options["part"] else []:
                common.say(f"memory of {name} ...")
                memory.update(memory_of(bench, name, options))
            if "handshakes" in options["part"]:
                costs.update(handshakes(bench, options))
    finally:
        for results, report, judge in ((memory, report_memory, judge_memory),
                                       (costs, report_handshakes, judge_handshakes)):
            if results:
                report(results)
                missed += judge(results)
        common.keep(options, memory=memory, handshakes=costs, missed=missed)
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
