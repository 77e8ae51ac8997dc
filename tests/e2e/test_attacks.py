"""Attacks, and those who must not notice. Each attack goes on for as long as honest clients exchange messages beside it,
against one worker, so that nothing but the order of work protects them: their p99, and the memory of the program that is
attacked, have bounds. Every message of theirs must come back, once and unaltered."""
import contextlib
import json
import socket
import ssl
import struct
import sys
import time

import harness
from harness import BIN, Case, client_context, join_address, patience, pki, reset, sanitized, wait_for
from test_refusals import client_hello

BYSTANDERS = 20
MESSAGES_PER_SECOND = 200
SECONDS = 3
P99_MS = 500           # of a machine whose CPUs are all taken; whoever is starved waits for seconds
TRUNK_MEMORY = 64 << 20
ENHANCE_YOUR_CALM = 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_HEADERS = 4
CONNECT = b"\x02\x07CONNECT\x01\x04echo"  # :method and :authority, RFC 7541 section 6.2.2
MALFORMED = b"\x02\x07CONNECT\x02\x03GET"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Attacked(Case):
    """Runs an attack for as long as the bystanders' messages go on."""

    observed = True

    def bystanders(self, edge):
        self.result = self.directory / "bystanders.json"
        ready = self.directory / "ready"
        load = self.start("bystanders", BIN / "trunkline-load", "--connect", join_address(edge.address), "--server-name",
                          "localhost", "--ca", pki()["ca.crt"], "--clients", BYSTANDERS, "--messages-per-second",
                          MESSAGES_PER_SECOND, "--duration", SECONDS, "--json", self.result, "--wait-file", ready)
        wait_for(lambda: ready.exists() or not load.running(), 20, "the bystanders are connected")
        (self.directory / "ready.go").touch()
        return load

    def withstand(self, edge, victim, rounds, memory_max):
        """`rounds` is a generator: the attack goes from one of its steps to the next. Returns how many there were."""
        before = peak = victim.memory()
        count = 0
        load = self.bystanders(edge)
        for _ in rounds:
            count += 1
            if not load.running():
                break
            peak = max(peak, victim.memory()) if count % 50 == 1 else peak
        load.wait(60)
        peak = max(peak, victim.memory())
        figures = json.loads(self.result.read_text())
        p99 = figures["microseconds"]["echo"]["p99"] / 1000
        print(f"{self._testMethodName}: {count} rounds, bystanders' p99 {p99:.1f} ms, memory {before >> 10} KB, then at "
              f"most {peak >> 10} KB", file=sys.stderr)
        self.assertEqual(load.popen.returncode in (0, 4), True, load.output_text() + load.error_text())
        self.assertGreater(count, 1)
        self.assertLess(p99, P99_MS * patience())
        if not sanitized():
            self.assertLess(peak - before, memory_max)
        return count


class HostileTrunk:
    """A TLS connection of an edge that is authenticated, and speaks HTTP/2 by hand."""

    def __init__(self, core):
        context = client_context(alpn=["h2"], certificate=(pki()["trunk.crt"], pki()["trunk.key"]))
        self.socket = context.wrap_socket(socket.create_connection(core.address, 10 * patience()), server_hostname="core")
        self.received = b""
        self.codes = []
        self.next_stream = 1
        self.socket.sendall(PREFACE + frame(SETTINGS))

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()

    def stream(self):
        self.next_stream += 2
        return self.next_stream - 2

    def send(self, data):
        """False when the core has ended the trunk."""
        try:
            self.socket.settimeout(10 * patience())
            self.socket.sendall(data)
            self.read(0)
            return True
        except (ssl.SSLError, OSError):
            self.read(2 * patience())
            return False

    def read(self, timeout):
        """Takes what has come: GOAWAYs are remembered."""
        self.socket.settimeout(timeout)
        with contextlib.suppress(ssl.SSLError, OSError):
            while True:
                part = self.socket.recv(65536)
                if not part:
                    break
                self.received += part
        while len(self.received) >= 9:
            length = int.from_bytes(self.received[:3], "big")
            if len(self.received) < 9 + length:
                break
            if self.received[3] == GOAWAY:
                self.codes.append(int.from_bytes(self.received[13:17], "big"))
            self.received = self.received[9 + length:]


