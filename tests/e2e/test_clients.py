"""Clients that are not ours, and every way in which a connection can begin and end: OpenSSL, GnuTLS and Python speak
TLS to an edge; echo or a plain TCP server stands behind the core."""
import hashlib
import os
import socket
import ssl

import harness
from harness import (Case, Client, Interactive, client_context, join_address, pki, raw_end, receive_exactly, run, tool,
                     wait_for)

SUITES = {
    "-tls1_3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
    "-tls1_2": ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"],
}


class EchoTest(Case):
    """Stock clients against the echo service."""

    def setUp(self):
        self.relay_core = self.core()
        self.relay_edge = self.edge(self.relay_core)

    def check_clean(self, sessions):
        """Both sides agree that every session ended cleanly."""
        self.relay_core.wait_log("session-closed", count=sessions, reason="done")
        totals = self.relay_edge.stop()
        self.assertEqual((totals["opened"], totals["ended"], totals["trunk_lost"], totals["client_lost"]),
                         (sessions, sessions, 0, 0), totals)
        totals = self.relay_core.stop()
        self.assertEqual((totals["sessions_opened"], totals["sessions_closed"]), (sessions, sessions))

    def test_openssl_is_served_in_each_version_and_suite(self):
        count = 0
        for version, suites in SUITES.items():
            for suite in suites:
                with self.subTest(suite=suite):
                    choice = "-ciphersuites" if version == "-tls1_3" else "-cipher"
                    client = Interactive(self, tool("openssl"), "s_client", "-brief", version, choice, suite,
                                         "-connect", join_address(self.relay_edge.address), "-servername", "localhost",
                                         "-CAfile", pki()["ca.crt"], "-verify_return_error", "-verify_hostname",
                                         "localhost")
                    client.send(f"over {suite}")
                    lines = client.read_until("^over ")
                    self.assertIn(f"Ciphersuite: {suite}", lines)
                    self.assertIn("Verification: OK", lines)
                    self.assertEqual(lines[-1], f"over {suite}")
                    self.assertEqual(client.finish(), 0)
                    count += 1
        self.check_clean(count)

    def test_old_suites_are_refused(self):
        for suite in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256"):
            with self.subTest(suite=suite):
                done = run(tool("openssl"), "s_client", "-brief", "-tls1_2", "-cipher", suite,
                           "-connect", join_address(self.relay_edge.address), check=False)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("alert handshake failure", done.stderr)
        self.assertEqual(len(self.relay_edge.wait_log("client-handshake-failed", count=3)), 3)

    def test_gnutls_is_served(self):
        for count, priority in enumerate(("NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"), 1):
            with self.subTest(priority=priority):
                client = Interactive(self, tool("gnutls-cli"), "--x509cafile", pki()["ca.crt"], "--priority", priority,
                                     "--port", self.relay_edge.address[1], "localhost")
                client.read_until("Simple Client Mode")
                client.send("by way of GnuTLS")
                client.read_until("^by way of GnuTLS")
                self.assertEqual(client.finish(), 0)
                self.relay_core.wait_log("session-closed", count=count, reason="done")
        self.check_clean(2)

    def test_ten_megabytes_come_back_as_they_were_sent(self):
        data = os.urandom(1 << 20)
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.client(self.relay_edge, context=client_context(highest=highest))
            for _ in range(5):
                client.echo(data)
            client.half_close()
            self.assertEqual(client.read_end(), (b"", "close_notify"))
        self.check_clean(2)

    def test_many_clients_at_once_are_kept_apart(self):
        clients = [self.client(self.relay_edge) for _ in range(200)]
        for number, client in enumerate(clients):
            client.send(b"client %d;" % number * 50)
        for number, client in reversed(list(enumerate(clients))):
            expected = b"client %d;" % number * 50
            self.assertEqual(client.receive(len(expected)), expected)
        for client in clients:
            client.close()
        self.check_clean(200)


