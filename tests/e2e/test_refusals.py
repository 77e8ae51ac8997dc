"""Clients that are refused: each gets the proper alert and one counted log line with its address, and a bystander on
the same edge goes on echoing throughout."""
import os
import socket
import ssl
import struct
import time

import harness
from harness import Case, Client, Interactive, client_context, join_address, patience, raw_end, run, tool, wait_for

ALERT_UNEXPECTED_MESSAGE = 10
ALERT_HANDSHAKE_FAILURE = 40
ALERT_DECODE_ERROR = 50
ALERT_PROTOCOL_VERSION = 70


def client_hello(name="localhost"):
    """The first flight of a modern client."""
    outgoing = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def old_client_hello(version):
    """A ClientHello of a client that knows nothing newer than `version`: no supported_versions extension."""
    def vector(size, data):
        return len(data).to_bytes(size, "big") + data

    def extension(number, data):
        return struct.pack(">H", number) + vector(2, data)

    extensions = (extension(0, vector(2, b"\0" + vector(2, b"localhost"))) +
                  extension(10, vector(2, bytes.fromhex("001d00170018"))) +  # groups
                  extension(11, vector(1, b"\0")) +  # point formats
                  extension(13, vector(2, bytes.fromhex("040305030603040105010601"))))  # signature algorithms
    body = (struct.pack(">H", version) + os.urandom(32) + vector(1, b"") +
            vector(2, bytes.fromhex("c02bc02cc009c00a00ff")) + vector(1, b"\0") + vector(2, extensions))
    handshake = b"\1" + vector(3, body)
    return b"\x16" + struct.pack(">H", 0x0301) + vector(2, handshake)


def plain_alert(data):
    """The description of a fatal alert that was sent in clear; None when there is none."""
    while len(data) >= 5:
        kind, length = data[0], int.from_bytes(data[3:5], "big")
        record = data[5:5 + length]
        if kind == 21 and length == 2 and record[0] == 2:
            return record[1]
        data = data[5 + length:]
    return None


class RefusalCase(Case):
    """With a bystander."""

    def setUp(self):
        self.connections = []

    def start_edge(self, core, *options, **more):
        self.relay_edge = self.edge(core, *options, **more)
        return self.relay_edge

    def watch(self, edge, **options):
        """From now on a bystander must be served, before and after each refusal."""
        self.bystander = self.client(edge, **options)
        self.bystander.echo()

    def raw(self):
        connection = self.tcp(self.relay_edge.address)
        self.connections.append(connection)
        return connection, join_address(connection.getsockname())

    def assert_logged_once(self, event, peer, error, **fields):
        """One line, once the other's connection is over; and the bystander has not noticed."""
        lines = self.relay_edge.wait_log(event, peer=peer)
        self.bystander.echo()
        lines = self.relay_edge.find(event, peer=peer)
        self.assertEqual(len(lines), 1, lines)
        self.assertEqual(lines[0]["error"], error, lines[0])
        for name, value in fields.items():
            self.assertEqual(lines[0].get(name), value, lines[0])
        return lines[0]


