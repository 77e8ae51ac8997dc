"""Usage: scripts/bench idle [OPTION]...

User memory and CPU for one idle TLS client: Trunkline's edge and core, and HAProxy, nginx (stream), nghttpx, hitch and
stunnel, each with one worker, the same ECDSA certificate, and a service behind it that echoes.

  --clients N[,N]...   numbers of clients (default 1000,5000,15000)
  --only NAME[,NAME]   trunkline, haproxy, nginx, nghttpx, hitch, stunnel (default: all)
  --rate N             new clients per second (default 800)
  --handshakes N       clients of the runs that measure CPU per handshake (default 1000; 0: leave them out)
  --json FILE          figures for machines

Clients are opened up to each number in turn; each is served once, then all rest. Memory is anonymous proportional memory
(Pss_Anon of all processes of a program). What one client costs is the growth between the last two numbers, divided by
their difference, so that what a program takes at its start does not count. A program that needs two files for each client
(all but Trunkline and nghttpx) is measured up to what the limit of open files allows.

nghttpx relays HTTP only: its clients make one request instead of one echo.

CPU per handshake is that of a connection from its first to its last byte: TCP, TLS 1.3, the way to the service, one
message of 100 bytes and back, and the end. "Resumed" is the same with a ticket, and the end is a reset.
"""

import json
import pathlib
import shutil
import sys
import time

import common


