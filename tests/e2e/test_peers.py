"""The trunk is ordinary HTTP/2: Node's server stands in for the core, Node's client for the edge. And whoever may not
speak on a trunk, or speaks it badly, is refused without harm to others."""
import base64
import contextlib
import json
import socket
import ssl
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings

import harness
from harness import (HERE, Case, client_context, foreign_pki, join_address, patience, pki, raw_end, run, split_address,
                     tool, wait_for)


class CoreStandInTest(Case):
    """trunkline-edge with Node's HTTP/2 server in the core's place."""

    def setUp(self):
        self.server = self.start("node", tool("node"), HERE / "core_standin.js", pki()["core.crt"], pki()["core.key"],
                                 pki()["ca.crt"])
        self.address = split_address(self.server.wait_output(r"^listening on (\S+)$").group(1))

    def events(self, event, count=1):
        """What the server printed of a kind, as soon as it is there."""
        def printed():
            lines = [json.loads(line) for line in self.server.output_text().splitlines() if line.startswith("{")]
            found = [line for line in lines if line["event"] == event]
            return found if len(found) >= count else None
        return wait_for(printed, 10, lambda: f"{event} {count} times; so far: {self.server.output_text()}")

    def test_bytes_and_ends_are_relayed_both_ways(self):
        edge = self.edge(self.address)
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = self.client(edge, context=client_context(highest=highest))
            client.echo(b"hello" * 100000)
            client.half_close()
            self.assertEqual(client.read_end(), (b"", "close_notify"))
            client.close()
        for close in self.events("close", 2):
            self.assertEqual((close["bytes"], close["code"]), (500000, 0))
        trunks = self.events("trunk", 2)
        self.assertEqual([(trunk["name"], trunk["alpn"]) for trunk in trunks], [("edge", "h2")] * 2)
        self.assertEqual(edge.stop()["ended"], 2)

    def test_many_sessions_share_a_trunk(self):
        edge = self.edge(self.address, "--workers", "1", trunks_up=1)
        clients = [self.client(edge) for _ in range(150)]  # more than the 100 that HTTP/2 libraries start with
        for client in clients:
            client.echo(client.name.encode())
        self.assertEqual(len(self.events("stream", 150)), 150)
        self.assertEqual(len(self.events("trunk")), 1)

    def test_the_server_may_speak_and_end_first(self):
        edge = self.edge(self.address, service="speaker")
        client = self.client(edge)
        self.assertEqual(client.read_end(), (b"first word and last word", "close_notify"))
        client.send(b"still here")
        client.half_close()
        self.assertEqual(self.events("end")[0]["bytes"], 10)
        self.assertEqual(self.events("close")[0]["code"], 0)

    def test_a_reset_by_the_server_is_no_clean_end(self):
        edge = self.edge(self.address, service="breaker")
        client = self.client(edge)
        client.send(b"break it")
        self.assert_not_clean(client.read_end()[1])
        self.assertEqual(self.events("close")[0]["code"], h2.errors.ErrorCodes.CONNECT_ERROR)
        self.assertEqual(edge.stop()["trunk_lost"], 1)

    def test_a_client_that_vanishes_or_resets_is_a_connect_error(self):
        edge = self.edge(self.address)
        for end in ("vanish", "reset"):
            client = self.client(edge)
            client.echo()
            getattr(client, end)()
        for close in self.events("close", 2):
            self.assertEqual(close["code"], h2.errors.ErrorCodes.CONNECT_ERROR)

    def test_a_refusal_by_status_is_an_alert(self):
        edge = self.edge(self.address, service="nothing-of-the-kind")
        client = self.client(edge)
        self.assertEqual(client.read_end(), (b"", "TLSV1_ALERT_ACCESS_DENIED"))
        line, = edge.wait_log("client-refused", peer=client.name)
        self.assertEqual((line["error"], line["status"]), ("refused", 403))

    def test_the_fields_tell_who_the_client_is(self):
        pki().self_signed("clients-ca", ["clients.example.com"])
        certificate = pki().client("alice", "clients-ca")
        edge = self.edge(self.address, "--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--alpn", "h2", "--alpn",
                         "mqtt", "--client-certificate", "optional", "--client-ca", pki()["clients-ca.crt"], listens=2)
        suite = {"TLS_AES_256_GCM_SHA384": "1302", "TLS_AES_128_GCM_SHA256": "1301",
                 "TLS_CHACHA20_POLY1305_SHA256": "1303", "ECDHE-ECDSA-AES256-GCM-SHA384": "c02c",
                 "ECDHE-ECDSA-AES128-GCM-SHA256": "c02b", "ECDHE-ECDSA-CHACHA20-POLY1305": "cca9"}
        six = self.client(edge.addresses[1], context=client_context(alpn=["mqtt"], certificate=certificate))
        headers = self.events("stream", 1)[0]["headers"]
        der = ssl.PEM_cert_to_DER_cert(certificate[0].read_text()[certificate[0].read_text().index("-----BEGIN"):])
        self.assertEqual(headers, {
            ":method": "CONNECT",
            ":authority": "echo",
            "forwarded": f'for="{six.name}";by="{join_address(edge.addresses[1])}"',
            "trunkline-sni": "localhost",
            "trunkline-alpn": "mqtt",
            "trunkline-tls": f"version=0304;suite={suite[six.tls.cipher()[0]]}",
            "client-cert": ":" + base64.b64encode(der).decode() + ":",
        })
        plain = client_context(highest=ssl.TLSVersion.TLSv1_2)
        plain.check_hostname = False
        four = self.client(edge.addresses[0], context=plain, server_name=None)
        self.assertEqual(self.events("stream", 2)[1]["headers"], {
            ":method": "CONNECT",
            ":authority": "echo",
            "forwarded": f'for="{four.name}";by="{join_address(edge.addresses[0])}"',
            "trunkline-tls": f"version=0303;suite={suite[four.tls.cipher()[0]]}",
        })


