"""trunkline-load itself: its figures are what they are said to be, it finds every kind of damage, it knows when it is the
bottleneck, and it says before a run what the machine lacks."""
import json
import os
import pathlib
import re
import resource
import signal
import ssl
import threading
import time

import harness
from harness import BIN, SOURCE, Case, join_address, pki, sanitized, wait_for

LOAD = BIN / "trunkline-load"
PASSED, FAILED, USAGE, NOT_STARTED, BOTTLENECK = range(5)
SIZE = 100  # of a message, as is the default
IDLE_BYTES_MAX = 1024


def lower_files(limit):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


class LoadCase(Case):
    def arguments(self, address, *options):
        return (LOAD, "--connect", join_address(address), "--server-name", "localhost", "--ca", pki()["ca.crt"],
                "--json", self.directory / "figures.json", *options)

    def load(self, address, *options, expected=PASSED, **how):
        """Its figures, its table and its other output; it must end with the code expected. A machine that is busy with
        something else may make the generator late, which is no defect: then it tries again."""
        figures = self.directory / "figures.json"
        for _ in range(3):
            figures.unlink(missing_ok=True)
            done = harness.run(*self.arguments(address, *options), check=False, timeout=60, **how)
            if done.returncode != BOTTLENECK:
                break
        self.assertEqual(done.returncode, expected, done.stdout + done.stderr)
        text = figures.read_text() if figures.exists() else ""
        return json.loads(text) if text else None, done.stdout, done.stderr

    def relay(self):
        """An edge before a core that forwards to a service of all kinds of traffic."""
        port = harness.free_port()
        self.start("service", BIN / "trunkline-bench-service", f"127.0.0.1:{port}")
        core = self.core(services=(f"all=forward:127.0.0.1:{port}",))
        return self.edge(core, service="all")


class Server:
    """A TLS server that does what `serve` does with each connection, in a thread of its own."""

    def __init__(self, case, serve):
        self.serve = serve
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki()["edge.crt"], pki()["edge.key"])
        self.context = context
        self.listener = case.backend()
        self.listener.settimeout(None)
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        try:
            with self.context.wrap_socket(connection, server_side=True) as tls:
                self.serve(tls)
        except (OSError, ValueError):
            pass  # the client has gone, or the test is over


def messages(tls):
    """Whole messages that a client sends, until it ends."""
    waiting = b""
    while part := tls.recv(65536):
        waiting += part
        while len(waiting) >= SIZE:
            yield waiting[:SIZE]
            waiting = waiting[SIZE:]