class HandshakeRefusalTest(RefusalCase):
    def setUp(self):
        super().setUp()
        self.relay_core = self.core()
        self.start_edge(self.relay_core, "--handshake-timeout", "1s")
        self.watch(self.relay_edge)

    def stop_and_count(self, failed):
        self.bystander.close()
        for connection in self.connections:  # the edge waits for their FIN
            connection.close()
        totals = self.relay_edge.stop()
        self.assertEqual((totals["handshakes_failed"], totals["opened"], totals["ended"]), (failed, 1, 1), totals)
        totals = self.relay_core.stop()
        self.assertEqual((totals["sessions_opened"], totals["sessions_closed"], totals["streams_refused"]), (1, 1, 0))

    def test_clients_that_speak_no_tls(self):
        texts = (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 64, b"\xff" * 5,
                 os.urandom(1) + b"\x80\x2e\1\0\2" * 20)
        for text in texts:
            with self.subTest(text=text):
                connection, peer = self.raw()
                connection.sendall(text)
                data, _ = raw_end(connection)
                # An alert is all that it may see.
                self.assertTrue(not data or plain_alert(data) is not None, data)
                line = self.assert_logged_once("client-handshake-failed", peer, "tls-not-tls")
                self.assertEqual(line["alert"], plain_alert(data) or line["alert"])
        self.stop_and_count(len(texts))

    def test_half_a_handshake_that_stalls(self):
        hello = client_hello()
        parts = (b"", hello[:1], hello[:20], hello[:-1], hello)
        started = time.monotonic()
        connections = [self.raw() for _ in parts]
        for (connection, _), part in zip(connections, parts):
            connection.sendall(part)
        for (connection, peer), part in zip(connections, parts):
            with self.subTest(sent=len(part)):
                data, _ = raw_end(connection)
                if part == hello:
                    self.assertEqual(data[:1], b"\x16")  # it was answered, and then nothing more came
                else:
                    self.assertIn(plain_alert(data), (None, ALERT_HANDSHAKE_FAILURE))
                self.assert_logged_once("client-handshake-failed", peer, "timeout")
        elapsed = time.monotonic() - started
        self.assertGreater(elapsed, 0.9)
        self.assertLess(elapsed, 4 * patience())
        self.stop_and_count(len(parts))

    def test_a_handshake_that_comes_byte_by_byte_has_the_same_deadline(self):
        connection, peer = self.raw()
        hello = client_hello()
        sent = 0

        def trickle():
            nonlocal sent
            try:
                sent += connection.send(hello[sent % len(hello):][:1])
            except OSError:
                return True
            return bool(self.relay_edge.find("client-handshake-failed", peer=peer)) or sent > len(hello) // 2
        wait_for(trickle, 20, "the handshake is refused")
        self.assert_logged_once("client-handshake-failed", peer, "timeout")

    def test_clients_that_leave_within_the_handshake(self):
        hello = client_hello()
        for part, end in ((b"", "fin"), (hello[:50], "fin"), (hello[:50], "reset"), (hello, "reset")):
            with self.subTest(sent=len(part), end=end):
                connection, peer = self.raw()
                connection.sendall(part)
                if end == "fin":
                    connection.close()
                    self.assert_logged_once("client-handshake-failed", peer, "peer-closed")
                else:
                    harness.reset(connection)
                    self.assert_logged_once("client-handshake-failed", peer, "peer-reset")
        self.stop_and_count(4)

    def test_old_versions_of_tls(self):
        for version in (0x0300, 0x0301, 0x0302):
            with self.subTest(version=hex(version)):
                connection, peer = self.raw()
                connection.sendall(old_client_hello(version))
                data, _ = raw_end(connection)
                self.assertEqual(plain_alert(data), ALERT_PROTOCOL_VERSION, data)
                self.assert_logged_once("client-handshake-failed", peer, "tls-version", alert=ALERT_PROTOCOL_VERSION)
        # The same ClientHello with TLS 1.2 is fine: it is the version that was refused.
        connection, _ = self.raw()
        connection.sendall(old_client_hello(0x0303))
        self.assertEqual(harness.receive_exactly(connection, 1), b"\x16")
        connection.close()
        self.stop_and_count(4)

    def test_no_suite_in_common(self):
        done = run(tool("openssl"), "s_client", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256", "-connect",
                   join_address(self.relay_edge.address), check=False)
        self.assertIn("alert handshake failure", done.stderr)
        line, = self.relay_edge.wait_log("client-handshake-failed")
        self.assertEqual((line["error"], line["alert"]), ("tls-no-suite", ALERT_HANDSHAKE_FAILURE))
        self.stop_and_count(1)

    def test_a_client_that_does_not_trust_the_edge(self):
        client = Client(self.relay_edge.address, context=client_context(authority=harness.foreign_pki()["ca.crt"]))
        self.connections.append(client.socket)
        with self.assertRaises(ssl.SSLCertVerificationError):
            client.handshake()
        line, = self.relay_edge.wait_log("client-handshake-failed", peer=client.name)
        # OpenSSL sends its alert in clear when the edge's keys have changed already: no authentic record.
        self.assertIn(line["error"], ("tls-alert", "tls-record"))
        self.bystander.echo()
        self.stop_and_count(1)

    def test_garbage_after_the_handshake(self):
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for garbage, alerts in (
                    (b"\x17\x03\x03\x00\x40" + os.urandom(64), ("BAD_RECORD_MAC", "DECRYPTION_FAILED")),
                    (b"\x17\x03\x03\x48\x01" + os.urandom(64), ("RECORD_OVERFLOW",)),
                    (b"GET / HTTP/1.1\r\n\r\n", ())):
                with self.subTest(highest=highest, garbage=garbage[:8]):
                    client = self.client(self.relay_edge, context=client_context(highest=highest))
                    client.echo()
                    client.socket.sendall(garbage)
                    data, end = client.read_end()
                    self.assertEqual(data, b"")
                    self.assert_not_clean(end)
                    if alerts:
                        self.assertTrue(any(alert in end for alert in alerts), end)
                    self.assert_logged_once("client-failed", client.name, "tls-record")
        self.relay_core.wait_log("session-closed", count=6, reason="reset")

    def test_renegotiation_is_refused(self):
        client = Interactive(self, tool("openssl"), "s_client", "-tls1_2", "-connect",
                             join_address(self.relay_edge.address))
        client.send("before")
        client.read_until("^before")
        client.send("R")
        line, = self.relay_edge.wait_log("client-failed")
        self.assertEqual(line["error"], "tls-renegotiation")
        self.bystander.echo()


class NameRefusalTest(RefusalCase):
    def test_an_unknown_name_gets_an_alert_where_the_edge_says_so(self):
        self.start_edge(self.core(), "--unknown-sni", "alert")
        self.watch(self.relay_edge)
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = Client(self.relay_edge.address, server_name="unknown.example.com",
                            context=client_context(highest=highest))
            self.addCleanup(client.socket.close)
            with self.assertRaises(ssl.SSLError) as raised:
                client.handshake()
            self.assertIn("UNRECOGNIZED_NAME", raised.exception.reason)
            self.assert_logged_once("client-handshake-failed", client.name, "tls-unknown-name", alert=112)

    def test_an_unknown_name_gets_the_default_certificate_otherwise(self):
        self.start_edge(self.core())
        self.watch(self.relay_edge)
        context = client_context()
        context.check_hostname = False
        client = self.client(self.relay_edge, server_name="unknown.example.com", context=context)
        client.echo()
        self.assertIn(("DNS", "localhost"), client.tls.getpeercert()["subjectAltName"])


