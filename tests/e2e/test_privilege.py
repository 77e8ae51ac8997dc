"""Least privilege: whom the programs become, what they can still do then, and what the kernel forbids them. All of it is
looked up from outside, in /proc, or attempted from inside, by a handler that tries what it must not."""
import contextlib
import functools
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import unittest

import harness
from harness import (BIN, EXIT_CREDENTIALS, EXIT_FAILURE, EXIT_OK, EXIT_USAGE, HERE, SOURCE, Case, Client,
                     client_context, join_address, pki, receive_exactly, run, run_directory, sanitized, tool, wait_for)

NOBODY = pwd.getpwnam("nobody")
ROOT = os.geteuid() == 0
READS_ANY_FILE = 1 << 2  # CAP_DAC_READ_SEARCH

needs_root = unittest.skipUnless(ROOT, "platform: only root can become another user")
needs_sandbox = unittest.skipIf(sanitized(), "platform: sanitizers need what the sandbox forbids")


def status(pid, thread=None):
    """/proc/PID/status, of the process or one of its threads, by field."""
    path = f"/proc/{pid}/status" if thread is None else f"/proc/{pid}/task/{thread}/status"
    lines = pathlib.Path(path).read_text().splitlines()
    return {name: value.split() for name, value in (line.split(":", 1) for line in lines)}


def threads(pid):
    return os.listdir(f"/proc/{pid}/task")


def reader_of(process):
    """The process that reads files for a program; None when there is none."""
    found = [child for task in threads(process.pid)
             for child in pathlib.Path(f"/proc/{process.pid}/task/{task}/children").read_text().split()]
    if not found:
        return None
    reader, = found
    return int(reader)


def gone(pid):
    try:
        return status(pid)["State"][0] == "Z"
    except FileNotFoundError:
        return True


@functools.lru_cache(maxsize=None)
def attempts():
    """The handler that tries things."""
    plugin = run_directory() / "attempts.so"
    run(tool("gcc"), "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
        "-I", SOURCE / "core", *sanitized().split(), "-o", plugin, HERE / "attempts.c")
    return plugin


def low_port():
    """A free port that only root may listen on."""
    for port in range(1023, 600, -1):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port below 1024 is free")


class ConfinedCase(Case):
    def assert_confined(self, process, uid, capabilities=0):
        """Every thread of a program, or a reader, whose capabilities are its own, by its number. A reader has one thread,
        but for those that a sanitizer adds."""
        pid = process if isinstance(process, int) else process.pid
        for thread in [pid] if isinstance(process, int) and sanitized() else threads(pid):
            fields = status(pid, thread)
            with self.subTest(thread=fields["Name"]):
                self.assertEqual(fields["Uid"], [str(uid)] * 4)
                self.assertEqual(fields["NoNewPrivs"], ["1"])
                self.assertEqual(fields["Seccomp"], ["0" if sanitized() else "2"])
                for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                    expected = capabilities if name in ("CapPrm", "CapEff") else 0
                    self.assertEqual(int(fields[name][0], 16), expected, name)