class EndTest(Case):
    """Each direction ends by itself, and what is not a clean end does not look like one, on either side."""

    def setUp(self):
        self.server = self.backend()
        self.relay_core = self.core(services=[f"app=forward:{join_address(self.server.getsockname())}"])
        self.relay_edge = self.edge(self.relay_core, service="app")

    def pair(self, **options):
        """A client and the backend's connection for it, after a word each way."""
        client = self.client(self.relay_edge, **options)
        connection = self.accept(self.server)
        client.send(b"ping")
        self.assertEqual(receive_exactly(connection, 4), b"ping")
        connection.sendall(b"pong")
        self.assertEqual(client.receive(4), b"pong")
        return client, connection

    def session_closed(self, reason):
        self.relay_core.wait_log("session-closed", reason=reason)
        self.assertEqual(len(self.relay_core.find("session-closed")), 1)

    def versions(self):
        """The same again for TLS 1.2 and 1.3."""
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            yield client_context(highest=highest)

    def test_the_answer_comes_after_the_client_has_ended(self):
        for context in self.versions():
            client, connection = self.pair(context=context)
            client.send(b"question" * 5000)
            client.half_close()
            data, end = raw_end(connection)
            self.assertEqual((data, end), (b"question" * 5000, "fin"))
            answer = b"answer" * 5000
            connection.sendall(answer)
            connection.close()
            self.assertEqual(client.read_end(), (answer, "close_notify"))
            client.close()
        self.relay_core.wait_log("session-closed", count=2, reason="done")
        self.assertEqual(self.relay_edge.stop()["ended"], 2)

    def test_the_client_goes_on_after_the_backend_has_ended(self):
        for context in self.versions():
            client, connection = self.pair(context=context)
            connection.sendall(b"all that I had to say")
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(client.read_end(), (b"all that I had to say", "close_notify"))
            client.send(b"more" * 20000)
            client.half_close()
            self.assertEqual(raw_end(connection), (b"more" * 20000, "fin"))
            client.close()
        self.relay_core.wait_log("session-closed", count=2, reason="done")

    def test_a_client_that_vanishes_is_no_clean_end_for_the_backend(self):
        for context in self.versions():
            client, connection = self.pair(context=context)
            client.vanish()
            self.assertEqual(raw_end(connection), (b"", "reset"))
        self.relay_core.wait_log("session-closed", count=2, reason="reset")
        self.assertEqual(self.relay_edge.stop()["truncated"], 2)

    def test_a_client_that_resets_resets_the_backend(self):
        client, connection = self.pair()
        client.reset()
        self.assertEqual(raw_end(connection), (b"", "reset"))
        self.session_closed("reset")
        self.assertEqual(self.relay_edge.stop()["client_lost"], 1)

    def test_a_client_that_resets_after_its_end_resets_the_backend(self):
        client, connection = self.pair()
        client.half_close()
        self.assertEqual(raw_end(connection), (b"", "fin"))
        client.reset()
        self.session_closed("reset")
        # The backend has read to the end already; it learns of the reset as it writes.
        with self.assertRaises((ConnectionResetError, BrokenPipeError)):
            for _ in range(1000):
                connection.sendall(b"anyone?" * 1000)

    def test_a_backend_that_resets_is_no_clean_end_for_the_client(self):
        for context in self.versions():
            client, connection = self.pair(context=context)
            harness.reset(connection)
            data, end = client.read_end()
            self.assertEqual(data, b"")
            self.assert_not_clean(end)
        self.relay_core.wait_log("session-closed", count=2, reason="aborted")
        self.assertEqual(self.relay_edge.stop()["trunk_lost"], 2)

    def test_a_backend_that_resets_after_half_of_its_answer_is_no_clean_end(self):
        client, connection = self.pair()
        connection.sendall(b"half")
        self.assertEqual(client.receive(4), b"half")
        harness.reset(connection)
        self.assert_not_clean(client.read_end()[1])

    def test_a_backend_that_ends_is_a_clean_end_for_the_client(self):
        client, connection = self.pair()
        connection.sendall(b"the end")
        connection.close()
        self.assertEqual(client.read_end(), (b"the end", "close_notify"))
        client.close()
        self.session_closed("done")
        self.assertEqual(self.relay_edge.stop()["ended"], 1)

    def test_bytes_that_come_with_the_handshake_are_relayed(self):
        client = Client(self.relay_edge.address)
        self.addCleanup(client.close)
        with self.assertRaises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.flush()
        while True:
            client.feed()
            try:
                client.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.flush()
        client.tls.write(b"early bird")  # in one segment with the client's Finished
        client.half_close()
        self.assertEqual(raw_end(self.accept(self.server)), (b"early bird", "fin"))