class EdgeStandInTest(Case):
    """trunkline-core with Node's HTTP/2 client in the edge's place."""

    def requests(self, core, *requests):
        """What came of each request."""
        done = run(tool("node"), HERE / "edge_standin.js", join_address(core.address), pki()["trunk.crt"],
                   pki()["trunk.key"], pki()["ca.crt"], *requests)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([result["request"] for result in results], list(requests))
        return results

    def assert_echoed(self, result):
        self.assertEqual((result["status"], result["same"], result["ended"], result["code"], result["error"]),
                         (200, True, True, 0, None), result)

    def test_a_megabyte_is_echoed_and_both_directions_end(self):
        core = self.core()
        for result in self.requests(core, "echo:echo", "early:echo", "echo:echo:443"):
            self.assert_echoed(result)
        core.wait_log("session-closed", count=3, reason="done")

    def test_bytes_before_the_answer_wait_for_a_slow_backend(self):
        listener = self.backend()
        core = self.core(services=[f"app=forward:{join_address(listener.getsockname())}"])
        node = self.start("node", tool("node"), HERE / "edge_standin.js", join_address(core.address),
                          pki()["trunk.crt"], pki()["trunk.key"], pki()["ca.crt"], "early:app")
        connection = self.accept(listener)
        data, end = raw_end(connection)
        self.assertEqual((len(data), end), (1 << 20, "fin"))
        connection.sendall(data)
        connection.close()
        self.assertEqual(node.wait(20), 0)
        self.assert_echoed(json.loads(node.output_text()))

    def test_ordinary_requests_get_a_status_and_a_body(self):
        core = self.core()
        get, post, unknown, echo = self.requests(core, "get", "post", "echo:nosuch", "echo:echo")
        for result in (get, post):
            self.assertEqual((result["status"], result["ended"]), (405, True), result)
            self.assertTrue(0 < len(result["body"]) < 200)
        self.assertEqual((unknown["status"], unknown["ended"]), (404, True), unknown)
        self.assertIn("nosuch", unknown["body"])
        self.assert_echoed(echo)  # on the same trunk, after all of them
        self.assertEqual([line["error"] for line in core.wait_log("stream-refused", count=3)],
                         ["method-not-allowed", "method-not-allowed", "unknown-service"])
        self.assertEqual([line.get("status") for line in core.find("stream-refused")][:2], [405, 405])
        for line in core.find("stream-refused"):
            self.assertTrue(line["peer"].startswith("127.0.0.1:"), line)
        self.assertEqual(core.stop()["streams_refused"], 3)

    def test_a_stream_that_is_reset_closes_its_session_alone(self):
        core = self.core()
        reset, echo = self.requests(core, "reset:echo", "echo:echo")
        self.assertEqual((reset["status"], reset["code"]), (200, h2.errors.ErrorCodes.CANCEL), reset)
        self.assert_echoed(echo)
        self.assertEqual([line["reason"] for line in core.wait_log("session-closed", count=2)], ["reset", "done"])

    def test_an_unreachable_backend_is_a_502_with_a_body(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = join_address(taken.getsockname())
        core = self.core(services=["echo=echo", f"app=forward:{address}"])
        refused, echo = self.requests(core, "early:app", "echo:echo")
        self.assertEqual((refused["status"], refused["ended"]), (502, True), refused)
        self.assertIn(address, refused["body"])
        self.assert_echoed(echo)
        line, = core.find("session-refused")
        self.assertEqual((line["status"], line["service"]), (502, "app"))


class Trunk:
    """A trunk in the hands of a test: python-h2 over mutual TLS, with no check of what is sent."""

    def __init__(self, case, core, certificate=None, settings=None):
        """`settings`: by number, in its first SETTINGS frame."""
        context = client_context(alpn=["h2"], certificate=certificate or (pki()["trunk.crt"], pki()["trunk.key"]))
        connection = socket.create_connection(core.address, 10 * patience())
        self.name = join_address(connection.getsockname())
        self.socket = context.wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=False)
        case.addCleanup(self.socket.close)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"))
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        opening = self.h2.data_to_send()
        for number, value in (settings or {}).items():  # h2 4.1 writes the low byte of a number only
            opening = opening.replace(struct.pack(">HI", number & 0xff, value), struct.pack(">HI", number, value))
        self.socket.sendall(opening)
        self.seen = []
        self.wait(h2.events.SettingsAcknowledged)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def wait(self, kind, stream=None):
        """The first event of a kind (on a stream)."""
        deadline = time.monotonic() + 10 * patience()
        while True:
            for index, event in enumerate(self.seen):
                if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                    return self.seen.pop(index)
            data = self.socket.recv(65536)
            if not data or time.monotonic() > deadline:  # PINGs come all the time
                raise AssertionError(f"no {kind.__name__} came; but {self.seen}")
            self.seen += self.h2.receive_data(data)
            self.flush()

    def connect(self, authority, *fields):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", authority), *fields])
        self.flush()
        return stream

    def status(self, stream):
        return dict(self.wait(h2.events.ResponseReceived, stream).headers)[":status"]

    def echo(self, stream, data=b"still well?"):
        self.h2.send_data(stream, data)
        self.flush()
        back = b""
        while len(back) < len(data):
            back += self.wait(h2.events.DataReceived, stream).data
        if back != data:
            raise AssertionError(f"{back} is not {data}")