class UserTest(ConfinedCase):
    """--user: started as root."""

    def pair(self, *edge_options, services=("echo=echo",), service="echo"):
        self.relay_core = self.core("--user", "nobody", services=services)
        return self.edge(self.relay_core, "--user", "nobody", *edge_options, service=service)

    @needs_root
    def test_root_is_given_up_and_clients_are_served(self):
        port = low_port()
        edge = self.pair("--listen", f"127.0.0.1:{port}")
        self.assertEqual(edge.address[1], port)
        client = self.client(edge)
        client.echo(os.urandom(200000))
        for process in (edge, self.relay_core):
            self.assert_confined(process, NOBODY.pw_uid)
            fields = status(process.pid)
            self.assertEqual(fields["Gid"], [str(NOBODY.pw_gid)] * 4)
            self.assertEqual(set(fields["Groups"]), {str(gid) for gid in os.getgrouplist("nobody", NOBODY.pw_gid)})
            self.assertEqual(int(fields["CapBnd"][0], 16), 0)
            self.assertGreaterEqual(len(threads(process.pid)), 3)  # workers are among those that were looked at
            line, = process.find("confined")
            self.assertEqual((line["uid"], line["gid"]), (NOBODY.pw_uid, NOBODY.pw_gid))
            names = {pathlib.Path(f"/proc/{process.pid}/task/{thread}/comm").read_text().strip()
                     for thread in threads(process.pid)}
            self.assertGreaterEqual(len(names), 3, "threads have names of their own")
        client.close()

    @needs_root
    def test_a_group_can_be_named(self):
        core = self.core("--user", "nobody:daemon")
        fields = status(core.pid)
        self.assertEqual(fields["Uid"], [str(NOBODY.pw_uid)] * 4)
        self.assertEqual(fields["Gid"], ["1"] * 4)

    @needs_root
    def test_the_reader_keeps_the_right_to_read_and_ends_with_its_program(self):
        edge = self.pair()
        readers = []
        for process in (edge, self.relay_core):
            reader = reader_of(process)
            readers.append(reader)
            self.assertEqual(status(reader)["Name"], ["trunkline-files"])
            self.assert_confined(reader, 0, READS_ANY_FILE)
            files = os.listdir(f"/proc/{reader}/fd")
            self.assertEqual(len(files), 2, "its socket and standard error")
        edge.stop()
        self.assertTrue(gone(readers[0]))
        self.relay_core.kill()  # it ends also when nobody tells it to
        wait_for(lambda: gone(readers[1]), 5, "the reader of a killed program is gone")

    def own_files(self):
        """Certificate and key of the edge where only root gets at them; they are replaced as an operator does it."""
        private = self.directory / "private"
        private.mkdir(mode=0o700)
        for kind in ("crt", "key"):
            shutil.copy(pki()[f"edge.{kind}"], private / f"edge.{kind}")
            os.chmod(private / f"edge.{kind}", 0o600)
        return private

    def served(self, address):
        client = Client(address, context=client_context(verify=False))
        client.handshake()
        shown = client.tls.getpeercert(True)
        client.echo()
        client.close()
        return ssl.DER_cert_to_PEM_cert(shown).split()

    def pem(self, name):
        text = pki()[f"{name}.crt"].read_text()
        return text[text.index("-----BEGIN"):].split()

    def replace(self, private, name):
        for kind in ("crt", "key"):
            fresh = private / "fresh"
            shutil.copy(pki()[f"{name}.{kind}"], fresh)
            os.chmod(fresh, 0o600)
            os.replace(fresh, private / f"edge.{kind}")

    @needs_root
    def test_a_key_that_only_root_can_read_is_reloaded(self):
        private = self.own_files()
        edge = self.pair("--certificate", private / "edge.crt", "--key", private / "edge.key")
        old = self.client(edge)
        old.echo()
        pki().self_signed("renewed-privately", ["localhost"])
        self.replace(private, "renewed-privately")
        edge.signal(signal.SIGHUP)
        edge.wait_log("edge-reloaded")
        wait_for(lambda: all(self.served(edge.address) == self.pem("renewed-privately") for _ in range(8)), 5,
                 "the new certificate shows")
        old.echo()
        # What is wrong with a file is told as before.
        (private / "edge.key").unlink()
        edge.signal(signal.SIGHUP)
        line, = edge.wait_log("edge-reload-failed")
        self.assertIn("edge.key: No such file or directory", line["text"])
        self.assertEqual(self.served(edge.address), self.pem("renewed-privately"))
        self.relay_core.signal(signal.SIGHUP)
        self.relay_core.wait_log("core-reloaded")

    @needs_root
    def test_a_reader_that_dies_takes_nobody_with_it(self):
        edge = self.pair()
        client = self.client(edge)
        client.echo()
        os.kill(reader_of(edge), signal.SIGKILL)
        wait_for(lambda: gone(reader_of(edge)), 5, "the reader is gone")
        for count in (1, 2):
            edge.signal(signal.SIGHUP)
            lines = edge.wait_log("edge-reload-failed", count=count)
            self.assertIn("Broken pipe", lines[-1]["text"])
        client.echo()
        self.client(edge).echo()

    @needs_root
    def test_backends_are_reached_and_trunks_come_again(self):
        server = self.backend()
        public = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-public-"))
        self.addCleanup(shutil.rmtree, public)
        public.chmod(0o755)
        path = public / "backend.sock"
        local = socket.socket(socket.AF_UNIX)
        self.addCleanup(local.close)
        local.bind(str(path))
        path.chmod(0o777)
        local.listen()
        local.settimeout(10 * harness.patience())
        edge = self.pair("--route", "sni=tcp.example,service=tcp", "--route", "sni=unix.example,service=unix",
                         services=("echo=echo", f"tcp=forward:{join_address(server.getsockname())},proxy-v2",
                                   f"unix=forward:unix:{path}"))
        for name, listener in (("tcp.example", server), ("unix.example", local)):
            client = self.client(edge, context=client_context(verify=False), server_name=name)
            client.send(b"to the backend")
            backend = self.accept(listener)
            if listener is server:
                self.assertEqual(receive_exactly(backend, 12), b"\r\n\r\n\0\r\nQUIT\n")
                length = int.from_bytes(receive_exactly(backend, 4)[2:], "big")
                receive_exactly(backend, length)
            self.assertEqual(receive_exactly(backend, 14), b"to the backend")
            backend.sendall(b"and back")
            self.assertEqual(client.receive(8), b"and back")
            backend.close()
            self.assertEqual(client.read_end(), (b"", "close_notify"))
        address = self.relay_core.address
        self.relay_core.kill()
        edge.wait_log("trunk-down")
        again = self.core("--user", "nobody", "--listen", join_address(address), name="core-again")
        again.wait_log("trunk-up", count=2)
        self.client(edge).echo()

    @needs_root
    def test_a_drain_lets_sessions_end(self):
        edge = self.pair()
        client = self.client(edge)
        client.echo()
        self.relay_core.signal(signal.SIGTERM)
        self.relay_core.wait_log("core-draining", sessions=1)
        edge.signal(signal.SIGTERM)
        edge.wait_log("edge-draining")
        client.echo(b"still there")
        client.half_close()
        self.assertEqual(client.read_end(), (b"", "close_notify"))
        client.close()
        edge.check()
        self.assertEqual(self.relay_core.check()["end"], "clean")

    @needs_root
    def test_a_supervisor_is_told_under_the_filter(self):
        for path in (str(self.directory / "notify"), f"@trunkline-{os.getpid()}"):
            supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.addCleanup(supervisor.close)
            supervisor.bind(path.replace("@", "\0"))
            supervisor.settimeout(10 * harness.patience())
            core = self.start("notified", BIN / "trunkline-core", "--listen", "127.0.0.1:0", "--certificate",
                              pki()["core.crt"], "--key", pki()["core.key"], "--client-ca", pki()["ca.crt"],
                              "--service", "echo=echo", "--sandbox", "on",
                              environment={**os.environ, "NOTIFY_SOCKET": path})
            self.assertEqual(supervisor.recv(64), b"READY=1")
            core.signal(signal.SIGTERM)
            self.assertEqual(supervisor.recv(64), b"STOPPING=1")
            self.assertEqual(core.wait(10), EXIT_OK)


