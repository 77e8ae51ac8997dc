"""Usage: scripts/bench fairness [OPTION]...

Whether sessions on one trunk hold each other up, over a path that trunkline-chaos makes long: 80 ms for a round trip (40 ms
each way) and so many bytes a second, each way.

  --rate N          of the path, in 1,000,000 bytes per second (default 25)
  --seconds N       of each measurement (default 10)
  --sessions N      interactive ones (default 1000)
  --messages N      of 100 bytes that they send and get back, per second and together (default 1000)
  --downloads N     beside them (default 10)
  --stalled N       clients that ask for a download and never read (default 1000)
  --only PARTS      of bulk, interactive and stalled, with commas between (default: all)
  --json FILE       figures for machines
  --markdown FILE   what is printed, as Markdown

One edge with one trunk, trunkline-chaos, one core, one thread each; a server of downloads behind the core's forward handler.

bulk: one download through edge and trunk, against one plain TCP connection from the same server through a proxy with the
same toxics, in turns. Bar: at least 90 % of it.
interactive: the 99th percentile of the messages' round trips without and with downloads. Bar: below twice that without.
stalled: memory of edge and core (anonymous, proportional) before and with clients that have stopped reading, and the same
percentile. Bars: below twice the percentile without them; at the edge no more than its window, what one TLS record takes and
512 bytes for each, and at the core, which keeps what the edge has not passed on, its window, a page and 512 bytes. A window is
twice that of the start here: until the buffers of the kernel are full a client takes bytes as fast as the path brings them.

Ends with status 1 if a bar is missed, or if a byte was not as it must be.
"""

import contextlib
import os
import selectors
import signal
import socket
import ssl
import statistics
import sys
import threading
import time

import common

DELAY_MS = 40           # each way
BULK_PERCENT = 90
SLOWER_BAR = 2.0
WINDOW_BYTES = 2 * 16384  # --stream-window, and it grows once
PAGE_BYTES = 4096       # what a queue keeps of bytes that are done
RECORD_BYTES = 16384 + 1024
SESSION_BYTES = 512     # of an idle session; docs/SIZING.md
WARM_SECONDS = 4        # until windows have grown to the path
SETTLE_SECONDS = 15
BULK_ROUNDS = 3
BLOCK = bytes(1 << 18)
PARTS = ("bulk", "interactive", "stalled")


def arguments(words):
    options = {"rate": 25, "seconds": 10, "sessions": 1000, "messages": 1000, "downloads": 10, "stalled": 1000,
               "only": list(PARTS), "json": None, "markdown": None}

    def parts(name, text):
        chosen = text.split(",")
        if not set(chosen) <= set(PARTS):
            raise common.Failure(f"{name}: \"{text}\" is not of {', '.join(PARTS)}")
        return chosen

    return common.read_options(__doc__, options, words, special={"only": parts})


