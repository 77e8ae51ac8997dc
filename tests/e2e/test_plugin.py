"""Handlers of one's own: the examples are built out of the tree, against an installed Trunkline that is found with
nothing but pkg-config, and serve sessions as plugins."""
import contextlib
import os
import shutil

import harness
from harness import BIN, EXIT_USAGE, SOURCE, Case, patience, pki, run, run_directory, tool


def installed():
    """Installs the build under test into a prefix of its own, once; then builds the examples. Both directories."""
    prefix = run_directory() / "prefix"
    example = run_directory() / "example"
    if not prefix.exists():
        run(tool("cmake"), "--install", BIN.parent, "--prefix", prefix, timeout=120)
        shutil.copytree(SOURCE / "tests" / "example", example)
        found = [path.parent for path in prefix.rglob("trunkline.pc")]
        if len(found) != 1:
            raise AssertionError(f"the installation has {len(found)} pkg-config files")
        run(tool("make"), "-C", example, "-B", f"CFLAGS=-O2 -Wall -Wextra -Werror {harness.sanitized()}", timeout=120,
            env={"PATH": os.environ["PATH"], "PKG_CONFIG_PATH": str(found[0])})
    return prefix, example


class PluginTest(Case):
    def setUp(self):
        self.prefix, self.example = installed()

    def serve(self, *services, **options):
        self.relay_core = self.core(services=services)
        return self.edge(self.relay_core, **options)

    def test_an_installation_is_complete(self):
        for path in ("sbin/trunkline-core", "sbin/trunkline-edge", "bin/trunkline-load", "include/trunkline.h",
                     "share/man/man8/trunkline-core.8", "share/man/man8/trunkline-edge.8",
                     "share/man/man1/trunkline-load.1",
                     "lib/systemd/system/trunkline-core.service", "lib/systemd/system/trunkline-edge.service"):
            self.assertTrue((self.prefix / path).is_file(), path)
        for program in ("core", "edge"):
            done = run(self.prefix / "sbin" / f"trunkline-{program}", "--version")
            self.assertTrue(done.stdout.startswith(f"trunkline-{program} "))
        # The header stands alone, and in C++ too where there is a compiler for it.
        run(tool("gcc"), "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c",
            self.prefix / "include" / "trunkline.h")
        if shutil.which("g++"):
            run(tool("g++"), "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++",
                self.prefix / "include" / "trunkline.h")

    def test_a_plugin_speaks_and_ends(self):
        edge = self.serve(f"hello=plugin:{self.example}/hello.so:Good morning", service="hello")
        client = self.client(edge)
        self.assertEqual(client.read_end(), (f"Good morning, {client.name}!\n".encode(), "close_notify"))

    def test_a_plugin_of_a_relative_path_is_found(self):
        shutil.copy(self.example / "hello.so", self.directory)
        edge = self.serve("hello=plugin:./hello.so", service="hello")
        client = self.client(edge)
        self.assertEqual(client.read_end(), (f"Hello, {client.name}!\n".encode(), "close_notify"))

    def test_a_plugin_transforms_the_bytes_and_half_closes(self):
        edge = self.serve(f"shout=plugin:{self.example}/shout.so:tick=0,idle=0", service="shout")
        client = self.client(edge)
        text = b"quietly spoken words\n" * 3000
        client.send(text[:100])
        self.assertEqual(client.receive(100), text[:100].upper())
        client.send(text)
        client.half_close()
        self.assertEqual(client.read_end(), (text.upper(), "close_notify"))
        self.relay_core.wait_log("session-closed", reason="done")

    def test_a_plugin_stops_a_client_that_does_not_read(self):
        edge = self.serve(f"shout=plugin:{self.example}/shout.so:tick=0,idle=0", service="shout")
        client = self.client(edge, receive_buffer=16384)
        other = self.client(edge)
        client.socket.settimeout(1)
        sent = 0
        part = b"x" * 65536
        left = memoryview(b"")
        with contextlib.suppress(TimeoutError):
            while sent < 128 << 20:
                if not left:
                    client.tls.write(part)
                    sent += len(part)
                    left = memoryview(client.outgoing.read())
                left = left[client.socket.send(left):]
        self.assertLess(sent, 64 << 20)
        other.send(b"and you?")
        self.assertEqual(other.receive(8), b"AND YOU?")
        # What it sent is answered once it reads.
        client.socket.settimeout(10 * patience())
        data, end = client.finish(left)
        self.assertEqual((len(data), end), (sent, "close_notify"))
        self.assertEqual(set(data), {ord("X")})

    def test_a_plugin_has_timers(self):
        edge = self.serve(f"shout=plugin:{self.example}/shout.so:tick=0,idle=200", service="shout")
        client = self.client(edge)
        client.send(b"hello")
        self.assertEqual(client.read_end(), (b"HELLOGOODBYE\n", "close_notify"))

    def test_a_plugins_own_thread_reaches_every_session(self):
        edge = self.serve(f"shout=plugin:{self.example}/shout.so:tick=50,idle=0", service="shout")
        clients = [self.client(edge) for _ in range(20)]
        for _ in range(3):
            for client in clients:
                line = client.receive(len("IT IS 12:34:56\n"))
                self.assertRegex(line, rb"^IT IS \d\d:\d\d:\d\d\n$")
        # Sessions come and go while the thread posts to them.
        for round_number in range(5):
            for client in clients:
                client.vanish() if round_number % 2 else client.reset()
            clients = [self.client(edge) for _ in range(20)]
            self.relay_core.wait_log("session-opened", count=20 * (round_number + 2))
        self.assertRegex(clients[0].receive(15), rb"^IT IS ")
        for client in clients:
            client.reset()
        edge.stop()
        totals = self.relay_core.stop()
        self.assertEqual((totals["sessions_opened"], totals["sessions_closed"]), (120, 120))

    def test_a_plugin_that_dislikes_its_argument_ends_the_start(self):
        done = run(BIN / "trunkline-core", "--listen", "127.0.0.1:0", "--certificate", pki()["core.crt"], "--key",
                   pki()["core.key"], "--client-ca", pki()["ca.crt"], "--service",
                   f"shout=plugin:{self.example}/shout.so:loudly", check=False)
        self.assertEqual(done.returncode, EXIT_USAGE)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("expected tick=MILLISECONDS,idle=MILLISECONDS", done.stderr)

    def test_a_library_that_is_no_plugin_is_named(self):
        source = self.directory / "other.c"
        source.write_text("int nothing_of_the_kind;\n")
        run(tool("gcc"), "-shared", "-fPIC", "-o", self.directory / "other.so", source)
        done = run(BIN / "trunkline-core", "--listen", "127.0.0.1:0", "--certificate", pki()["core.crt"], "--key",
                   pki()["core.key"], "--client-ca", pki()["ca.crt"], "--service",
                   f"x=plugin:{self.directory}/other.so", check=False)
        self.assertEqual(done.returncode, EXIT_USAGE)
        self.assertIn("trunkline_plugin", done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    harness.main()