class BadTrunkTest(Case):
    """Trunk peers that are not admitted, and requests that are not served."""

    def attempt(self, core, certificate, name="localhost"):
        """Tries to be a trunk; the error that the peer sees, and its address."""
        context = client_context(alpn=["h2"], certificate=certificate)
        with socket.create_connection(core.address, 10 * patience()) as connection:
            peer = join_address(connection.getsockname())
            with self.assertRaises(OSError) as raised:
                with context.wrap_socket(connection, server_hostname=name, suppress_ragged_eofs=False) as tls:
                    tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
                    while tls.recv(65536):
                        pass
                    raise ConnectionAbortedError("a clean end")
        return raised.exception, peer

    def test_peers_without_a_trusted_certificate_are_refused(self):
        core = self.core()
        edge = self.edge(core)
        bystander = self.client(edge)
        pki().self_signed("stranger", ["edge"])
        for certificate, alerts in ((None, ("CERTIFICATE_REQUIRED",)),
                                    ((foreign_pki()["trunk.crt"], foreign_pki()["trunk.key"]),
                                     ("UNKNOWN_CA", "BAD_CERTIFICATE")),
                                    ((pki()["stranger.crt"], pki()["stranger.key"]),
                                     ("UNKNOWN_CA", "BAD_CERTIFICATE"))):
            with self.subTest(certificate=certificate):
                error, peer = self.attempt(core, certificate)
                self.assertTrue(any(alert in str(getattr(error, "reason", "")) for alert in alerts), error)
                line, = core.wait_log("trunk-refused", peer=peer)
                self.assertEqual((line["error"], line["level"]), ("tls-certificate", "warning"))
                bystander.echo()
        bystander.close()
        edge.stop()
        self.assertEqual(core.stop()["trunks_refused"], 3)

    def test_a_trunk_without_an_allowed_name_is_refused(self):
        core = self.core("--allow-name", "edge-1.example.com", "--allow-name", "edge-2.example.com")
        _, peer = self.attempt(core, (pki()["trunk.crt"], pki()["trunk.key"]))
        line, = core.wait_log("trunk-refused", peer=peer)
        self.assertEqual(line["name"], "edge")
        allowed = self.core("--allow-name", "edge-1.example.com", "--allow-name", "edge", name="allowed")
        self.client(self.edge(allowed)).echo()

    def test_who_says_nothing_does_not_keep_a_trunk_out(self):
        core = self.core("--workers", "1", "--trunks-max", "4")
        silent = [self.tcp(core.address) for _ in range(8)]
        bystander = self.client(self.edge(core))
        bystander.echo()
        line, = core.wait_log("trunk-refused", peer=join_address(silent[0].getsockname()))
        self.assertEqual(line["error"], "limit")

    def test_who_speaks_no_http2_is_refused(self):
        core = self.core("--handshake-timeout", "1s")
        bystander = self.client(self.edge(core))
        # Not TLS at all.
        connection = self.tcp(core.address)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        raw_end(connection)
        line, = core.wait_log("trunk-refused", peer=join_address(connection.getsockname()))
        self.assertEqual(line["error"], "tls-not-tls")
        # TLS, but no h2 in ALPN.
        for alpn in (None, ["http/1.1"]):
            context = client_context(alpn=alpn, certificate=(pki()["trunk.crt"], pki()["trunk.key"]))
            connection = self.tcp(core.address)
            peer = join_address(connection.getsockname())
            with self.assertRaises(ssl.SSLError) as raised:
                context.wrap_socket(connection, server_hostname="localhost")
            self.assertIn("NO_APPLICATION_PROTOCOL", harness.alert_name(raised.exception))
            line, = core.wait_log("trunk-refused", peer=peer)
            self.assertEqual(line["error"], "tls-no-alpn")
        # h2, but no preface.
        context = client_context(alpn=["h2"], certificate=(pki()["trunk.crt"], pki()["trunk.key"]))
        for words, error in ((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2, "trunk-preface"), (b"PRI * HT", "timeout"),
                             (b"", "timeout")):
            connection = self.tcp(core.address)
            peer = join_address(connection.getsockname())
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_hostname="localhost") as tls:
                tls.sendall(words)
                while tls.recv(65536):
                    pass
            line, = core.wait_log("trunk-refused", peer=peer)
            self.assertEqual(line["error"], error)
        bystander.echo()

    def test_bad_fields_are_refused_and_the_trunk_goes_on(self):
        core = self.core("--header-bytes-max", "4K")
        trunk = Trunk(self, core)
        good = trunk.connect("echo")
        self.assertEqual(trunk.status(good), "200")
        for fields, status, error in (
                ([("forwarded", "for=nonsense")], "400", "bad-metadata"),
                ([("forwarded", 'for="192.0.2.1:1"'), ("forwarded", 'for="192.0.2.2:1"')], "400", "bad-metadata"),
                ([("client-cert", ":!!!:")], "400", "bad-metadata"),
                ([("trunkline-tls", "version=9;suite=x")], "400", "bad-metadata"),
                ([("trunkline-sni", "n" * 300)], "400", "bad-metadata"),
                ([("x-large", "y" * 5000)], "431", "metadata-too-large")):
            with self.subTest(fields=fields):
                before = len(core.find("stream-refused"))
                stream = trunk.connect("echo", *fields)
                self.assertEqual(trunk.status(stream), status)
                self.assertTrue(trunk.wait(h2.events.DataReceived, stream).data)
                lines = core.wait_log("stream-refused", count=before + 1)
                self.assertEqual((len(lines), lines[-1]["error"], lines[-1]["peer"]), (before + 1, error, trunk.name))
                trunk.echo(good)
        # What we do not know is skipped.
        other = trunk.connect("echo", ("x-unknown", "value"))
        self.assertEqual(trunk.status(other), "200")
        trunk.echo(other)

    def test_streams_beyond_the_limit_are_refused(self):
        core = self.core("--sessions-per-trunk", "3")
        trunk = Trunk(self, core)
        self.assertEqual(trunk.h2.remote_settings.max_concurrent_streams, 3)
        streams = [trunk.connect("echo") for _ in range(3)]
        self.assertEqual([trunk.status(stream) for stream in streams], ["200"] * 3)
        trunk.h2.remote_settings.update({3: 1000})  # a peer that does not care
        trunk.h2.remote_settings.acknowledge()
        over = trunk.connect("echo")
        reset = trunk.wait(h2.events.StreamReset, over)
        self.assertEqual(reset.error_code, h2.errors.ErrorCodes.REFUSED_STREAM)
        for stream in streams:
            trunk.echo(stream)
        trunk.h2.reset_stream(streams[0], h2.errors.ErrorCodes.CANCEL)
        trunk.flush()
        core.wait_log("session-closed", reason="reset")
        again = trunk.connect("echo")
        self.assertEqual(trunk.status(again), "200")

    def test_sessions_beyond_the_limit_of_the_process_are_refused(self):
        core = self.core("--sessions-max", "2")
        trunk = Trunk(self, core)
        for _ in range(2):
            self.assertEqual(trunk.status(trunk.connect("echo")), "200")
        reset = trunk.wait(h2.events.StreamReset, trunk.connect("echo"))
        self.assertEqual(reset.error_code, h2.errors.ErrorCodes.REFUSED_STREAM)
        line, = core.find("stream-refused")
        self.assertEqual((line["error"], line["peer"]), ("limit", trunk.name))

    def test_trunks_beyond_the_limit_are_refused(self):
        core = self.core("--trunks-max", "2")
        trunks = [Trunk(self, core) for _ in range(2)]
        _, peer = self.attempt(core, (pki()["trunk.crt"], pki()["trunk.key"]))
        line, = core.wait_log("trunk-refused", peer=peer)
        self.assertEqual(line["error"], "limit")
        for trunk in trunks:
            stream = trunk.connect("echo")
            self.assertEqual(trunk.status(stream), "200")
            trunk.echo(stream)

    def test_a_broken_frame_ends_its_trunk_alone(self):
        core = self.core()
        edge = self.edge(core)
        bystander = self.client(edge)
        trunk = Trunk(self, core)
        stream = trunk.connect("echo")
        self.assertEqual(trunk.status(stream), "200")
        trunk.socket.sendall(bytes((0, 0, 4, 8, 0, 0, 0, 0, 0)) + bytes(4))  # WINDOW_UPDATE by 0 for the connection
        goaway = trunk.wait(h2.events.ConnectionTerminated)
        self.assertEqual(goaway.error_code, h2.errors.ErrorCodes.PROTOCOL_ERROR)
        line, = core.wait_log("trunk-down", peer=trunk.name)
        self.assertEqual((line["error"], line["sessions"]), ("trunk-protocol", 1))
        core.wait_log("session-closed", reason="trunk-lost")
        bystander.echo()

    def test_a_foreign_core_gets_no_trunk(self):
        core = self.core("--certificate", foreign_pki()["core.crt"], "--key", foreign_pki()["core.key"])
        edge = self.edge(core, "--open-timeout", "500ms", trunks_up=0)
        line = edge.wait_log("trunk-refused", peer=join_address(core.address))[0]
        self.assertEqual(line["error"], "tls-certificate")
        client = self.client(edge)
        self.assertEqual(client.read_end(), (b"", "TLSV1_ALERT_INTERNAL_ERROR"))
        client.close()
        self.assertEqual(edge.stop()["refused"], 1)

    def test_a_core_with_another_name_gets_no_trunk(self):
        core = self.core()
        edge = self.edge(core, "--core-name", "core.example.com", trunks_up=0)
        line = edge.wait_log("trunk-refused", peer=join_address(core.address))[0]
        self.assertEqual(line["error"], "tls-certificate")


if __name__ == "__main__":
    harness.main()