class OpeningRefusalTest(RefusalCase):
    """The handshake is fine, and yet there is no session."""

    def assert_refused(self, end, error, client=None, **fields):
        """A new client gets the alert, and the line tells why."""
        client = client or self.client(self.relay_edge)
        self.assertEqual(client.read_end(), (b"", end))
        self.assert_logged_once("client-refused", client.name, error, **fields)

    def test_no_route(self):
        self.start_edge(self.core(), "--route", "sni=localhost,service=echo", service=None)
        self.watch(self.relay_edge)
        anonymous = client_context()
        anonymous.check_hostname = False
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            anonymous.maximum_version = highest
            client = self.client(self.relay_edge, context=anonymous, server_name="other.example.com")
            self.assert_refused("TLSV1_ALERT_ACCESS_DENIED", "unknown-service", client=client,
                                sni="other.example.com")

    def test_a_service_that_the_core_does_not_have(self):
        core = self.core()
        self.start_edge(core, "--route", "sni=localhost,service=echo", service="nosuch")
        self.watch(self.relay_edge)
        anonymous = client_context()
        anonymous.check_hostname = False
        client = self.client(self.relay_edge, context=anonymous, server_name=None)
        self.assert_refused("TLSV1_ALERT_ACCESS_DENIED", "refused", client=client, status=404)
        line, = core.find("stream-refused")
        self.assertEqual((line["error"], line["service"], line["client"]), ("unknown-service", "nosuch", client.name))

    def test_a_core_that_has_reached_its_limit(self):
        core = self.core("--sessions-max", "1")
        self.start_edge(core)
        self.watch(self.relay_edge)
        self.assert_refused("TLSV1_ALERT_INTERNAL_ERROR", "refused")
        for line in core.find("stream-refused"):
            self.assertEqual(line["error"], "limit")
        self.bystander.close()
        core.wait_log("session-closed", reason="done")
        self.watch(self.relay_edge)  # there is room again

    def test_a_backend_that_cannot_be_reached(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = join_address(taken.getsockname())
        core = self.core(services=["echo=echo", f"app=forward:{address}", "path=forward:unix:/nowhere/app.sock"])
        self.start_edge(core, "--route", "sni=localhost,service=echo", "--route", "sni=path.example.com,service=path",
                        service="app")
        self.watch(self.relay_edge)
        anonymous = client_context()
        anonymous.check_hostname = False
        for name, service in ((None, "app"), ("path.example.com", "path")):
            client = self.client(self.relay_edge, context=anonymous, server_name=name)
            self.assert_refused("TLSV1_ALERT_INTERNAL_ERROR", "refused", client=client, status=502)
            line, = core.find("session-refused", service=service)
            self.assertEqual((line["status"], line["client"]), (502, client.name))

    def test_no_core_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = taken.getsockname()
        self.relay_edge = self.edge(address, "--open-timeout", "300ms", trunks_up=0)
        client = self.client(self.relay_edge)
        self.assertEqual(client.read_end(), (b"", "TLSV1_ALERT_INTERNAL_ERROR"))
        line, = self.relay_edge.wait_log("client-refused", peer=client.name)
        self.assertEqual(line["error"], "timeout")

    def assert_over(self, limit):
        """One more connection is reset at once."""
        with socket.socket() as over:
            over.settimeout(10 * patience())
            over.bind(("127.0.0.1", 0))
            peer = join_address(over.getsockname())
            with self.assertRaises(ConnectionResetError):
                over.connect(self.relay_edge.address)
                over.recv(1)
        line, = self.relay_edge.wait_log("client-over-limit", peer=peer)
        self.assertEqual(line["limit"], limit)
        self.bystander.echo()

    def test_an_edge_that_has_reached_its_limit_of_handshakes(self):
        self.start_edge(self.core(), "--handshakes-max", "1", "--workers", "1", trunks_up=1)
        self.watch(self.relay_edge)
        handshaking, _ = self.raw()
        handshaking.sendall(client_hello()[:10])
        self.assert_over("handshakes-max")
        handshaking.close()
        self.relay_edge.wait_log("client-handshake-failed")
        self.client(self.relay_edge).echo()

    def test_an_edge_that_has_reached_its_limit_of_sessions(self):
        self.start_edge(self.core(), "--sessions-max", "2", "--workers", "1", trunks_up=1)
        self.watch(self.relay_edge)
        second = self.client(self.relay_edge)
        second.echo()
        self.assert_over("sessions-max")
        second.close()
        self.relay_edge.wait_log("client-state", peer=second.name, to="closed")
        self.client(self.relay_edge).echo()


if __name__ == "__main__":
    harness.main()
