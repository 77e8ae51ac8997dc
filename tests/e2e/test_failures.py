"""What happens when a process dies, drains or reloads, seen from clients, from both logs and from the processes."""
import os
import shutil
import signal
import ssl
import time

import harness
from harness import EXIT_FORCED, Case, Client, client_context, join_address, patience, pki, wait_for


class KillTest(Case):
    """kill -9."""

    observed = True

    def test_clients_are_cut_at_once_when_the_core_dies_and_new_ones_are_served_when_it_is_back(self):
        core = self.core()
        edge = self.edge(core, "--open-timeout", "10s", "--resume-timeout", "0")
        clients = [self.client(edge) for _ in range(20)]
        for client in clients:
            client.echo()
        started = time.monotonic()
        core.kill()
        for client in clients:
            data, end = client.read_end()
            self.assertEqual(data, b"")
            self.assert_not_clean(end)
        self.assertLess(time.monotonic() - started, 2 * patience())
        edge.wait_log("trunk-down", count=2)
        waiting = self.client(edge)  # no core now: it waits for one
        back = self.core("--listen", join_address(core.address), name="core-again")
        waiting.echo()
        for _ in range(10):
            self.client(edge).echo()
        edge.wait_log("trunk-up", count=4)
        back.wait_log("session-opened", count=11)
        # Closing is left to the clean-up; the edge must still be the one that was started.
        self.assertTrue(edge.running())
        self.assertEqual(len(edge.find("edge-started")), 1)

    def test_the_core_frees_every_session_when_the_edge_dies(self):
        server = self.backend()
        core = self.core("--resume-timeout", "1s",
                         services=["echo=echo", f"app=forward:{join_address(server.getsockname())}"])
        idle = core.files()
        edge = self.edge(core, "--route", "alpn=app,service=app", "--alpn", "app")
        clients = [self.client(edge) for _ in range(20)]
        forwarded = [self.client(edge, context=client_context(alpn=["app"])) for _ in range(20)]
        connections = [self.accept(server) for _ in forwarded]
        for client in clients:
            client.echo()
        self.assertGreaterEqual(core.files(), idle + 2 + 20)
        edge.kill()
        for connection in connections:
            self.assertEqual(harness.raw_end(connection), (b"", "reset"))
        core.wait_log("session-closed", count=40, reason="trunk-lost")
        down = core.wait_log("trunk-down", count=2)
        self.assertEqual(sum(line["sessions"] for line in down), 40)
        wait_for(lambda: core.files() <= idle, 5, lambda: f"{core.files()} descriptors are {idle} again")
        # It serves the next edge as if nothing had been.
        again = self.edge(core, name="edge-again")
        client = self.client(again)
        client.echo()
        client.close()
        again.stop()
        totals = core.stop()
        self.assertEqual((totals["end"], totals["sessions_opened"], totals["sessions_closed"]), ("clean", 41, 41))

    def test_two_cores_behind_one_edge_do_not_share_their_fate(self):
        cores = [self.core(name=f"core-{number}") for number in (1, 2)]
        edge = self.edge(cores, "--workers", "1", "--resume-timeout", "1s", trunks_up=2)
        clients = [self.client(edge) for _ in range(12)]
        for client in clients:
            client.echo()
        counts = [len(core.wait_log("session-opened")) for core in cores]
        self.assertEqual(counts, [6, 6])  # least sessions first
        cores[0].kill()
        edge.wait_log("trunk-down")
        ends = {"served": 0, "cut": 0}
        for client in clients:
            try:
                client.echo()
                ends["served"] += 1
            except (OSError, AssertionError):
                ends["cut"] += 1
        self.assertEqual(ends, {"served": 6, "cut": 6})
        for _ in range(6):
            self.client(edge).echo()
        self.assertEqual(len(cores[1].find("session-opened")), 12)