class TrunkFloods(Attacked):
    """An edge whose key is in wrong hands."""

    def flood(self, make):
        """`make(trunk)` gives bytes of some thousand frames. When a trunk is ended the attacker comes again."""
        core = self.core("--workers", 1, "--sessions-per-trunk", 1000, log_level="info")
        edge = self.edge(core, "--workers", 1, log_level="info", trunks_up=1)
        codes = []

        def rounds():
            while True:
                trunk = HostileTrunk(core)
                try:
                    while trunk.send(make(trunk)):
                        yield
                    codes.extend(trunk.codes)
                finally:
                    trunk.close()
                yield
        self.withstand(edge, core, rounds(), TRUNK_MEMORY)
        self.assertIn(ENHANCE_YOUR_CALM, codes)
        self.assertEqual(set(codes) - {ENHANCE_YOUR_CALM}, set())
        core.wait_log("trunk-down", error="trunk-flooded")
        self.assertEqual(edge.find("trunk-down"), [])

    def test_pings(self):
        pings = frame(PING, payload=b"12345678") * 500
        self.flood(lambda trunk: pings)

    def test_settings(self):
        settings = frame(SETTINGS) * 500
        self.flood(lambda trunk: settings)

    def test_settings_that_change_every_window(self):
        def make(trunk):
            opens = b"".join(frame(HEADERS, END_HEADERS, trunk.stream(), CONNECT) for _ in range(1000)) \
                if trunk.next_stream == 1 else b""
            return opens + (frame(SETTINGS, payload=struct.pack(">HI", 4, 65536)) +
                            frame(SETTINGS, payload=struct.pack(">HI", 4, 65537))) * 100
        self.flood(make)

    def test_window_updates(self):
        updates = frame(WINDOW_UPDATE, payload=b"\0\0\0\1") * 2000
        self.flood(lambda trunk: updates)

    def test_priorities_and_empty_data(self):
        def make(trunk):
            if trunk.next_stream == 1:
                return frame(HEADERS, END_HEADERS, trunk.stream(), CONNECT)
            return (frame(PRIORITY, stream=7, payload=b"\0\0\0\0\1") + frame(DATA, stream=1)) * 1000
        self.flood(make)

    def test_frames_that_nobody_knows(self):
        unknown = frame(0xee, payload=b"x" * 1000) * 60
        self.flood(lambda trunk: unknown)

    def test_rapid_resets(self):
        def make(trunk):
            frames = []
            for _ in range(1000):
                stream = trunk.stream()
                frames += [frame(HEADERS, END_HEADERS, stream, CONNECT), frame(RST_STREAM, stream=stream,
                                                                              payload=b"\0\0\0\x08")]
            return b"".join(frames)
        self.flood(make)

    def test_streams_beyond_the_limit(self):
        self.flood(lambda trunk: b"".join(frame(HEADERS, END_HEADERS, trunk.stream(), CONNECT) for _ in range(1000)))

    def test_malformed_requests(self):
        self.flood(lambda trunk: b"".join(frame(HEADERS, END_HEADERS, trunk.stream(), MALFORMED) for _ in range(20)))


class ClientFloods(Attacked):
    """Anybody who can reach the edge's port."""

    def relay(self, *options):
        core = self.core("--workers", 1, log_level="info")
        return self.edge(core, "--workers", 1, *options, log_level="info", trunks_up=1)

    def connect(self, edge):
        connection = self.tcp(edge.address)
        connection.setblocking(False)
        return connection

    def test_connections_that_say_nothing(self):
        edge = self.relay("--handshake-timeout", "1s")
        connections = []

        def rounds():
            while len(connections) < 1500:
                connections.append(self.connect(edge))
                yield
            while True:
                time.sleep(0.01)
                yield
        self.withstand(edge, edge, rounds(), 2 << 20)
        wait_for(lambda: edge.files() < 60, 10, "all are closed")

    def test_handshakes_that_never_end(self):
        edge = self.relay("--handshake-timeout", "1s")
        hello = client_hello()

        def rounds():
            while True:
                connections = [self.connect(edge) for _ in range(100)]
                for at in range(len(hello) - 1):
                    for connection in connections:
                        with contextlib.suppress(OSError):
                            connection.send(hello[at:at + 1])
                    time.sleep(0.005)
                    yield
                for connection in connections:
                    connection.close()
        self.withstand(edge, edge, rounds(), 8 << 20)
        self.assertTrue(edge.find("client-handshake-failed"))

    def test_garbage_instead_of_tls(self):
        edge = self.relay()

        def rounds():
            while True:
                connection = self.connect(edge)
                with contextlib.suppress(OSError):
                    connection.send(b"\x16\x03\x01\x40\x00" + bytes(range(256)) * 60)
                reset(connection)
                yield
        self.withstand(edge, edge, rounds(), 8 << 20)

    def test_handshakes_without_end(self):
        """Full ClientHellos: each makes the edge sign."""
        edge = self.relay()
        hello = client_hello()

        def rounds():
            while True:
                connections = [self.connect(edge) for _ in range(50)]
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.send(hello)
                    yield
                for connection in connections:
                    reset(connection)
        self.withstand(edge, edge, rounds(), 16 << 20)

    def test_clients_that_do_not_read(self):
        """Each may hold its windows, and what the kernel holds for its socket."""
        edge = self.relay("--stall-timeout", "1s")
        clients = []

        def rounds():
            for _ in range(30):
                client = self.client(edge, receive_buffer=4096)
                client.socket.setblocking(False)
                clients.append(client)
                yield
            while True:
                for client in clients:
                    with contextlib.suppress(ssl.SSLError, OSError):
                        client.tls.write(b"x" * 16384)
                        client.flush()
                    yield
        self.withstand(edge, edge, rounds(), 30 * (4 * 65536 + 65536))
        wait_for(lambda: edge.find("client-stalled"), 10, "some are stalled for too long")


if __name__ == "__main__":
    harness.main()
