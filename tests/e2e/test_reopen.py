"""Sessions that outlive their core: killed and started again, replaced in turn, or away while another one takes over.
Clients notice a pause at most, and no byte is lost or comes twice."""
import re
import select
import signal
import time

import harness
from harness import BIN, Case, join_address, patience, pki, run_directory, tool

KILLS = 3


def example():
    """The example handlers, built against the source tree's header, once."""
    directory = run_directory() / "reopen-example"
    if not directory.exists():
        directory.mkdir()
        harness.run(tool("gcc"), "-std=gnu11", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror",
                    *filter(None, [harness.sanitized()]), f"-I{harness.SOURCE / 'core'}", "-shared", "-o",
                    directory / "ticker.so", harness.SOURCE / "tests" / "example" / "ticker.c")
    return directory


class ReopenCase(Case):
    services = ("echo=echo",)
    reopened = "echo"

    def start_core(self, name, address=None, reopen=True, log_level="info"):
        options = ("--reopen", self.reopened) if reopen else ()
        if address is not None:
            options += ("--listen", join_address(address))
        return self.core(*options, name=name, services=self.services, log_level=log_level)

    def load(self, edge, clients, seconds, rate=2000):
        """Clients that check every byte."""
        return self.start("load", BIN / "trunkline-load", "--connect", join_address(edge.address), "--server-name",
                          "localhost", "--ca", pki()["ca.crt"], "--clients", clients, "--rate", 500,
                          "--messages-per-second", rate, "--duration", seconds, "--json",
                          self.directory / "load.json")

    def finish_load(self, load, seconds=60):
        code = load.wait(seconds)
        # 4: the generator was late on a machine that is busy with something else, which is no loss.
        self.assertIn(code, (0, 4), load.output_text() + load.error_text())


class EchoTest(ReopenCase):
    def test_a_core_that_is_killed_and_started_again_loses_no_byte(self):
        core = self.start_core("core-0", log_level="debug")
        edge = self.edge(core, log_level="info")
        load = self.load(edge, 200, 8)
        core.wait_log("session-opened", count=200, seconds=20)
        for number in range(1, KILLS + 1):
            core.kill()
            core = self.start_core(f"core-{number}", core.address, log_level="debug")
            core.wait_log("session-opened", count=200, seconds=20)
        self.finish_load(load)
        totals = edge.stop()
        # An answer may be lost with the core that gave it; then the next one's counts.
        self.assertGreaterEqual(totals["resumed"], 200)
        self.assertEqual(totals["trunk_lost"], 0)
        self.assertEqual(core.stop()["sessions_reopened"], 200)

    def test_cores_that_are_replaced_in_turn_are_not_noticed(self):
        cores = [self.start_core("core-a"), self.start_core("core-b")]
        edge = self.edge(cores, trunks_up=4, log_level="debug")
        load = self.load(edge, 200, 8)
        edge.wait_log("client-state", count=200, seconds=20, to="relaying")
        moved = 0
        for number in range(2):
            begun = time.monotonic()
            totals = cores[number].stop()
            self.assertLess(time.monotonic() - begun, 4 * patience(), "a core that drains moves its sessions at once")
            moved += totals["sessions_moved"]
            self.assertGreater(totals["sessions_moved"], 0)
            cores[number] = self.start_core(f"core-{number}-new", cores[number].address)
            edge.wait_log("trunk-up", count=4 + 2 * (number + 1), seconds=20)
        self.finish_load(load)
        self.assertGreaterEqual(moved, 200)
        self.assertEqual(edge.stop()["resumed"], moved)

    def test_a_core_that_does_not_reopen_says_so_and_clients_are_cut(self):
        core = self.start_core("core-0")
        edge = self.edge(core)
        clients = [self.client(edge) for _ in range(10)]
        for client in clients:
            client.echo(b"before")
        core.kill()
        core = self.start_core("core-1", core.address, reopen=False)
        for client in clients:
            self.assert_not_clean(client.read_end()[1])
        fresh = self.client(edge)
        fresh.echo()
        fresh.close()
        edge.stop()
        self.assertEqual(core.stop()["resumes_refused"], 10)

    def test_another_core_takes_over_from_one_that_stays_away(self):
        cores = [self.start_core("core-a"), self.start_core("core-b")]
        edge = self.edge(cores, "--reopen-after", "500ms", trunks_up=4)
        clients = [self.client(edge) for _ in range(20)]
        for client in clients:
            client.echo(b"before")
        begun = time.monotonic()
        cores[0].kill()
        for client in clients:
            client.send(b"is anybody there?")
        for client in clients:
            self.assertEqual(client.receive(17), b"is anybody there?")
        self.assertGreaterEqual(time.monotonic() - begun, 0.5, "the core had its chance to come back")
        for client in clients:
            client.echo(bytes(range(256)) * 400)
            client.close()
        edge.stop()
        reopened = cores[1].stop()["sessions_reopened"]
        self.assertGreater(reopened, 0)
        self.assertLess(reopened, 20)

    def test_clients_that_have_ended_their_direction_still_hear_the_rest(self):
        core = self.start_core("core-0")
        edge = self.edge(core)
        client = self.client(edge)
        client.echo(b"before")
        # While there is no core: bytes, and the end.
        core.kill()
        edge.wait_log("trunk-down", count=2)
        client.send(b"the last words")
        client.half_close()
        core = self.start_core("core-1", core.address)
        self.assertEqual(client.read_end(), (b"the last words", "close_notify"))
        edge.stop()
        self.assertEqual(core.stop()["sessions_reopened"], 1)