class DrainTest(Case):
    """SIGTERM."""

    def assert_cut(self, client):
        data, end = client.read_end()
        self.assertEqual(data, b"")
        self.assert_not_clean(end)

    def test_an_edge_that_drains_takes_no_clients_and_lets_its_sessions_end(self):
        core = self.core()
        edge = self.edge(core, "--drain-timeout", "30s")
        client = self.client(edge)
        client.echo()
        edge.signal(signal.SIGTERM)
        edge.wait_log("edge-draining")

        def refused():
            try:
                Client(edge.address).socket.close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass  # it was in the listener's queue as that was closed
            return False
        wait_for(refused, 5, "new connections are refused")
        client.echo(b"still served" * 1000)
        client.half_close()
        self.assertEqual(client.read_end(), (b"", "close_notify"))
        client.close()
        self.assertEqual(edge.check()["ended"], 1)
        core.wait_log("session-closed", reason="done")
        for line in core.wait_log("trunk-down", count=2):
            self.assertEqual(line["level"], "info")  # told, not lost

    def test_a_second_signal_stops_an_edge_at_once(self):
        edge = self.edge(self.core(), "--drain-timeout", "1h")
        client = self.client(edge)
        client.echo()
        edge.signal(signal.SIGTERM)
        edge.wait_log("edge-draining")
        client.echo()
        started = time.monotonic()
        edge.signal(signal.SIGTERM)
        edge.expected_exit = EXIT_FORCED
        self.assert_cut(client)
        self.assertEqual(edge.check()["forced"], 1)
        self.assertLess(time.monotonic() - started, 3 * patience())

    def test_the_drain_timeout_ends_the_sessions_of_an_edge(self):
        edge = self.edge(self.core(), "--drain-timeout", "300ms")
        client = self.client(edge)
        client.echo()
        edge.signal(signal.SIGTERM)
        edge.expected_exit = EXIT_FORCED
        self.assert_cut(client)
        self.assertEqual(edge.check()["forced"], 1)

    def test_a_core_that_drains_lets_its_sessions_end_while_another_takes_the_new_ones(self):
        first = self.core("--drain-timeout", "30s", name="core-1")
        second = self.core(name="core-2")
        edge = self.edge([first, second], "--workers", "1", trunks_up=2)
        clients = [self.client(edge) for _ in range(4)]
        for client in clients:
            client.echo()
        self.assertEqual(len(first.find("session-opened")), 2)
        first.signal(signal.SIGTERM)
        first.wait_log("core-draining", sessions=2)
        edge.wait_log("trunk-goaway", peer=join_address(first.address))
        for client in clients:
            client.echo(b"both are well")
        later = [self.client(edge) for _ in range(4)]
        for client in later:
            client.echo()
        self.assertEqual(len(second.find("session-opened")), 6)
        for client in clients:
            client.half_close()
            self.assertEqual(client.read_end(), (b"", "close_notify"))
            client.close()
        totals = first.check()
        self.assertEqual((totals["end"], totals["sessions_opened"], totals["sessions_closed"]), ("clean", 2, 2))
        for client in later:
            client.echo()

    def test_a_second_signal_stops_a_core_at_once(self):
        core = self.core("--drain-timeout", "1h")
        edge = self.edge(core)
        client = self.client(edge)
        client.echo()
        core.signal(signal.SIGTERM)
        core.wait_log("core-draining")
        client.echo()
        started = time.monotonic()
        core.signal(signal.SIGTERM)
        core.expected_exit = EXIT_FORCED
        self.assert_cut(client)
        totals = core.check()
        self.assertEqual((totals["end"], totals["sessions_closed"]), ("forced", 1))
        self.assertLess(time.monotonic() - started, 3 * patience())
        self.assertEqual(len(core.find("session-closed", reason="shutdown")), 1)

    def test_the_drain_timeout_ends_the_sessions_of_a_core(self):
        core = self.core("--drain-timeout", "300ms")
        client = self.client(self.edge(core))
        client.echo()
        core.signal(signal.SIGTERM)
        core.expected_exit = EXIT_FORCED
        self.assert_cut(client)
        self.assertEqual(core.check()["end"], "forced")

    def test_idle_processes_stop_at_once_also_by_sigint(self):
        core = self.core("--drain-timeout", "1h")
        edge = self.edge(core, "--drain-timeout", "1h")
        started = time.monotonic()
        edge.signal(signal.SIGINT)
        edge.check()
        core.signal(signal.SIGINT)
        core.check()
        self.assertLess(time.monotonic() - started, 5 * patience())