class ForwardTest(Case):
    """Where a session can be forwarded to, and what the backend is told."""

    def test_a_unix_socket_is_a_backend(self):
        path = self.directory / "backend.sock"
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        edge = self.edge(self.core(services=[f"app=forward:unix:{path}"]), service="app")
        client = self.client(edge)
        connection = self.accept(listener)
        client.send(b"over a path")
        client.half_close()
        self.assertEqual(raw_end(connection), (b"over a path", "fin"))

    def test_the_proxy_header_tells_who_the_client_is(self):
        server = self.backend()
        core = self.core(services=[f"app=forward:{join_address(server.getsockname())},proxy-v2"])
        edge = self.edge(core, "--alpn", "h2", service="app")
        client = self.client(edge, context=client_context(alpn=["h2"]))
        connection = self.accept(server)
        client.send(b"after the header")
        head = receive_exactly(connection, 16)
        self.assertEqual(head[:12], b"\r\n\r\n\x00\r\nQUIT\n")
        self.assertEqual(head[12:14], b"\x21\x11")  # version 2, PROXY; TCP over IPv4
        rest = receive_exactly(connection, int.from_bytes(head[14:16], "big"))
        source, port = client.socket.getsockname()
        self.assertEqual(rest[:4], socket.inet_aton(source))
        self.assertEqual(rest[4:8], socket.inet_aton("127.0.0.1"))
        self.assertEqual(int.from_bytes(rest[8:10], "big"), port)
        self.assertEqual(int.from_bytes(rest[10:12], "big"), edge.address[1])
        fields = {}
        rest = rest[12:]
        while rest:
            length = int.from_bytes(rest[1:3], "big")
            fields[rest[0]] = rest[3:3 + length]
            rest = rest[3 + length:]
        self.assertEqual(fields[0x01], b"h2")  # PP2_TYPE_ALPN
        self.assertEqual(fields[0x02], b"localhost")  # PP2_TYPE_AUTHORITY
        self.assertEqual(receive_exactly(connection, 16), b"after the header")