class TickerTest(ReopenCase):
    reopened = "ticker"

    def setUp(self):
        self.services = (f"ticker=plugin:{example()}/ticker.so:5",)

    def read_lines(self, clients, texts, until):
        """Reads whatever comes to any client until the condition holds."""
        def step():
            by_socket = {client.socket: number for number, client in enumerate(clients)}
            readable, _, _ = select.select(list(by_socket), [], [], 0.05)
            for ready in readable:
                number = by_socket[ready]
                client = clients[number]
                texts[number] += client.carry_out(client.tls.read, 65536)
            return until()
        deadline = time.monotonic() + 20 * patience()
        while not step():
            self.assertLess(time.monotonic(), deadline, "clients are told their numbers")

    def check(self, texts):
        for text in texts:
            numbers = [int(line) for line in text.split(b"\n")[:-1]]
            self.assertEqual(numbers, list(range(len(numbers))), "each number once, in order")
            self.assertRegex(text, re.compile(rb"\A(\d{10}\n)*\d{0,10}\Z"))

    def test_each_number_comes_once_through_kills(self):
        core = self.start_core("core-0")
        edge = self.edge(core, service="ticker")
        clients = [self.client(edge) for _ in range(20)]
        texts = [b""] * len(clients)
        for number in range(1, KILLS + 1):
            before = [len(text) for text in texts]
            self.read_lines(clients, texts, lambda: all(len(text) > length + 300 for text, length in zip(texts, before)))
            core.kill()
            core = self.start_core(f"core-{number}", core.address)
        # Twice in a row, before most of the new sessions have left a note of their own.
        core.kill()
        core = self.start_core("core-last", core.address)
        before = [len(text) for text in texts]
        self.read_lines(clients, texts, lambda: all(len(text) > length + 300 for text, length in zip(texts, before)))
        self.check(texts)
        for client in clients:
            client.reset()
        edge.stop()

    def test_each_number_comes_once_through_a_rolling_restart(self):
        cores = [self.start_core("core-a"), self.start_core("core-b")]
        edge = self.edge(cores, service="ticker", trunks_up=4)
        clients = [self.client(edge) for _ in range(20)]
        texts = [b""] * len(clients)
        for number in range(2):
            before = [len(text) for text in texts]
            self.read_lines(clients, texts, lambda: all(len(text) > length + 300 for text, length in zip(texts, before)))
            cores[number].signal(signal.SIGTERM)
            self.read_lines(clients, texts, lambda: not cores[number].running())
            self.assertGreater(cores[number].check()["sessions_moved"], 0)
            cores[number] = self.start_core(f"core-{number}-new", cores[number].address)
            edge.wait_log("trunk-up", count=4 + 2 * (number + 1), seconds=20)
        before = [len(text) for text in texts]
        self.read_lines(clients, texts, lambda: all(len(text) > length + 300 for text, length in zip(texts, before)))
        self.check(texts)
        for client in clients:
            client.reset()
        edge.stop()


if __name__ == "__main__":
    harness.main()