class Subject:
    """A program, or two, that terminate TLS."""

    files_per_client = 2
    load_options = ()

    def __init__(self, bench, backend):
        self.bench = bench
        self.backend = backend
        self.port = common.free_port()
        self.parts = {}  # by the name of the row
        self.address = f"127.0.0.1:{self.port}"

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

    def start(self):
        host, port = self.backend.split(":")
        self.run("nghttpx", "/usr/sbin/nghttpx", "--conf=/dev/null", f"--frontend=127.0.0.1,{self.port}",
                 f"--backend={host},{port}", "--workers=1", "--frontend-read-timeout=1h",
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


def number(name, text, least=1):
    if not text.isdigit() or not least <= int(text) <= 10_000_000:
        raise common.Failure(f"{name}: \"{text}\" is not a number from {least} on")
    return int(text)


def arguments(words):
    options = {"clients": [1000, 5000, 15000], "only": list(SUBJECTS), "rate": 800, "handshakes": 1000, "json": None}
    words = list(words)
    while words:
        name = words.pop(0)
        if name == "--help":
            print(__doc__.strip())
            sys.exit(0)
        if name not in ("--clients", "--only", "--rate", "--handshakes", "--json"):
            raise common.Failure(f"unknown option {name}; see scripts/bench idle --help")
        if not words:
            raise common.Failure(f"{name} needs a value")
        value = words.pop(0)
        if name == "--clients":
            options["clients"] = sorted({number(name, text) for text in value.split(",")})
        elif name == "--only":
            options["only"] = value.split(",")
            for text in options["only"]:
                if text not in SUBJECTS:
                    raise common.Failure(f"--only: nothing is called \"{text}\"")
        elif name == "--json":
            options["json"] = value
        else:
            options[name[2:]] = number(name, value, 0)
    return options


def memory_at_rest(program):
    """The least of three looks: a program may be tidying up."""
    looks = []
    for _ in range(3):
        time.sleep(0.7)
        looks.append(program.memory_kb())
    return min(looks)


def memory_by_clients(subject, options):
    """Opens clients up to each number; per part, (clients, anonymous kB, all kB, CPU seconds) from 0 clients on."""
    limit = (subject.bench.files - common.FILES_SPARE) // subject.files_per_client
    sizes = sorted({min(size, limit) for size in options["clients"]})
    points = {name: [(0, *memory_at_rest(part), part.cpu_seconds())] for name, part in subject.parts.items()}
    loads = []
    opened = 0
    for size in sizes:
        load = common.Load(subject.bench, f"load-{len(loads)}", subject.address, "--clients", size - opened, "--rate",
                           options["rate"], "--duration", "0", *subject.load_options)
        loads.append(load)
        load.wait_ready()
        opened = size
        cpu = {name: part.cpu_seconds() for name, part in subject.parts.items()}
        for name, part in subject.parts.items():
            points[name].append((size, *memory_at_rest(part), cpu[name]))
    rest = {name: part.cpu_seconds() for name, part in subject.parts.items()}
    time.sleep(5)
    rest = {name: (part.cpu_seconds() - rest[name]) / 5 for name, part in subject.parts.items()}
    for load in loads:
        load.go()
    for load in loads:
        load.finish()
    return points, rest


def handshake_costs(subject, options):
    """CPU seconds per part for all handshakes of a run: full, and those that a storm made resumed."""
    clients = options["handshakes"]
    spread = clients / 250  # slowly: a queue would not make it cost less
    common_options = ["--clients", clients, "--rate", "250", "--duration", "0", *subject.load_options]
    costs = []
    share = 0.0
    for extra in ([], ["--resume", "--storm", "100", "--jitter", f"{spread:.1f}"]):
        before = {name: part.cpu_seconds() for name, part in subject.parts.items()}
        load = common.Load(subject.bench, f"handshakes-{len(costs)}", subject.address, *common_options, *extra,
                           wait=False)
        figures = load.finish(allowed=(0, 4))
        time.sleep(0.5)
        costs.append({name: part.cpu_seconds() - before[name] for name, part in subject.parts.items()})
        share = figures["handshakes"]["resumed"] / clients
    return {name: {"full_us": costs[0][name] / clients * 1e6,
                   "again_us": (costs[1][name] - costs[0][name]) / clients * 1e6, "resumed_share": share}
            for name in subject.parts}


def figures_of(name, points, rest, costs):
    """The headline and everything that it was made from."""
    (lower, upper) = points[-2:]
    clients = upper[0] - lower[0]
    figures = {
        "name": name,
        "points": [{"clients": point[0], "pss_anon_kb": point[1], "pss_kb": point[2]} for point in points],
        "bytes_per_client": (upper[1] - lower[1]) * 1024 / clients,
        "pss_bytes_per_client": (upper[2] - lower[2]) * 1024 / clients,
        "measured_between": [lower[0], upper[0]],
        "idle_cpu_us_per_client_second": rest / upper[0] * 1e6,
        "open_cpu_us": (upper[3] - points[0][3]) / upper[0] * 1e6,
    }
    figures.update(costs or {})
    return figures


def measure(bench, name, options):
    service = common.Program(bench, "service", common.BIN / "trunkline-bench-service", "127.0.0.1:0")
    subject = SUBJECTS[name](bench, service.address())
    subject.start()
    warm = common.Load(bench, "warm", subject.address, "--clients", "50", "--duration", "1", *subject.load_options,
                       wait=False)
    warm.finish(allowed=(0, 4))
    costs = handshake_costs(subject, options) if options["handshakes"] > 0 else {}
    points, rest = memory_by_clients(subject, options)
    results = [figures_of(part, points[part], rest[part], costs.get(part)) for part in subject.parts]
    bench.stop_all()
    return results


def report(results):
    # Peers hold a client's whole state in one program; what they are compared with is the edge.
    base = next((r for r in results if r["name"] == "trunkline edge"), None)
    rows = []
    for r in results:
        ratio = "" if base is None or base["bytes_per_client"] <= 0 else \
            f"{r['bytes_per_client'] / base['bytes_per_client']:.1f}"
        points = r["points"][1:]
        rows.append([r["name"], f"{r['measured_between'][0]:,}-{r['measured_between'][1]:,}",
                     f"{r['bytes_per_client']:,.0f}", ratio] +
                    [f"{(p['pss_anon_kb'] - r['points'][0]['pss_anon_kb']) / 1024:,.1f}" for p in points[-3:]] +
                    [""] * (3 - len(points[-3:])) +
                    [f"{r['full_us']:,.0f}" if "full_us" in r else "",
                     f"{r['again_us']:,.0f} ({r['resumed_share']:.0%} resumed)" if "again_us" in r else "",
                     f"{r['idle_cpu_us_per_client_second']:.2f}"])
    common.table(["", "between clients", "B/client", "x edge", "MB, 1st", "2nd", "3rd", "us/full", "us/again",
                  "us/client/s idle"], rows)


def run():
    options = arguments(sys.argv[1:])
    results = []
    common.print_machine()
    with common.Bench() as bench:
        for name in options["only"]:
            print(f"  {name} ...", file=sys.stderr, flush=True)
            results += measure(bench, name, options)
    print()
    report(results)
    if options["json"]:
        pathlib.Path(options["json"]).write_text(json.dumps({"machine": common.machine(), "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    common.main(run)
