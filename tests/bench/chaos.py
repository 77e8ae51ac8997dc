"""What trunkline-chaos costs without toxics: time added to a round trip, and bytes for each second of its CPU. Direct and
proxied connections take turns in one run. Status 1 when a bar is missed.

Both parts end after a time, even if other programs leave little of the CPUs: figures are per round trip and per CPU second,
so fewer of them are less exact, not wrong. Whatever gives no answer for 30 s is a stall, and a failure that says where."""

import argparse
import contextlib
import os
import signal
import socket
import statistics
import time

import common

ADDED_MAX_US = 100.0
BYTES_PER_CPU_SECOND_MIN = 1e9
BLOCK = bytes(1 << 20)
STALL_SECONDS = 30  # without progress
ROUNDS_LEAST = 3
BLOCKS_LEAST = 64   # MiB; the clocks of a CPU tell well what so many cost


def serve(listener):
    """First byte of a connection: "e" to echo what comes, "s" to swallow it and answer with a byte at the end."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind = connection.recv(1)
        room = bytearray(1 << 20)
        while length := connection.recv_into(room):
            if kind == b"e":
                connection.sendall(room[:length])
        if kind == b"s":
            connection.sendall(b".")
        connection.close()


def start_server(pids):
    """A process; its id is added to `pids`."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        common.die_with_bench()
        try:
            serve(listener)
        finally:
            os._exit(0)
    pids.append(pid)
    address = listener.getsockname()
    listener.close()
    return address


def connect(address, kind):
    connection = socket.create_connection(address, STALL_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(kind)
    return connection


def round_trips(connection, count):
    """Median of so many, in microseconds."""
    taken = []
    for _ in range(count):
        started = time.perf_counter_ns()
        connection.sendall(b"x")
        connection.recv(1)
        taken.append(time.perf_counter_ns() - started)
    return statistics.median(taken) / 1000


def measure_added(direct, proxied, rounds, count, seconds):
    """(direct, proxied, added) in microseconds: medians over rounds that take turns."""
    connections = connect(direct, b"e"), connect(proxied, b"e")
    end = time.monotonic() + seconds
    for connection in connections:
        round_trips(connection, count)
    pairs = []
    while len(pairs) < rounds and (len(pairs) < ROUNDS_LEAST or time.monotonic() < end):
        pairs.append((round_trips(connections[0], count), round_trips(connections[1], count)))
    return (len(pairs), statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs),
            statistics.median(pair[1] - pair[0] for pair in pairs))


def measure_bytes(program, proxied, most, seconds):
    """(MiB, bytes per CPU second of the proxy, bytes per second)."""
    connection = connect(proxied, b"s")
    cpu, started = program.cpu_seconds(), time.monotonic()
    megabytes = 0
    while megabytes < most and (megabytes < BLOCKS_LEAST or time.monotonic() - started < seconds):
        connection.sendall(BLOCK)
        megabytes += 1
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    passed = time.monotonic() - started
    return megabytes, megabytes * len(BLOCK) / max(program.cpu_seconds() - cpu, 0.01), megabytes * len(BLOCK) / passed


def run():
    parser = argparse.ArgumentParser(prog="scripts/bench chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="direct and proxied in turn (default %(default)s)")
    parser.add_argument("--round-trips", type=int, default=500, help="of each round (default %(default)s)")
    parser.add_argument("--megabytes", type=int, default=4096, help="of the transfer (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=15,
                        help="after which each of the two parts ends, with fewer of them (default %(default)s)")
    options = parser.parse_args()
    common.print_machine()
    pids = []
    try:
        # One at a time: a server that echoes must not wait behind one that swallows.
        servers = [start_server(pids) for _ in range(3)]
        with common.Bench() as bench:
            proxies = [option for number, (host, port) in enumerate(servers[1:])
                       for option in ("--proxy", f"p{number}=127.0.0.1:0,{host}:{port}")]
            program = common.Program(bench, "chaos", common.BIN / "trunkline-chaos", *proxies)
            program.address()
            listening = [line.split()[2].rsplit(":", 1) for line in program.out.read_text().splitlines()
                         if line.startswith("listening on ")]
            echo, swallow = [(host, int(port)) for host, port in listening]
            try:
                rounds, direct_us, proxied_us, added_us = measure_added(servers[0], echo, options.rounds,
                                                                        options.round_trips, options.seconds)
                megabytes, per_cpu, per_second = measure_bytes(program, swallow, options.megabytes, options.seconds)
            except (TimeoutError, ConnectionError) as error:
                program.fail(f"has stalled: {error}; it has used {program.cpu_seconds():.1f} s of CPU")
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    if rounds < options.rounds or megabytes < options.megabytes:
        common.say(f"the machine is busy: {rounds} rounds and {megabytes} MiB were done")
    print()
    common.table(["", "figure", "bar"], [
        ["round trip, direct", f"{direct_us:.1f} us", ""],
        ["round trip, through the proxy", f"{proxied_us:.1f} us", ""],
        ["added", f"{added_us:.1f} us", f"{ADDED_MAX_US:.0f} us at most"],
        ["bytes per CPU second of the proxy", f"{per_cpu / 1e9:.2f} GB", f"{BYTES_PER_CPU_SECOND_MIN / 1e9:.0f} GB at least"],
        ["bytes per second", f"{per_second / 1e9:.2f} GB", ""],
    ])
    missed = added_us > ADDED_MAX_US or per_cpu < BYTES_PER_CPU_SECOND_MIN
    print("\na bar is missed" if missed else "\nboth bars are kept")
    return 1 if missed else 0


if __name__ == "__main__":
    common.main(run)