class Downloads:
    """A process that sends zeros without end to whoever says a byte."""

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address = "%s:%d" % listener.getsockname()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                serve(listener)
            finally:
                os._exit(0)
        listener.close()

    def stop(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def serve(listener):
    """One thread for all: a thousand connections may wait."""
    common.files_limit()
    waiting = selectors.DefaultSelector()
    listener.setblocking(False)
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, events in waiting.select():
            peer = key.fileobj
            try:
                if peer is listener:
                    accepted, _ = listener.accept()
                    accepted.setblocking(False)
                    waiting.register(accepted, selectors.EVENT_READ)
                elif events & selectors.EVENT_READ:
                    if not peer.recv(64):
                        raise ConnectionResetError
                    waiting.modify(peer, selectors.EVENT_WRITE)
                else:
                    peer.send(BLOCK)
            except BlockingIOError:
                pass
            except OSError:
                waiting.unregister(peer)
                peer.close()


def host_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


class System:
    """Server, core, chaos and edge."""

    def __init__(self, bench, downloads, options):
        self.bench = bench
        self.core, core_address = bench.core("--workers", "1", "--service", f"bulk=forward:{downloads.address}")
        toxics = []
        for proxy in ("trunk", "plain"):
            for stream in ("upstream", "downstream"):
                # The narrow place first: behind the delay it would keep the proxy from reading while 64 KiB wait for
                # it, and what is not read is not on its way.
                toxics += ["--toxic", f"{proxy}:bandwidth,stream={stream},rate={options['rate'] * 1000}",
                           "--toxic", f"{proxy}:latency,stream={stream},latency={DELAY_MS}"]
        self.chaos = common.Program(bench, "chaos", common.BIN / "trunkline-chaos", "--proxy",
                                    f"trunk=127.0.0.1:0,{core_address}", "--proxy",
                                    f"plain=127.0.0.1:0,{downloads.address}", *toxics)
        self.chaos.address()
        trunk, self.plain = (line.split()[2] for line in self.chaos.out.read_text().splitlines()
                             if line.startswith("listening on "))
        self.edge, self.address = bench.edge(trunk, "--workers", "1", "--trunks", "1", "--route",
                                             "sni=bulk.example,service=bulk", "--stall-timeout", "10m")
        self.tls = ssl.create_default_context(cafile=bench.pki / "ca.crt")
        self.tls.check_hostname = False

    def download(self, receive_buffer=0):
        """A connection through the edge whose download begins now."""
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(30)
        connection.connect(host_port(self.address))
        secure = self.tls.wrap_socket(connection, server_hostname="bulk.example")
        secure.sendall(b"x")
        return secure

    def plain_download(self):
        connection = socket.create_connection(host_port(self.plain), 30)
        connection.sendall(b"x")
        return connection

    def load(self, name, options):
        """p99 and p50 of the interactive sessions, in ms."""
        load = common.Load(self.bench, name, self.address, "--clients", options["sessions"], "--rate", "300",
                           "--messages-per-second", options["messages"], "--duration", options["seconds"], "--random")
        load.wait_ready(60)
        load.go()
        echo = load.finish(options["seconds"] + 60)["microseconds"]["echo"]
        return {name: echo[name] / 1000 for name in ("p50", "p99", "max")}


def drain(connection, seconds):
    """Bytes per second, once the connection has got going."""
    room = bytearray(1 << 20)
    count, started = 0, None
    begun = time.monotonic()
    while True:
        now = time.monotonic()
        if started is None and now - begun >= WARM_SECONDS:
            started = now
        if started is not None and now - started >= seconds:
            return count / (now - started)
        length = connection.recv_into(room)
        if length == 0:
            raise common.Failure("a download has ended")
        if started is not None:
            count += length


def measure_bulk(system, options):
    plain, trunk = [], []
    for _ in range(BULK_ROUNDS):
        for rates, connect in ((plain, system.plain_download), (trunk, system.download)):
            with connect() as connection:
                rates.append(drain(connection, options["seconds"]))
    return statistics.median(plain), statistics.median(trunk)


class Readers:
    """Downloads that are read as fast as they come, each by a thread of its own."""

    def __init__(self, system, count):
        self.over = False
        self.bytes = [0] * count
        self.connections = [system.download() for _ in range(count)]
        self.threads = [threading.Thread(target=self.read, args=(i,), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def read(self, number):
        room = bytearray(1 << 18)
        connection = self.connections[number]
        with contextlib.suppress(OSError):
            while not self.over:
                self.bytes[number] += connection.recv_into(room)

    def stop(self):
        self.over = True
        for thread in self.threads:
            thread.join(30)
        for connection in self.connections:
            connection.close()


def measure_interactive(system, options):
    alone = system.load("alone", options)
    readers = Readers(system, options["downloads"])
    try:
        time.sleep(WARM_SECONDS)
        before, begun = list(readers.bytes), time.monotonic()
        beside = system.load("beside", options)
        passed = time.monotonic() - begun
        rates = [(after - first) / passed for after, first in zip(readers.bytes, before)]
    finally:
        readers.stop()
    return alone, beside, rates


def measure_stalled(system, options):
    alone = system.load("before", options)
    common.settle([system.edge, system.core], SETTLE_SECONDS)
    before = [program.memory_kb()[0] for program in (system.edge, system.core)]
    stalled = [system.download(receive_buffer=4096) for _ in range(options["stalled"])]
    try:
        common.settle([system.edge, system.core], SETTLE_SECONDS)
        after = [program.memory_kb()[0] for program in (system.edge, system.core)]
        beside = system.load("stalled", options)
    finally:
        for connection in stalled:
            connection.close()
    grown = [(now - then) * 1024 / options["stalled"] for now, then in zip(after, before)]
    return alone, beside, grown


def report_bulk(system, options):
    plain, trunk = measure_bulk(system, options)
    share = 100 * trunk / plain
    common.tell(f"one download: plain TCP {plain / 1e6:.1f} MB/s, through edge and trunk {trunk / 1e6:.1f} MB/s")
    missed = common.judge(f"one download gets {share:.1f} % of plain TCP, at least {BULK_PERCENT}", share >= BULK_PERCENT)
    return {"plain": plain, "trunk": trunk}, missed


def report_interactive(system, options):
    alone, beside, rates = measure_interactive(system, options)
    common.tell(f"{options['sessions']} sessions alone: p50 {alone['p50']:.1f} ms, p99 {alone['p99']:.1f} ms")
    common.tell(f"beside {options['downloads']} downloads of {min(rates) / 1e6:.2f} to {max(rates) / 1e6:.2f} MB/s: "
                f"p50 {beside['p50']:.1f} ms, p99 {beside['p99']:.1f} ms")
    ratio = beside["p99"] / alone["p99"]
    missed = common.judge(f"the p99 is {ratio:.2f} times that without, below {SLOWER_BAR:.0f}", ratio < SLOWER_BAR)
    return {"alone": alone, "beside": beside, "rates": rates}, missed


def report_stalled(system, options):
    alone, beside, grown = measure_stalled(system, options)
    most = WINDOW_BYTES + RECORD_BYTES + SESSION_BYTES
    missed = []
    for name, each in zip(("edge", "core"), grown):
        bar = most if name == "edge" else WINDOW_BYTES + PAGE_BYTES + SESSION_BYTES
        missed += common.judge(f"{options['stalled']} clients that do not read cost the {name} {each:.0f} B each, at most "
                               f"{bar}", each <= bar)
    common.tell(f"the other {options['sessions']}: p99 {alone['p99']:.1f} ms before, {beside['p99']:.1f} ms beside them")
    ratio = beside["p99"] / alone["p99"]
    missed += common.judge(f"their p99 is {ratio:.2f} times that without, below {SLOWER_BAR:.0f}", ratio < SLOWER_BAR)
    return {"alone": alone, "beside": beside, "edge_bytes": grown[0], "core_bytes": grown[1]}, missed


def run():
    options = arguments(sys.argv[1:])
    common.print_machine()
    common.tell(f"path: {2 * DELAY_MS} ms for a round trip, {options['rate']} MB/s")
    downloads = Downloads()
    figures, missed = {}, []
    try:
        with common.Bench() as bench:
            system = System(bench, downloads, options)
            for part in PARTS:
                if part in options["only"]:
                    figures[part], more = globals()[f"report_{part}"](system, options)
                    missed += more
    finally:
        downloads.stop()
    common.keep(options, **figures)
    print("\n" + ("missed: " + "; ".join(missed) if missed else "all bars are kept"))
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