class TrafficTest(LoadCase):
    def test_every_kind_of_traffic_at_once_is_measured_and_counted(self):
        edge = self.relay()
        distribution = self.directory / "delivery.hgrm"
        figures, table, errors = self.load(
            edge.address, "--clients", 200, "--processes", 2, "--traffic", "mix", "--rate", 500,
            "--messages-per-second", 1000, "--hold", "0.5", "--ping-interval", "0.5", "--duration", 2,
            "--random", "--progress", "--probe", f"https://{join_address(edge.address)}/page", "--probe-rate", 20,
            "--histogram", distribution, "--histogram-of", "delivery")
        counts = {name: figures["microseconds"][name]["count"] for name in figures["microseconds"]}
        self.assertEqual((figures["opened"], figures["failed"], figures["ended_clean"]), (200, 0, 200))
        self.assertEqual(figures["handshakes"], {"full": 200, "resumed": 0})
        self.assertEqual(counts["connect"], 200)
        self.assertEqual(counts["first_byte"], 150)  # one-way up has none
        self.assertEqual(figures["messages"]["scheduled"], 2000)
        self.assertEqual(figures["messages"]["silent_clients"], 0)
        self.assertEqual(figures["http"]["answered"], figures["http"]["requests"])
        self.assertEqual(counts["echo"] + counts["ping"] + 50, figures["messages"]["echoed"])
        self.assertGreaterEqual(counts["ping"], 50 * 4)
        self.assertEqual(counts["schedule_lag"], 2000 + counts["ping"])
        self.assertGreater(counts["delivery"], 50 * 5)
        self.assertEqual(counts["delivery"], figures["messages"]["delivered"])
        self.assertGreater(figures["probe"]["served"], 20)
        self.assertEqual(figures["probe"]["failed"], 0)
        for name in ("connect", "handshake", "first_byte"):
            self.assertGreaterEqual(figures["probe"][name]["count"], figures["probe"]["served"])
        for each in figures["microseconds"].values():
            self.assertEqual(sorted((each["p50"], each["p90"], each["p99"], each["p99_9"], each["max"])),
                             [each["p50"], each["p90"], each["p99"], each["p99_9"], each["max"]])
        self.assertIn("PASSED", table)
        self.assertRegex(errors, r"traffic +\d+\.\d s .* sent .* p99 ")
        self.assertIn(f"Total count    = {counts['delivery']:12}]", distribution.read_text())

    def test_clients_come_from_each_source_address_in_turn(self):
        seen = []

        def serve(tls):
            seen.append(tls.getpeername()[0])
            for message in messages(tls):
                tls.sendall(message)
        self.load(Server(self, serve).address, "--clients", 14, "--duration", 0, "--source-addresses",
                  "127.0.1.0/29,127.0.2.1")
        self.assertEqual(sorted(seen), sorted(2 * ([f"127.0.1.{last}" for last in range(1, 7)] + ["127.0.2.1"])))

    def test_a_stall_counts_from_the_intended_time_of_each_message(self):
        """A server that stops for a second delays all that is due meanwhile, not only what it has already got."""
        def serve(tls):
            for number, message in enumerate(messages(tls)):
                if number == 50:
                    time.sleep(1)
                tls.sendall(message)
        figures, _, _ = self.load(Server(self, serve).address, "--clients", 1, "--messages-per-second", 100,
                                  "--duration", 2)
        echo = figures["microseconds"]["echo"]
        self.assertEqual(echo["count"], 200)
        self.assertGreater(echo["max"], 900000)
        self.assertGreater(echo["p90"], 600000)  # half of the messages were due within the stall
        self.assertGreater(echo["mean"], 150000)
        self.assertLess(figures["microseconds"]["schedule_lag"]["p90"], 100000)

    def test_dropped_clients_come_back_with_a_ticket_each(self):
        edge = self.relay()
        figures, table, _ = self.load(
            edge.address, "--clients", 200, "--processes", 2, "--resume", "--traffic", "echo,http",
            "--messages-per-second", 500, "--duration", 2, "--storm", 50, "--storm-at", 1, "--jitter", "0.5")
        storm = figures["storm"]
        self.assertEqual((storm["dropped"], storm["returned"]), (100, 100))
        self.assertEqual(figures["handshakes"], {"full": 200, "resumed": 100})
        back = [storm["back_microseconds"][percent] for percent in ("50", "90", "99", "100")]
        self.assertEqual(back, sorted(back))
        self.assertGreater(back[0], 100000)
        self.assertGreater(back[3], 450000)
        self.assertRegex(table, r"100 clients dropped at once, back: 50 % in .* 100 % in ")

    def test_without_tickets_everyone_shakes_hands_in_full(self):
        edge = self.relay()
        figures, _, _ = self.load(edge.address, "--clients", 50, "--messages-per-second", 100, "--duration", 1,
                                  "--storm", 100, "--jitter", "0.5")  # all at once they would hold up their generator
        self.assertEqual(figures["handshakes"], {"full": 100, "resumed": 0})
        self.assertEqual(figures["storm"]["returned"], 50)

    def test_an_interrupted_run_reports_and_fails(self):
        edge = self.relay()
        load = self.start("load", *self.arguments(edge.address, "--clients", 20, "--duration", 60, "--wait-file",
                                                  self.directory / "ready"))
        wait_for((self.directory / "ready").exists, 10, "all clients are open")
        load.signal(signal.SIGTERM)
        self.assertEqual(load.wait(10), FAILED)
        figures = json.loads((self.directory / "figures.json").read_text())
        self.assertTrue(figures["interrupted"])
        self.assertEqual(figures["ended_clean"], 20)