class OptionTest(Case):
    """What is wrong is said in one line."""

    def arguments(self, *more):
        return ["--listen", "127.0.0.1:0", "--certificate", pki()["edge.crt"], "--key", pki()["edge.key"], "--core",
                "127.0.0.1:9", "--core-ca", pki()["ca.crt"], "--trunk-certificate", pki()["trunk.crt"], "--trunk-key",
                pki()["trunk.key"], "--service", "echo", *more]

    def core_arguments(self, *more):
        return ["--listen", "127.0.0.1:0", "--certificate", pki()["core.crt"], "--key", pki()["core.key"],
                "--client-ca", pki()["ca.crt"], "--service", "echo=echo", *more]

    def assert_wrong(self, program, arguments, text, code=EXIT_USAGE, **options):
        done = run(program, *arguments, check=False, **options)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (code, 1), done.stderr)
        self.assertIn(text, done.stderr)

    def test_a_user_that_does_not_exist_is_named(self):
        for more in ((), ("--check-config",)):
            for name, arguments in (("edge", self.arguments), ("core", self.core_arguments)):
                program = BIN / f"trunkline-{name}"
                self.assert_wrong(program, arguments("--user", "no-such-user", *more),
                                  f'trunkline-{name}: --user: there is no user "no-such-user"')
                self.assert_wrong(program, arguments("--user", "nobody:no-such-group", *more),
                                  'there is no group "no-such-group"')
                self.assert_wrong(program, arguments("--user", "root", *more), "super-user")
                self.assert_wrong(program, arguments("--user", ":daemon", *more), "NAME:GROUP")

    def test_what_the_sandbox_does_not_know_is_named(self):
        program = BIN / "trunkline-core"
        self.assert_wrong(program, self.core_arguments("--sandbox", "maybe"), "off, on or require")
        self.assert_wrong(program, self.core_arguments("--sandbox-allow", "make_coffee"), "make_coffee")
        self.assert_wrong(program, self.core_arguments("--sandbox-read", "etc"), "absolute")

    def test_only_root_can_become_another_user(self):
        if ROOT:
            # A place that others can get at.
            place = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-public-"))
            self.addCleanup(shutil.rmtree, place)
            place.chmod(0o755)
            program = pathlib.Path(shutil.copy(BIN / "trunkline-edge", place))
            identity = {"user": "nobody", "group": NOBODY.pw_gid, "extra_groups": [], "cwd": "/"}
        else:
            program = BIN / "trunkline-edge"
            identity = {}
        self.assert_wrong(program, self.arguments("--user", "daemon"),
                          'trunkline-edge: --user: only root can become "daemon"', **identity)
        # Checking a file is for everybody, and goes on to what nobody may not read.
        done = run(program, *self.arguments("--user", "daemon", "--check-config"), check=False, **identity)
        self.assertEqual(done.returncode, EXIT_CREDENTIALS if ROOT else EXIT_OK, done.stderr)

    @unittest.skipUnless(sanitized(), "platform: for builds with a sanitizer")
    def test_a_sandbox_that_cannot_be_is_not_pretended(self):
        self.assert_wrong(BIN / "trunkline-core", self.core_arguments("--sandbox", "require", "--log-level", "error"),
                          "--sandbox require: seccomp is not in force: the program is built with a sanitizer",
                          code=EXIT_FAILURE)
        core = self.core()
        lines = core.find("confined-in-part")
        self.assertEqual({line["missing"] for line in lines}, {"seccomp", "landlock"})


