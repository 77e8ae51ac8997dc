"""Fifteen thousand idle clients on one edge and one core: a few sockets on the core, little memory on both, and all of
it given back."""

import re

import harness
from harness import BIN, Case, join_address, pki, sanitized, wait_for

CLIENTS = 2000 if sanitized() else 15000
CORE_FILES_MAX = 12
TRUNKS = 4


class IdleTest(Case):
    observed = True

    def test_fifteen_thousand_idle_clients(self):
        core = self.core("--workers", "1", log_level="info")
        idle_files = core.files()
        edge = self.edge(core, "--workers", "1", "--trunks", str(TRUNKS), "--handshake-timeout", "60s",
                         "--open-timeout", "60s", log_level="info", trunks_up=TRUNKS)
        self.client(edge).echo()
        before = {program: program.memory() for program in (edge, core)}
        flag = self.directory / "ready"
        load = self.start("load", BIN / "trunkline-load", "--connect", join_address(edge.address), "--server-name",
                          "localhost", "--ca", pki()["ca.crt"], "--clients", CLIENTS, "--rate", "2000", "--timeout",
                          "60", "--duration", "0", "--hold", "300", "--wait-file", flag)
        wait_for(lambda: flag.exists() or not load.running(), 150, "all clients are open")
        self.assertTrue(load.running(), load.output_text() + load.error_text())
        files = core.files()
        self.assertGreaterEqual(edge.files(), CLIENTS)
        self.assertLessEqual(files - idle_files, CORE_FILES_MAX)
        print(f"    {CLIENTS} idle clients: the core holds {files - idle_files} descriptors more than when idle",
              flush=True)
        full = {program: program.memory() for program in (edge, core)}
        for program in (edge, core):
            print(f"    {program.name}: {(full[program] - before[program]) / CLIENTS:.0f} bytes per session",
                  flush=True)
        self.client(edge).echo()
        (self.directory / "ready.go").touch()
        self.assertEqual(load.wait(60), 0, load.output_text() + load.error_text())
        wait_for(lambda: edge.files() < 100, 10, lambda: f"the edge closes its sockets: {edge.files()} are left")
        if not sanitized():
            self.assert_given_back(edge, before[edge], (before[edge] + full[edge]) / 2)
            self.assert_given_back(core, before[core], full[core])

    def assert_given_back(self, program, before, bound):
        wait_for(lambda: program.memory() < bound, 10, lambda: f"{program.name} gives memory back: {program.memory()} "
                 f"bytes, and was to be under {bound:.0f}")
        print(f"    {program.name}: {(program.memory() - before) >> 10} KB more than at first after all have left",
              flush=True)


class KeepaliveTest(Case):
    def assert_timer(self, pattern, *options):
        """Of the kernel, for the edge's socket to a client that has just said something; once that is acknowledged."""
        core = self.core()
        edge = self.edge(core, *options)
        client = self.client(edge)
        client.echo()
        host, port = client.socket.getsockname()

        def line():
            return harness.run("ss", "--no-header", "--tcp", "--numeric", "--options", "dst", f"{host}:{port}").stdout
        wait_for(lambda: re.search(pattern, line()), 10, lambda: f"{pattern} in {line()}")
        client.close()

    def test_a_silent_client_will_be_probed(self):
        self.assert_timer(r"timer:\(keepalive,(1min5\d|2min|119|120)")

    def test_after_a_time_of_the_operators_choice(self):
        self.assert_timer(r"timer:\(keepalive,(3\d|40)", "--keepalive", "40s")

    def test_or_not(self):
        self.assert_timer(r"^ESTAB +0 +0 +\S+ +\S+\s*$", "--keepalive", "0")


class CloseTest(Case):
    def test_no_session_is_left(self):
        core = self.core(log_level="info")
        edge = self.edge(core, log_level="info")
        harness.run(BIN / "trunkline-load", "--connect", join_address(edge.address), "--server-name", "localhost",
                    "--ca", pki()["ca.crt"], "--clients", "500", "--duration", "1", "--messages-per-second", "2000")
        totals = edge.stop()
        self.assertEqual((totals["opened"], totals["ended"]), (500, 500), totals)
        totals = core.stop()
        self.assertEqual((totals["end"], totals["sessions_opened"], totals["sessions_closed"]), ("clean", 500, 500))


if __name__ == "__main__":
    harness.main()