class HandshakeTest(Case):
    """What the TLS handshake agrees on."""

    def test_alpn_follows_the_edges_preference_and_decides_the_service(self):
        first, second = self.backend(), self.backend()
        core = self.core(services=[f"one=forward:{join_address(first.getsockname())}",
                                   f"two=forward:{join_address(second.getsockname())}"])
        edge = self.edge(core, "--alpn", "h2", "--alpn", "http/1.1", "--route", "alpn=h2,service=two", service="one")
        for offer, chosen, server in ((["http/1.1", "h2"], "h2", second), (["http/1.1"], "http/1.1", first),
                                      (None, None, first)):
            with self.subTest(offer=offer):
                client = self.client(edge, context=client_context(alpn=offer))
                self.assertEqual(client.tls.selected_alpn_protocol(), chosen)
                client.send(b"hello")
                self.assertEqual(receive_exactly(self.accept(server), 5), b"hello")
        refused = Client(edge.address, context=client_context(alpn=["imap"]))
        self.addCleanup(refused.socket.close)
        with self.assertRaises(ssl.SSLError) as raised:
            refused.handshake()
        self.assertIn("NO_APPLICATION_PROTOCOL", harness.alert_name(raised.exception))
        line, = edge.wait_log("client-handshake-failed", peer=refused.name)
        self.assertEqual(line["error"], "tls-no-alpn")

    def test_the_certificate_follows_the_name_that_the_client_asks_for(self):
        second = pki().self_signed("chat", ["chat.example.com", "*.chat.example.com"])
        server = self.backend()
        core = self.core(services=["echo=echo", f"chat=forward:{join_address(server.getsockname())}"])
        edge = self.edge(core, "--certificate", pki()["edge.crt"], "--key", pki()["edge.key"], "--certificate",
                         second[0], "--key", second[1], "--route", "sni=chat.example.com,service=chat")
        self.client(edge).echo()
        chat = self.client(edge, context=client_context(authority=second[0]), server_name="chat.example.com")
        chat.send(b"to chat")
        self.assertEqual(receive_exactly(self.accept(server), 7), b"to chat")
        self.client(edge, context=client_context(authority=second[0]), server_name="eu.chat.example.com").echo()
        # Without a name, the first certificate and the service for all.
        anonymous = client_context()
        anonymous.check_hostname = False
        self.client(edge, context=anonymous, server_name=None).echo()

    def resume(self, edge, other, version, context):
        """A session with `edge` that is resumed with `other`."""
        first = self.client(edge, context=context)
        first.echo()  # a TLS 1.3 ticket comes after the handshake
        session = first.tls.session
        self.assertFalse(first.tls.session_reused)
        first.close()
        second = self.client(other, context=context, session=session)
        second.echo(b"again")
        self.assertEqual(second.tls.version(), version)
        reused = second.tls.session_reused
        second.close()
        return reused

    def test_sessions_are_resumed_by_every_edge_that_shares_the_ticket_key(self):
        key = self.directory / "ticket.key"
        key.write_bytes(os.urandom(64))
        core = self.core()
        shared = [self.edge(core, "--ticket-key", key, name=f"edge-{number}") for number in (1, 2)]
        stranger = self.edge(core, name="stranger")
        silent = self.edge(core, "--tickets", "off", name="silent")
        for version, highest in (("TLSv1.2", ssl.TLSVersion.TLSv1_2), ("TLSv1.3", ssl.TLSVersion.TLSv1_3)):
            with self.subTest(version=version):
                self.assertTrue(self.resume(shared[0], shared[0], version, client_context(highest=highest)))
                self.assertTrue(self.resume(shared[0], shared[1], version, client_context(highest=highest)))
                self.assertFalse(self.resume(shared[0], stranger, version, client_context(highest=highest)))
                self.assertFalse(self.resume(silent, silent, version, client_context(highest=highest)))

    def test_openssl_resumes_with_another_edge(self):
        key = self.directory / "ticket.key"
        key.write_bytes(os.urandom(64))
        core = self.core()
        edges = [self.edge(core, "--ticket-key", key, name=f"edge-{number}") for number in (1, 2)]
        for version in SUITES:
            with self.subTest(version=version):
                saved = self.directory / f"session{version}.pem"
                for edge, option, expected in ((edges[0], "-sess_out", "New, "), (edges[1], "-sess_in", "Reused, ")):
                    client = Interactive(self, tool("openssl"), "s_client", version, option, saved, "-connect",
                                         join_address(edge.address), "-servername", "localhost", "-CAfile",
                                         pki()["ca.crt"])
                    client.send("hello")
                    lines = client.read_until("^hello")
                    self.assertTrue(any(line.startswith(expected) for line in lines), lines)
                    self.assertEqual(client.finish(), 0)

    def test_client_certificates_are_verified(self):
        pki().self_signed("clients-ca", ["clients.example.com"])
        valid = pki().client("alice", "clients-ca")
        pki().self_signed("other-ca", ["other.example.com"])
        foreign = pki().client("mallory", "other-ca")
        core = self.core()
        optional = self.edge(core, "--client-certificate", "optional", "--client-ca", pki()["clients-ca.crt"],
                             name="optional")
        require = self.edge(core, "--client-certificate", "require", "--client-ca", pki()["clients-ca.crt"],
                            name="require")
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.client(optional, context=client_context(highest=highest)).echo()
            for edge in (optional, require):
                self.client(edge, context=client_context(highest=highest, certificate=valid)).echo()
            for edge, certificate, alerts in ((optional, foreign, ("UNKNOWN_CA", "BAD_CERTIFICATE")),
                                              (require, foreign, ("UNKNOWN_CA", "BAD_CERTIFICATE")),
                                              (require, None, ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE"))):
                with self.subTest(edge=edge.name, certificate=certificate, highest=highest):
                    client = Client(edge.address, context=client_context(highest=highest, certificate=certificate))
                    self.addCleanup(client.socket.close)
                    with self.assertRaises(ssl.SSLError) as raised:
                        client.handshake().receive(1)
                    self.assertTrue(any(alert in raised.exception.reason for alert in alerts), raised.exception)
                    line, = edge.wait_log("client-handshake-failed", peer=client.name)
                    self.assertEqual(line["error"], "tls-certificate")

    def test_ipv6_clients_are_served_by_a_listener_of_their_own(self):
        edge = self.edge(self.core(), "--listen", "127.0.0.1:0", "--listen", "[::1]:0", listens=2)
        self.assertEqual([address[0] for address in edge.addresses], ["127.0.0.1", "::1"])
        for address in edge.addresses:
            self.client(address).echo(b"hello " + address[0].encode())


class DigestTest(Case):
    """Bytes in bulk, by hash."""

    def test_fifty_megabytes_each_way_at_the_same_time(self):
        server = self.backend()
        edge = self.edge(self.core(services=[f"app=forward:{join_address(server.getsockname())}"], log_level="info"),
                         service="app", log_level="info")
        total = 50 << 20
        block = os.urandom(1 << 20)
        client = self.client(edge)
        connection = self.accept(server)
        connection.setblocking(False)
        client.socket.setblocking(False)
        digests = {"up": hashlib.sha256(), "down": hashlib.sha256()}
        counts = {"up": 0, "down": 0, "sent": 0, "encrypted": 0}
        waiting = memoryview(b"")

        def turn():
            nonlocal waiting
            try:
                if counts["sent"] < total:
                    start = counts["sent"] % len(block)
                    counts["sent"] += connection.send(memoryview(block)[start:])
            except BlockingIOError:
                pass
            try:
                part = connection.recv(1 << 18)
                digests["up"].update(part)
                counts["up"] += len(part)
            except BlockingIOError:
                pass
            if not waiting and counts["encrypted"] < total:
                start = counts["encrypted"] % len(block)
                part = memoryview(block)[start:start + 65536]
                client.tls.write(part)
                counts["encrypted"] += len(part)
                waiting = memoryview(client.outgoing.read())
            try:
                waiting = waiting[client.socket.send(waiting):] if waiting else waiting
            except BlockingIOError:
                pass
            try:
                client.incoming.write(client.socket.recv(1 << 18))
            except BlockingIOError:
                pass
            try:
                part = client.tls.read(1 << 18)
                digests["down"].update(part)
                counts["down"] += len(part)
            except ssl.SSLWantReadError:
                pass
            return counts["up"] == total and counts["down"] == total

        def turns():
            return any(turn() for _ in range(200))

        wait_for(turns, 60, lambda: f"all bytes arrive: {counts}")
        expected = hashlib.sha256(block * (total // len(block))).hexdigest()
        self.assertEqual((digests["up"].hexdigest(), digests["down"].hexdigest()), (expected, expected))
        client.socket.settimeout(10)
        client.half_close()
        connection.settimeout(10)
        self.assertEqual(connection.recv(1), b"")
        connection.close()
        self.assertEqual(client.read_end(), (b"", "close_notify"))


if __name__ == "__main__":
    harness.main()