class ReloadTest(Case):
    """SIGHUP."""

    def setUp(self):
        for name in ("edge", "core"):
            for kind in ("crt", "key"):
                shutil.copy(pki()[f"{name}.{kind}"], self.file(name, kind))

    def file(self, name, kind):
        return self.directory / f"{name}.{kind}"

    def replace(self, name, source):
        """As an operator does it: new files take the places of the old ones."""
        for kind in ("crt", "key"):
            fresh = self.directory / "fresh"
            if isinstance(source, bytes):
                fresh.write_bytes(source)
            else:
                shutil.copy(pki()[f"{source}.{kind}"], fresh)
            os.replace(fresh, self.file(name, kind))

    def served(self, address, **options):
        """The certificate that a new connection is shown."""
        client = Client(address, context=client_context(verify=False, **options))
        client.handshake()
        shown = client.tls.getpeercert(True)
        if not options:
            client.echo()
            client.close()
        client.socket.close()
        return ssl.DER_cert_to_PEM_cert(shown).split()

    def pem(self, name):
        text = pki()[f"{name}.crt"].read_text()
        return text[text.index("-----BEGIN"):].split()

    def test_an_edge_shows_its_new_certificate_to_new_clients(self):
        edge = self.edge(self.core(), "--certificate", self.file("edge", "crt"), "--key", self.file("edge", "key"))
        old = self.client(edge)
        old.echo()
        self.assertEqual(self.served(edge.address), self.pem("edge"))
        pki().self_signed("renewed", ["localhost"])
        self.replace("edge", "renewed")
        self.assertEqual(self.served(edge.address), self.pem("edge"))
        edge.signal(signal.SIGHUP)
        edge.wait_log("edge-reloaded")
        # Every worker takes the new one at its next turn.
        wait_for(lambda: all(self.served(edge.address) == self.pem("renewed") for _ in range(8)), 5,
                 "the new one shows")
        old.echo()
        # Files that cannot be used change nothing, and are told of.
        self.replace("edge", b"no certificate\n")
        edge.signal(signal.SIGHUP)
        line, = edge.wait_log("edge-reload-failed")
        self.assertEqual((line["level"], line["error"]), ("error", "credentials"))
        self.assertIn("edge.crt", line["text"])
        self.assertEqual(self.served(edge.address), self.pem("renewed"))
        shutil.copy(pki()["edge.crt"], self.file("edge", "crt"))
        shutil.copy(pki()["renewed.key"], self.file("edge", "key"))
        edge.signal(signal.SIGHUP)
        line = edge.wait_log("edge-reload-failed", count=2)[1]
        self.assertIn("does not match", line["text"])
        self.assertEqual(self.served(edge.address), self.pem("renewed"))
        old.echo()

    def test_a_core_shows_its_new_certificate_to_new_trunks(self):
        core = self.core("--certificate", self.file("core", "crt"), "--key", self.file("core", "key"))
        edge = self.edge(core)
        old = self.client(edge)
        old.echo()
        trunk = {"alpn": ["h2"], "certificate": (pki()["trunk.crt"], pki()["trunk.key"])}
        self.assertEqual(self.served(core.address, **trunk), self.pem("core"))
        pki().self_signed("renewed-core", ["localhost"])
        self.replace("core", "renewed-core")
        core.signal(signal.SIGHUP)
        core.wait_log("core-reloaded")
        wait_for(lambda: all(self.served(core.address, **trunk) == self.pem("renewed-core") for _ in range(4)), 5,
                 "the new one shows")
        old.echo()
        self.replace("core", b"no certificate\n")
        core.signal(signal.SIGHUP)
        line, = core.wait_log("core-reload-failed")
        self.assertEqual((line["level"], line["error"]), ("error", "credentials"))
        self.assertEqual(self.served(core.address, **trunk), self.pem("renewed-core"))
        old.echo()
        self.client(edge).echo()  # on the trunks that are up


if __name__ == "__main__":
    harness.main()
