"""A new process of the edge takes over from the running one, seen from clients: nothing is lost, nothing is cut; and when
the takeover fails, at whatever moment, the running process serves on as if nothing had been."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl
import stat
import subprocess
import threading
import time

import harness
from harness import BIN, EXIT_FAILURE, Case, Client, Program, client_context, join_address, patience, pki, wait_for
from taker import COMMIT, COMMITTED, DONE, END, HELLO, PREPARED, READY, REFUSE, TAKEN_BACK, WELCOME, WORKER, Taker

def payload(length, seed=1):
    block = bytes((i * 7 + seed * 13 + (i >> 8)) % 251 for i in range(65521))
    return (block * (length // len(block) + 1))[:length]


class TakeoverCase(Case):
    def setUp(self):
        self.control = self.directory / "edge.control"
        self.serial = 0

    def taker(self):
        """Someone who speaks what a new process speaks, as far as a test wants it to."""
        taker = Taker(self.control, 20 * patience())
        self.addCleanup(taker.close)
        return taker

    def first(self, core, *options, **more):
        return self.edge(core, "--control", self.control, *options, **more)

    def next_arguments(self, core, *options):
        defaults = [("--listen", "127.0.0.1:0"), ("--certificate", pki()["edge.crt"]), ("--key", pki()["edge.key"]),
                    ("--core-ca", pki()["ca.crt"]), ("--trunk-certificate", pki()["trunk.crt"]),
                    ("--trunk-key", pki()["trunk.key"]), ("--workers", 2), ("--trunks", 1), ("--log-format", "json"),
                    ("--log-level", "debug"), ("--drain-timeout", "5s"), ("--reconnect-max", "500ms"),
                    ("--takeover", self.control), ("--control", self.control), ("--service", "echo"),
                    ("--core", join_address(core.address))]
        arguments = [BIN / "trunkline-edge"]
        for option, value in defaults:
            if option not in options:
                arguments += [option, value]
        return arguments + list(options)

    def next(self, core, *options):
        """A process that takes over, as soon as it is started."""
        self.serial += 1
        process = Program(self, f"edge-next-{self.serial}", self.next_arguments(core, *options), self.directory)
        self.processes.append(process)
        return process

    def take_over(self, core, old, *options):
        """The new process, once it serves and the old one has ended."""
        new = self.next(core, *options)
        self.took = new.wait_log("edge-took-over", seconds=20)[0]
        new.addresses = old.addresses
        totals = old.check()
        self.assertEqual(totals["handed_over"], self.took["clients"])
        self.assertEqual(totals["trunk_lost"], 0)
        return new

    def refused(self, core, *options):
        """What a new process says that cannot take over."""
        new = self.next(core, *options)
        self.assertEqual(new.wait(30), EXIT_FAILURE, new.error_text())
        new.checked = True
        new.assert_no_report()
        return new.error_text()

    def assert_undisturbed(self, edge, clients):
        for number, client in enumerate(clients):
            client.echo(payload(3000, number))
        self.client(edge).echo()
        self.assertTrue(edge.running())


class ClientTest(TakeoverCase):
    """What clients see."""

    def test_clients_go_on_through_one_takeover_after_another(self):
        core = self.core()
        edge = self.first(core)
        contexts = [client_context(), client_context(highest=ssl.TLSVersion.TLSv1_2)]
        clients = [self.client(edge, context=contexts[i % 2]) for i in range(20)]
        for client in clients:
            client.echo()
        for turn in range(3):
            edge = self.take_over(core, edge)
            self.assertEqual(self.took["clients"], len(clients))
            for number, client in enumerate(clients):
                client.echo(payload(50000, number + turn))
            clients.append(self.client(edge))  # the same address
            clients[-1].echo()
        for client in clients:
            client.half_close()
            self.assertEqual(client.read_end(), (b"", "close_notify"))
        totals = edge.stop()
        self.assertEqual((totals["truncated"], totals["client_lost"], totals["trunk_lost"]), (0, 0, 0))
        ended = core.stop()
        self.assertEqual(ended["sessions_opened"], len(clients))
        self.assertEqual(ended["resumes_refused"], 0)

    def test_a_load_that_checks_every_byte_notices_nothing(self):
        core = self.core(log_level="info")
        edge = self.first(core, log_level="info")
        ready = self.directory / "ready"
        load = self.start("load", BIN / "trunkline-load", "--connect", join_address(edge.address), "--clients", "200",
                          "--messages-per-second", "2000", "--duration", "8", "--ca", pki()["ca.crt"], "--server-name",
                          "localhost", "--json", self.directory / "load.json", "--wait-file", ready)
        wait_for(ready.exists, 20, "all clients are open: a handshake may stay behind, and end with the old process")
        pathlib.Path(f"{ready}.go").touch()
        for _ in range(3):
            edge = self.take_over(core, edge, "--log-level", "info")
            self.assertGreaterEqual(self.took["clients"], 200)
        self.assertEqual(load.wait(60), 0, load.output_text() + load.error_text())
        report = json.loads((self.directory / "load.json").read_text())
        self.assertTrue(report["passed"])
        self.assertEqual((report["messages"]["missing"], report["messages"]["altered"], report["failed"]), (0, 0, 0))

    def test_a_big_download_that_the_client_is_slow_to_take_arrives_whole(self):
        server = self.backend()
        core = self.core(services=[f"echo=forward:{join_address(server.getsockname())}"])
        edge = self.first(core)
        data = payload(6000000)
        client = self.client(edge, receive_buffer=8192)
        backend = self.accept(server)
        sender = threading.Thread(target=lambda: (backend.sendall(data), backend.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b""
        for _ in range(3):
            got += client.receive(500000)
            edge = self.take_over(core, edge)
            self.assertEqual(self.took["clients"], 1)
        rest, end = client.read_end()
        sender.join()
        self.assertEqual(end, "close_notify")
        self.assertTrue(got + rest == data, "the bytes are the same")

    def test_a_big_upload_that_the_backend_is_slow_to_take_arrives_whole(self):
        server = self.backend()
        core = self.core(services=[f"echo=forward:{join_address(server.getsockname())}"])
        edge = self.first(core)
        data = payload(6000000)
        client = self.client(edge)
        backend = self.accept(server)
        sender = threading.Thread(target=lambda: (client.send(data), client.half_close()))
        sender.start()
        got = b""
        for _ in range(3):
            got += harness.receive_exactly(backend, 500000)
            edge = self.take_over(core, edge)
        rest, end = harness.raw_end(backend)
        sender.join()
        self.assertEqual(end, "fin")
        self.assertTrue(got + rest == data, "the bytes are the same")
        backend.sendall(b"thanks")
        backend.shutdown(socket.SHUT_WR)
        self.assertEqual(client.read_end(), (b"thanks", "close_notify"))

    def test_a_direction_that_has_ended_stays_so_and_the_other_goes_on(self):
        server = self.backend()
        core = self.core(services=[f"echo=forward:{join_address(server.getsockname())}"])
        edge = self.first(core)
        ended = self.client(edge)
        first = self.accept(server)
        heard = self.client(edge)
        second = self.accept(server)
        ended.send(b"the last")
        ended.half_close()
        self.assertEqual(harness.raw_end(first), (b"the last", "fin"))
        second.sendall(b"no more")
        second.shutdown(socket.SHUT_WR)
        self.assertEqual(heard.read_end(), (b"no more", "close_notify"))
        edge = self.take_over(core, edge)
        self.assertEqual(self.took["clients"], 2)
        first.sendall(b"still here")
        first.shutdown(socket.SHUT_WR)
        self.assertEqual(ended.read_end(), (b"still here", "close_notify"))
        heard.send(b"and so am I")
        self.assertEqual(harness.receive_exactly(second, 11), b"and so am I")
        heard.half_close()
        self.assertEqual(harness.raw_end(second), (b"", "fin"))
        wait_for(lambda: len(core.find("session-closed")) == 2, 10, "both sessions end")
        self.assertEqual(edge.stop()["ended"], 2)

    def test_a_record_of_which_a_part_has_come_is_completed_by_the_new_process(self):
        core = self.core()
        edge = self.first(core)
        clients = []
        for highest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for cut in (1, 5, 300):
                client = self.client(edge, context=client_context(highest=highest))
                client.echo()
                client.tls.write(payload(1000, cut))
                record = client.outgoing.read()
                client.socket.sendall(record[:cut])
                clients.append((client, cut, record[cut:]))
        self.client(edge).echo()  # behind the parts
        self.take_over(core, edge)
        for client, cut, rest in clients:
            client.socket.sendall(rest)
            self.assertEqual(client.receive(1000), payload(1000, cut))
            client.echo()

    def test_who_has_not_begun_its_handshake_completes_it_with_the_new_process(self):
        core = self.core()
        edge = self.first(core)
        alone = edge.files()
        clients = [Client(edge.address) for _ in range(10)]
        for client in clients:
            self.addCleanup(client.close)
        wait_for(lambda: edge.files() >= alone + len(clients), 10, "they are accepted")
        self.take_over(core, edge)
        self.assertEqual(self.took["clients"], 10)
        for client in clients:
            client.handshake().echo()

    def test_a_handshake_that_has_begun_is_completed_first(self):
        core = self.core()
        edge = self.first(core, "--handshake-timeout", "60s")
        client = Client(edge.address)
        self.addCleanup(client.close)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        hello = client.outgoing.read()
        client.socket.sendall(hello[:100])  # begun: its TLS state is there
        self.client(edge).echo()
        new = self.next(core)
        new.wait_log("takeover-ready")
        client.socket.sendall(hello[100:])
        client.handshake()
        self.took = new.wait_log("edge-took-over", seconds=20)[0]
        old = edge.check()
        client.echo()
        # With luck of either kind: it was completed within the second, or it is served by the old process to its end.
        self.assertEqual(self.took["clients"], old["handed_over"])

    def test_a_handshake_that_does_not_go_on_stays_behind_and_holds_nobody_up(self):
        core = self.core()
        edge = self.first(core, "--handshake-timeout", "3s")
        stuck = Client(edge.address)
        self.addCleanup(stuck.close)
        with contextlib.suppress(ssl.SSLWantReadError):
            stuck.tls.do_handshake()
        stuck.socket.sendall(stuck.outgoing.read()[:100])
        client = self.client(edge)
        client.echo()
        self.take_over(core, edge)
        self.assertEqual(self.took["clients"], 1)
        client.echo()
        self.assertEqual(edge.find("edge-handed-over")[0]["staying"], 1)

    def test_who_connects_meanwhile_is_served(self):
        core = self.core()
        edge = self.first(core)
        over = threading.Event()
        faults = []

        def connect():
            while not over.is_set():
                try:
                    client = Client(edge.address)
                    client.handshake().echo()
                    client.close()
                except (OSError, ssl.SSLError, AssertionError) as fault:
                    faults.append(repr(fault))
        threads = [threading.Thread(target=connect) for _ in range(4)]
        for thread in threads:
            thread.start()
        old = edge
        for _ in range(4):
            old = self.take_over(core, old)
        over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])

    def test_sessions_of_a_core_that_does_not_resume_end_in_the_old_process(self):
        core = self.core("--resume-timeout", "0")
        edge = self.first(core)
        client = self.client(edge)
        client.echo()
        new = self.next(core)
        self.assertEqual(new.wait_log("edge-took-over", seconds=30)[0]["clients"], 0)
        self.assertEqual(edge.wait_log("edge-handed-over")[0]["staying"], 1)
        client.echo(payload(40000))
        new.addresses = edge.addresses
        self.client(new).echo()
        client.close()
        edge.check()


class RefusalTest(TakeoverCase):
    """A takeover that cannot be is refused in words, and nobody notices."""

    def test_what_does_not_fit_is_refused(self):
        core = self.core()
        other = self.core(name="other")
        edge = self.first(core)
        clients = [self.client(edge) for _ in range(4)]
        self.assertIn("2 workers", self.refused(core, "--workers", "3"))
        self.assertIn("resume-timeout", self.refused(core, "--resume-timeout", "0"))
        self.assertIn("does not know the core", self.refused(other))
        certificate, key = harness.pki().client("stranger", "ca")
        self.assertIn("trunk certificate", self.refused(core, "--trunk-certificate", certificate, "--trunk-key", key))
        self.assertIn("no running edge", self.refused(core, "--takeover", self.directory / "nothing"))
        self.assert_undisturbed(edge, clients)
        self.take_over(core, edge)
        for client in clients:
            client.echo()

    def test_a_foreign_version_is_refused_by_name(self):
        core = self.core()
        edge = self.first(core)
        client = self.client(edge)
        for count, (oldest, newest) in enumerate(((2, 3), (0, 0)), start=1):
            taker = self.taker()
            taker.hello(join_address(core.address), oldest=oldest, newest=newest)
            message, text = taker.receive()
            self.assertEqual(message, REFUSE)
            self.assertIn(f"reads {oldest} to {newest}", text.decode())
            taker.close()
            edge.wait_log("takeover-failed", count=count)
        taker = self.taker()
        taker.send(HELLO, b"GET / HTTP/1.1\r\n")
        self.assertEqual(taker.receive()[0], REFUSE)
        self.assert_undisturbed(edge, [client])

    def test_one_takeover_at_a_time(self):
        core = self.core()
        edge = self.first(core)
        client = self.client(edge)
        taker = self.taker()
        taker.hello(join_address(core.address))
        self.assertEqual(taker.receive()[0], WELCOME)
        self.assertIn("another takeover", self.refused(core))
        taker.close()
        edge.wait_log("takeover-failed")
        self.assert_undisturbed(edge, [client])
        self.take_over(core, edge)
        client.echo()

    def test_an_edge_that_drains_is_not_taken_over(self):
        core = self.core()
        edge = self.first(core, "--drain-timeout", "20s")
        client = self.client(edge)
        client.echo()
        edge.signal(signal.SIGTERM)
        edge.wait_log("edge-draining")
        self.assertIn("no running edge", self.refused(core))
        client.echo()
        client.close()
        edge.check()

    def test_the_control_socket_is_for_its_user_only(self):
        core = self.core()
        edge = self.first(core)
        self.assertEqual(stat.S_IMODE(os.stat(self.control).st_mode), 0o600)
        if os.geteuid() == 0:
            script = ("import os, socket, sys\nos.setgid(65534)\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
                      "try:\n    s.connect(sys.argv[1])\nexcept PermissionError:\n    sys.exit(3)\n"
                      "s.settimeout(20)\nsys.exit(4 if s.recv(1) == b'' else 5)\n")
            for parent in (self.directory, *self.directory.parents):
                if parent == harness.run_directory().parent:
                    break
                os.chmod(parent, 0o755)
            attempt = lambda: subprocess.run(["/usr/bin/python3", "-c", script, str(self.control)], check=False).returncode
            self.assertEqual(attempt(), 3)
            os.chmod(self.control, 0o666)  # whatever its mode is: the kernel tells who asks
            self.assertEqual(attempt(), 4)
            edge.wait_log("takeover-refused", uid=65534)
        self.client(edge).echo()

    def test_a_control_socket_that_somebody_listens_on_is_not_stolen(self):
        core = self.core()
        self.first(core)
        arguments = [str(each) for each in self.next_arguments(core)]
        place = arguments.index("--takeover")
        done = subprocess.run(arguments[:place] + arguments[place + 2:], capture_output=True, text=True, check=False,
                              timeout=30 * patience())
        self.assertEqual(done.returncode, harness.EXIT_ADDRESS)
        self.assertIn("control", done.stderr)

    def test_what_is_wrong_with_the_path_of_the_control_socket_is_said(self):
        arguments = [str(each) for each in self.next_arguments(self.core())]
        place = arguments.index("--takeover")
        file = self.directory / "file"
        file.write_text("kept")
        for path, said in ((self.directory / "none" / "control", "there is no such directory"),
                           (file / "control", "there is no such directory"), (file, str(file))):
            with self.subTest(path=path):
                given = [str(path) if each == str(self.control) else each
                         for each in arguments[:place] + arguments[place + 2:]]
                done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=30 * patience())
                self.assertEqual(done.returncode, harness.EXIT_ADDRESS)
                self.assertIn(said, done.stderr)
        self.assertEqual(file.read_text(), "kept")

    def test_a_control_socket_that_was_left_behind_is_replaced(self):
        core = self.core()
        edge = self.first(core)
        edge.kill()
        self.assertTrue(os.path.exists(self.control))
        again = self.edge(core, "--control", self.control, name="again")
        client = self.client(again)
        self.take_over(core, again)
        client.echo()


class FailureTest(TakeoverCase):
    """The new process stops at each phase: by its end, or by silence."""

    def test_the_new_process_dies(self):
        core = self.core()
        edge = self.first(core)
        clients = [self.client(edge) for _ in range(30)]
        for client in clients:
            client.echo()
        for count, last in enumerate((HELLO, WELCOME, READY, WORKER, END, PREPARED, COMMIT), start=1):
            with self.subTest(last=last):
                taker = self.taker()
                taker.go_to(join_address(core.address), last)
                taker.close()
                edge.wait_log("takeover-failed", count=count)
                self.assert_undisturbed(edge, clients)
        self.take_over(core, edge)
        for client in clients:
            client.echo()

    def test_the_new_process_falls_silent(self):
        core = self.core()
        edge = self.first(core)
        clients = [self.client(edge) for _ in range(10)]
        for count, last in enumerate((WORKER, END, COMMIT), start=1):
            with self.subTest(last=last):
                taker = self.taker()
                taker.go_to(join_address(core.address), last)
                line = edge.wait_log("takeover-failed", count=count, seconds=20)[-1]
                self.assertLess(line["frozen_ms"], 8000 * patience())
                self.assert_undisturbed(edge, clients)
                if last == COMMIT:
                    # It wakes up too late: the kernel takes no COMMITTED any more, and it is told.
                    with self.assertRaises(BrokenPipeError):
                        taker.send(COMMITTED)
                    self.assertEqual(taker.receive()[0], TAKEN_BACK)
                taker.close()
        self.take_over(core, edge)
        for client in clients:
            client.echo()

    def test_a_signal_to_the_old_process_at_the_last_moment_leaves_the_clients_with_it(self):
        core = self.core()
        edge = self.first(core, "--drain-timeout", "20s")
        client = self.client(edge)
        client.echo()
        taker = self.taker()
        taker.go_to(join_address(core.address), COMMIT)
        edge.signal(signal.SIGTERM)
        edge.wait_log("takeover-failed")
        with self.assertRaises(BrokenPipeError):
            taker.send(COMMITTED)
        taker.expect(TAKEN_BACK)
        taker.close()
        client.echo(payload(40000))
        client.close()
        edge.check()

    def test_a_new_process_that_is_killed_at_any_moment_takes_nothing_with_it(self):
        core = self.core()
        edge = self.first(core)
        clients = [self.client(edge) for _ in range(50)]
        for event in ("trunk-up", "takeover-ready"):
            new = self.next(core)
            new.wait_log(event)
            new.signal(signal.SIGSTOP)
            # It may have come as far as COMMITTED: then it is the one. The old process knows, soon or at its deadline.
            failures = len(edge.find("takeover-failed"))
            wait_for(lambda: len(edge.find("takeover-failed")) > failures or edge.find("edge-handed-over"), 30,
                     "it is decided")
            if edge.find("edge-handed-over"):
                new.signal(signal.SIGCONT)
                new.wait_log("edge-took-over")
                new.addresses = edge.addresses
                edge.check()
                edge = new
            else:
                new.kill()
            self.assert_undisturbed(edge, clients)

    def test_a_new_process_that_is_told_to_stop_gives_everything_back(self):
        core = self.core()
        edge = self.first(core)
        client = self.client(edge)
        # No trunk comes up there: it waits for them.
        nowhere = join_address(("127.0.0.1", harness.free_port()))
        new = self.next(core, "--core", nowhere, "--core", join_address(core.address))
        new.wait_log("trunk-up", count=2)
        new.signal(signal.SIGTERM)
        self.assertEqual(new.wait(20), EXIT_FAILURE)
        new.checked = True
        edge.wait_log("takeover-failed")
        self.assert_undisturbed(edge, [client])

    def test_a_new_process_without_trunks_does_not_get_the_clients(self):
        core = self.core()
        edge = self.first(core)
        client = self.client(edge)
        client.echo()
        self.assertIn("no trunk to a core", self.refused(core, "--core-ca", harness.foreign_pki()["ca.crt"]))
        self.assert_undisturbed(edge, [client])


class SupervisorTest(TakeoverCase):
    def test_the_old_process_waits_until_the_new_one_has_told_the_supervisor(self):
        core = self.core()
        edge = self.first(core)
        taker = self.taker()
        taker.go_to(join_address(core.address), COMMIT)
        taker.send(COMMITTED)
        core.wait_log("trunk-down", count=2)  # nothing is left for it to do
        self.assertTrue(edge.running())
        self.assertEqual(edge.find("edge-handed-over"), [])
        taker.send(DONE)
        edge.check()
        self.assertEqual(len(edge.find("edge-handed-over")), 1)

    def test_the_supervisor_learns_the_new_process_before_the_old_one_ends(self):
        path = str(self.directory / "notify")
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        notify.settimeout(20 * patience())
        self.addCleanup(notify.close)
        os.environ["NOTIFY_SOCKET"] = path
        self.addCleanup(os.environ.pop, "NOTIFY_SOCKET")
        core = self.core()
        while notify.recv(1000) != b"READY=1":
            pass
        edge = self.first(core)
        self.assertEqual(notify.recv(1000).decode(), f"READY=1\nMAINPID={edge.pid}")
        new = self.take_over(core, edge)
        self.assertEqual(notify.recv(1000).decode(), f"READY=1\nMAINPID={new.pid}")
        new.stop()
        self.assertEqual(notify.recv(1000), b"STOPPING=1")  # not of the old one


if __name__ == "__main__":
    harness.main()