class DamageTest(LoadCase):
    """What comes back is not what was sent: the run fails, and the counter of that kind of damage says why."""

    def damaged(self, damage, *options):
        def serve(tls):
            kept = []
            for number, message in enumerate(messages(tls)):
                for each in damage(number, message, kept):
                    tls.sendall(each)
        figures, table, _ = self.load(Server(self, serve).address, "--clients", 2, "--messages-per-second", 100,
                                      "--duration", 1, "--timeout", 3, *options, expected=FAILED)
        self.assertFalse(figures["passed"])
        self.assertIn("FAILED", table)
        return figures["messages"]

    def test_an_altered_byte(self):
        found = self.damaged(lambda number, message, kept: [message[:-1] + bytes((message[-1] ^ 1,)) if number == 9
                                                            else message])
        self.assertEqual((found["altered"], found["missing"], found["repeated"]), (2, 0, 0), found)

    def test_a_lost_message(self):
        found = self.damaged(lambda number, message, kept: [] if number == 9 else [message])
        self.assertEqual((found["missing"], found["altered"], found["repeated"]), (2, 0, 0), found)

    def test_a_doubled_message(self):
        found = self.damaged(lambda number, message, kept: [message, message] if number == 9 else [message])
        self.assertEqual((found["repeated"], found["missing"], found["altered"]), (2, 0, 0), found)

    def test_messages_out_of_order(self):
        def swap(number, message, kept):
            if number == 9:
                kept.append(message)
                return []
            return [message, kept.pop()] if kept else [message]
        found = self.damaged(swap)
        self.assertEqual((found["missing"], found["repeated"], found["altered"]), (2, 2, 0), found)

    def test_a_lost_byte(self):
        found = self.damaged(lambda number, message, kept: [message[1:] if number == 9 else message])
        self.assertEqual(found["broken_streams"], 2, found)

    def test_the_last_message_is_lost(self):
        found = self.damaged(lambda number, message, kept: [] if number == 50 else [message])
        self.assertEqual((found["unanswered"], found["missing"]), (2, 0), found)

    def test_a_service_that_sends_nothing_down(self):
        def serve(tls):
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            tls.recv(65536)
        figures, table, _ = self.load(Server(self, serve).address, "--clients", 3, "--traffic", "down",
                                      "--messages-per-second", 300, "--duration", "1.5", expected=FAILED)
        self.assertEqual(figures["messages"]["silent_clients"], 3)
        self.assertIn("to whom nothing came: 3", table)

    def test_answers_of_a_wrong_status_or_length(self):
        edge = self.relay()
        figures, _, _ = self.load(edge.address, "--clients", 2, "--traffic", "http", "--path", "/bytes/10", "--length",
                                  11, "--messages-per-second", 10, "--duration", 1, expected=FAILED)
        self.assertEqual((figures["http"]["wrong_length"], figures["http"]["answered"]), (12, 0))
        figures, _, _ = self.load(edge.address, "--clients", 2, "--traffic", "http", "--status", 204,
                                  "--messages-per-second", 10, "--duration", 1, expected=FAILED)
        self.assertEqual((figures["http"]["wrong_status"], figures["http"]["answered"]), (12, 0))

    def test_a_probe_that_is_not_served(self):
        edge = self.relay()
        figures, table, _ = self.load(edge.address, "--clients", 2, "--messages-per-second", 10, "--duration", 1,
                                      "--probe", f"https://127.0.0.1:{harness.free_port()}/", expected=FAILED)
        self.assertEqual((figures["probe"]["served"], figures["failed"]), (0, 0))
        self.assertIn("no probe was served", table)