class SandboxTest(ConfinedCase):
    """--sandbox, with whatever user the tests run as."""

    def ask(self, client, line):
        client.send(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += client.receive(1)
        return answer.decode().strip()

    def attempting(self, *options):
        """A client of a handler that tries what it is told."""
        self.relay_core = self.core(*options, services=(f"try=plugin:{attempts()}",))
        self.relay_edge = self.edge(self.relay_core, "--resume-timeout", "0", service="try")
        return self.client(self.relay_edge)

    @needs_sandbox
    def test_it_is_on_unless_told_otherwise(self):
        core = self.core()
        edge = self.edge(core, "--sandbox", "require")
        self.client(edge).echo()
        for process in (core, edge):
            for thread in threads(process.pid):
                fields = status(process.pid, thread)
                self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), (["2"], ["1"]))
            line, = process.find("confined", seccomp="on")
            self.assertGreaterEqual(line["landlock"], 1)
            self.assertEqual(process.find("confined-in-part"), [])
            self.assertEqual(os.stat(f"/proc/{process.pid}/maps").st_uid, 0, "closed to others of the same user")

    def test_without_it_nothing_is_in_force(self):
        core = self.core("--sandbox", "off")
        fields = status(core.pid)
        self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), (["0"], ["0"]))
        self.assertIsNone(reader_of(core))
        self.assertEqual(core.find("confined"), [])

    @needs_sandbox
    def test_a_program_cannot_be_executed(self):
        client = self.attempting()
        ran = self.directory / "ran"
        script = self.directory / "script"
        script.write_text(f"#!/bin/sh\ntouch {ran}\n")
        script.chmod(0o755)
        client.send(f"run {script}\n".encode())
        self.assertEqual(self.relay_core.wait(10), -signal.SIGSYS)
        self.relay_core.checked = True
        line, = self.relay_core.find("sandbox-violation")
        self.assertEqual((line["level"], line["name"], line["call"]), ("error", "execve", 59)
                         if os.uname().machine == "x86_64" else ("error", "execve", line["call"]))
        self.assertFalse(ran.exists())
        self.assertEqual(list(self.directory.glob("core*[0-9]")), [], "no core file, which would hold keys")
        self.assert_not_clean(client.read_end()[1])

    @needs_sandbox
    def test_files_cannot_be_opened(self):
        client = self.attempting()
        fresh = self.directory / "fresh"
        for line in ("read /etc/shadow", "read /etc/passwd", f"read {pki()['core.key']}", f"write {fresh}"):
            self.assertEqual(self.ask(client, line), "EPERM", line)
        self.assertFalse(fresh.exists())
        self.assertEqual(self.relay_core.find("sandbox-violation"), [])

    @needs_sandbox
    def test_handlers_get_what_the_operator_gives_them(self):
        readable = self.directory / "readable"
        writable = self.directory / "writable"
        for directory in (readable, writable):
            directory.mkdir()
            (directory / "file").write_text("text")
        client = self.attempting("--sandbox-read", readable, "--sandbox-write", writable, "--sandbox-read",
                                 self.directory / "missing")
        line, = self.relay_core.find("sandbox-path-missing")
        self.assertEqual((line["path"], line["text"]), (str(self.directory / "missing"), "No such file or directory"))
        self.assertEqual(self.ask(client, f"read {readable}/file"), "ok")
        self.assertEqual(self.ask(client, f"write {readable}/file"), "EACCES")
        self.assertEqual(self.ask(client, f"write {writable}/fresh"), "ok")
        # Landlock: whatever user this is, root included.
        for line in ("read /etc/passwd", "read /etc/shadow", f"read {pki()['core.key']}",
                     f"write {self.directory}/fresh", f"read {readable}/../nothing"):
            self.assertIn(self.ask(client, line), ("EACCES", "ENOENT"), line)
        self.assertEqual(self.ask(client, "read /etc/passwd"), "EACCES")
        self.assertTrue((writable / "fresh").exists())
        # A call that nobody has named still ends the process ...
        client.send(b"group\n")
        self.assertEqual(self.relay_core.wait(10), -signal.SIGSYS)
        self.relay_core.checked = True

    @needs_sandbox
    def test_a_call_can_be_allowed_by_name(self):
        client = self.attempting("--sandbox-allow", "getpgrp")
        self.assertEqual(self.ask(client, "group"), "ok")
        self.assertEqual(self.ask(client, "read /etc/passwd"), "EPERM")

    def denied(self, calls, *options):
        """A core on a kernel that lacks the calls."""
        core = self.start("core", sys.executable, HERE / "deny.py", calls, BIN / "trunkline-core", "--listen",
                          "127.0.0.1:0", "--certificate", pki()["core.crt"], "--key", pki()["core.key"], "--client-ca",
                          pki()["ca.crt"], "--service", "echo=echo", "--log-format", "json", *options)
        return core

    def lines(self, process):
        return [json.loads(line) for line in process.error_text().splitlines() if line.startswith("{")]

    @needs_sandbox
    def test_a_kernel_without_it_is_told_of_and_good_enough(self):
        for missing, calls, other in (("landlock", "landlock_create_ruleset", {"seccomp": "on", "landlock": 0}),
                                      ("seccomp", "seccomp", {"seccomp": "off"})):
            core = self.denied(calls)
            core.wait_output(r"^listening on ")
            lines = self.lines(core)
            line, = [line for line in lines if line["event"] == "confined-in-part"]
            self.assertEqual((line["level"], line["missing"]), ("warning", missing))
            self.assertEqual(line["text"], "the kernel does not have it")
            line, = [line for line in lines if line["event"] == "confined"]
            self.assertEqual({name: line[name] for name in other}, other)
            core.signal(signal.SIGTERM)
            self.assertEqual(core.wait(10), EXIT_OK)

    @needs_sandbox
    def test_a_kernel_without_it_is_not_good_enough_where_it_is_required(self):
        for name, calls in (("Landlock", "landlock_create_ruleset"), ("seccomp", "seccomp")):
            core = self.denied(calls, "--sandbox", "require")
            self.assertEqual(core.wait(10), EXIT_FAILURE)
            self.assertIn(f"trunkline-core: --sandbox require: {name} is not in force: the kernel does not have it",
                          core.error_text())


if __name__ == "__main__":
    harness.main()