class LimitsTest(LoadCase):
    def test_a_generator_that_is_late_is_the_bottleneck(self):
        edge = self.relay()
        load = self.start("load", *self.arguments(edge.address, "--clients", 10, "--messages-per-second", 500,
                                                  "--duration", 2, "--progress", "--wait-file",
                                                  self.directory / "ready"))
        wait_for((self.directory / "ready").exists, 10, "all clients are open")
        worker, = pathlib.Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGSTOP)
        (self.directory / "ready.go").touch()
        traffic = re.compile(r"^  traffic +(0\.[5-9]|[1-9]\d*\.\d) s ", re.MULTILINE)
        wait_for(lambda: traffic.search(load.error_text()), 10, "half a second of the traffic is due")
        os.kill(int(worker), signal.SIGCONT)
        self.assertEqual(load.wait(20), BOTTLENECK, load.output_text())
        figures = json.loads((self.directory / "figures.json").read_text())
        self.assertTrue(figures["bottleneck"] and figures["late"] and not figures["passed"])
        self.assertIn("the generator itself was the bottleneck", load.output_text())

    def test_probes_do_not_wait_for_the_clients_process(self):
        edge = self.relay()
        ready = self.directory / "ready"
        load = self.start("load", *self.arguments(edge.address, "--clients", 10, "--duration", 0, "--wait-file", ready,
                                                  "--probe", f"https://{join_address(edge.address)}/",
                                                  "--probe-rate", 50))
        wait_for(ready.exists, 10, "all clients are open")
        clients, _ = pathlib.Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        os.kill(int(clients), signal.SIGSTOP)
        stopped = time.monotonic()
        before = len(edge.find("client-state", to="relaying"))
        edge.wait_log("client-state", count=before + 100, to="relaying")
        stopped_us = (time.monotonic() - stopped) * 1e6
        os.kill(int(clients), signal.SIGCONT)
        pathlib.Path(f"{ready}.go").touch()
        # A machine that is busy otherwise may make it late, but not by as much as the clients' process was stopped.
        self.assertIn(load.wait(20), (PASSED, BOTTLENECK), load.output_text())
        probe = json.loads((self.directory / "figures.json").read_text())["probe"]
        self.assertGreaterEqual(probe["served"], 90)
        self.assertLess(probe["schedule_lag"]["max"], stopped_us / 2)
        self.assertLess(probe["first_byte"]["max"], stopped_us / 2)

    def test_what_the_machine_lacks_is_said_before_the_run(self):
        nobody = ("127.0.0.1", harness.free_port())
        _, _, errors = self.load(nobody, "--clients", 1000, expected=NOT_STARTED, preexec_fn=lower_files(300))
        self.assertRegex(errors, r"1000 clients in 1 process need \d+ open files each, the limit is 300: .*ulimit -n"
                                 r".*--processes 6")
        _, _, errors = self.load(nobody, "--clients", 100000, "--processes", 50, expected=NOT_STARTED)
        self.assertRegex(errors, r"ports.*ip_local_port_range.*--source-addresses")
        _, _, errors = self.load(nobody, "--source-addresses", "192.0.2.0/28", expected=NOT_STARTED)
        self.assertRegex(errors, r"192\.0\.2\.1\S* cannot be used")
        _, _, errors = self.load(nobody, "--histogram", self.directory / "none" / "file", expected=NOT_STARTED)
        self.assertRegex(errors, r"none/file: No such file")

    def test_processes_share_the_limit_of_open_files(self):
        edge = self.relay()
        figures, _, _ = self.load(edge.address, "--clients", 600, "--processes", 4, "--messages-per-second", 100,
                                  "--duration", 1, preexec_fn=lower_files(300))
        self.assertEqual(figures["ended_clean"], 600)

    def test_an_idle_client_costs_at_most_a_kilobyte(self):
        edge = self.edge(self.core(log_level="info"), log_level="info")
        few, many = 1000, 3000
        for options in ((), ("--resume",)):
            growth = self.idle_memory(edge, many, *options) - self.idle_memory(edge, few, *options)
            print(f"    {growth / (many - few):.0f} bytes per idle client {' '.join(options)}", flush=True)
            if not sanitized():
                self.assertLessEqual(growth / (many - few), IDLE_BYTES_MAX)

    def idle_memory(self, edge, clients, *options):
        """Anonymous memory of the process that holds so many idle clients, in bytes."""
        name = f"load-{clients}{''.join(options)}"
        ready = self.directory / f"{name}.ready"
        load = self.start(name, *self.arguments(edge.address, "--clients", clients, "--duration", 0, "--timeout", 30,
                                                "--wait-file", ready, *options))
        wait_for(lambda: ready.exists() or not load.running(), 60, "all clients are open")
        self.assertTrue(load.running(), load.output_text())
        worker, = pathlib.Path(f"/proc/{load.pid}/task/{load.pid}/children").read_text().split()
        wait_for(lambda: len(os.listdir(f"/proc/{worker}/fd")) >= clients, 10, "its clients are open")
        rollup = pathlib.Path(f"/proc/{worker}/smaps_rollup")
        figures = []

        def at_rest():
            figures.append(int(re.search(r"^Pss_Anon: +(\d+)", rollup.read_text(), re.MULTILINE)[1]))
            return len(figures) > 20 and figures[-20] == figures[-1]
        wait_for(at_rest, 10, "its memory is at rest")
        pathlib.Path(f"{ready}.go").touch()
        self.assertEqual(load.wait(30), PASSED, load.output_text())
        return figures[-1] * 1024


class ManualTest(LoadCase):
    def test_the_manual_page_has_every_option_and_exit_code(self):
        summary = harness.run(LOAD, "--help").stdout
        page = (SOURCE / "docs" / "man" / "trunkline-load.1").read_text()
        options = set(re.findall(r"--([a-z][a-z-]*)", summary))
        described = set(re.findall(r"^\.It Fl Fl ([a-z-]+)", page, re.MULTILINE))
        self.assertEqual(options - described, set(), "only in --help")
        self.assertEqual(described - options, set(), "only in the manual page")
        codes = re.search(r"^\.Sh EXIT STATUS$(.*?)^\.Sh", page, re.MULTILINE | re.DOTALL)[1]
        self.assertEqual(re.findall(r"^\.It (\d)", codes, re.MULTILINE), ["0", "1", "2", "3", "4"])
        self.assertEqual(harness.run(LOAD, "--version").stdout.split()[0], "trunkline-load")
        self.assertEqual(harness.run(LOAD, "--clients", "3", check=False).returncode, USAGE)


if __name__ == "__main__":
    harness.main()
