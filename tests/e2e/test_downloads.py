"""Bytes in bulk through `forward`: curl over HTTP/1.1 and HTTP/2 from nginx, a large upload, and a slow reader beside a
fast one."""
import contextlib
import functools
import hashlib
import os
import select
import subprocess
import time

import harness
from harness import (Case, client_context, free_port, join_address, patience, pki, run_directory, sanitized, tool,
                     wait_for)

GIGABYTE = 1 << 30
MEGABYTE = 1 << 20
SMALL_FILES = 10
PARALLEL = 100


@functools.lru_cache(maxsize=None)
def site():
    """The files that nginx serves, made once: their directory, and their checksums by name."""
    directory = run_directory() / "site"
    directory.mkdir()
    sums = {}
    with open(directory / "large", "wb") as file:
        # Sparse, but every 64 KB are unlike all others, so that no part can stand in for another.
        for offset in range(0, GIGABYTE, 65536):
            file.seek(offset)
            file.write(hashlib.sha256(offset.to_bytes(8, "big")).digest() * 32)
        file.truncate(GIGABYTE)
    for number in range(SMALL_FILES):
        (directory / f"small-{number}").write_bytes(os.urandom(700000 + number * 10007))
    for path in directory.iterdir():
        with open(path, "rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return directory, sums


NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 1g;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{plain};
        root {site};
        location /upload/ {{
            root {directory};
            dav_methods PUT;
            create_full_put_path on;
        }}
    }}
    server {{
        listen 127.0.0.1:{h2c} http2;
        http2_max_concurrent_streams 256;
        root {site};
    }}
}}
"""


class NginxTest(Case):
    observed = True

    def setUp(self):
        directory, self.sums = site()
        plain, h2c = free_port(), free_port()
        configuration = self.directory / "nginx.conf"
        configuration.write_text(NGINX.format(directory=self.directory, site=directory, plain=plain, h2c=h2c,
                                              user="user root;" if os.geteuid() == 0 else ""))
        self.start("nginx", tool("nginx"), "-e", self.directory / "nginx-error.log", "-p", self.directory, "-c",
                   configuration)
        for port in (plain, h2c):
            wait_for(lambda: self.listens(port), 10, "nginx listens")
        self.relay_core = self.core(services=[f"web=forward:127.0.0.1:{plain}", f"web2=forward:127.0.0.1:{h2c}"],
                                    log_level="info")
        self.relay_edge = self.edge(self.relay_core, "--alpn", "h2", "--alpn", "http/1.1", "--route",
                                    "alpn=h2,service=web2", service="web", log_level="info")

    def listens(self, port):
        with contextlib.suppress(ConnectionRefusedError):
            self.tcp(("127.0.0.1", port)).close()
            return True
        return False

    def curl(self, *arguments):
        return [tool("curl"), "--silent", "--show-error", "--fail", "--cacert", str(pki()["ca.crt"]), *arguments]

    def url(self, name):
        return f"https://localhost:{self.relay_edge.address[1]}/{name}"

    def download(self, *arguments):
        """The checksum of what curl gets, and the seconds that it took."""
        started = time.monotonic()
        digest = hashlib.sha256()
        with subprocess.Popen(self.curl(*arguments), stdout=subprocess.PIPE) as curl:
            while True:
                part = curl.stdout.read(MEGABYTE)
                if not part:
                    break
                digest.update(part)
        self.assertEqual(curl.returncode, 0)
        return digest.hexdigest(), time.monotonic() - started

    def test_a_gigabyte_over_each_version_of_http(self):
        for version in ("--http1.1", "--http2"):
            with self.subTest(version=version):
                digest, seconds = self.download(version, self.url("large"))
                self.assertEqual(digest, self.sums["large"])
                print(f"    1 GB {version}: {seconds:.1f} s, {GIGABYTE / seconds / 1e6:.0f} MB/s", flush=True)
        totals = self.relay_edge.stop()
        # A client that has all it asked for may close by a reset.
        self.assertEqual((totals["opened"], totals["trunk_lost"], totals["forced"]), (2, 0, 0), totals)
        self.assertGreater(totals["bytes_out"], 2 * GIGABYTE)

    def test_a_hundred_parallel_requests_over_each_version_of_http(self):
        for version in ("--http1.1", "--http2"):
            with self.subTest(version=version):
                into = self.directory / version.strip("-")
                into.mkdir()
                wanted = self.directory / "curl.conf"
                wanted.write_text("".join(f'url = "{self.url(f"small-{number % SMALL_FILES}")}"\n'
                                          f'output = "{into}/{number}"\n' for number in range(PARALLEL)))
                command = self.curl(version, "--parallel", "--parallel-max", str(PARALLEL), "--parallel-immediate",
                                    "--config", str(wanted), "--write-out", "%{http_version}\n")
                done = harness.run(*command, timeout=120)
                self.assertEqual(set(done.stdout.split()), {version.strip("-http")})
                for number in range(PARALLEL):
                    with open(into / str(number), "rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
                    self.assertEqual(digest, self.sums[f"small-{number % SMALL_FILES}"], number)
        self.assertEqual(self.relay_edge.stop()["trunk_lost"], 0)

    def test_an_upload_of_two_hundred_megabytes(self):
        data = self.directory / "data"
        block = os.urandom(MEGABYTE)
        with open(data, "wb") as file:
            for number in range(200):
                file.write(number.to_bytes(8, "big") + block[8:])
        harness.run(*self.curl("--http1.1", "--upload-file", str(data), self.url("upload/data")), timeout=120)
        with open(data, "rb") as sent, open(self.directory / "upload" / "data", "rb") as stored:
            self.assertEqual(hashlib.file_digest(stored, "sha256").hexdigest(),
                             hashlib.file_digest(sent, "sha256").hexdigest())

    def fast(self):
        """Seconds for a quarter of the large file, on a new connection."""
        digest, seconds = self.download("--http1.1", "--range", f"0-{GIGABYTE // 4 - 1}", self.url("large"))
        with open(site()[0] / "large", "rb") as file:
            expected = hashlib.sha256()
            for _ in range(GIGABYTE // 4 // MEGABYTE):
                expected.update(file.read(MEGABYTE))
        self.assertEqual(digest, expected.hexdigest())
        return seconds

    def test_slow_readers_beside_a_fast_one(self):
        """Clients that read nothing stop their own senders; nothing piles up, and the others do not notice."""
        alone = min(self.fast() for _ in range(2))
        programs = (self.relay_edge, self.relay_core)
        before = [program.memory() for program in programs]
        slow = []
        for _ in range(20):
            client = self.client(self.relay_edge, receive_buffer=16384, context=client_context(alpn=["http/1.1"]))
            client.send(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(client.receive(15), b"HTTP/1.1 200 OK")
            slow.append(client)
        beside = min(self.fast() for _ in range(2))
        grown = [program.memory() - old for program, old in zip(programs, before)]
        print(f"    256 MB alone {alone:.2f} s, beside 20 stalled readers {beside:.2f} s; memory grown by "
              f"{grown[0] >> 10} KB (edge) and {grown[1] >> 10} KB (core)", flush=True)
        if not sanitized():
            self.assertLess(beside, alone * 2 + 0.5)
            for program, growth in zip(programs, grown):
                self.assertLess(growth, 20 * MEGABYTE, program.name)
        # One of them goes on, and gets all of its bytes as they should be.
        slow[0].socket.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_RCVBUF, 4 * MEGABYTE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += slow[0].receive(1)
        body = slow[0].receive(32 * MEGABYTE)
        with open(site()[0] / "large", "rb") as file:
            self.assertEqual(body, file.read(32 * MEGABYTE))
        for client in slow:
            client.reset()


class StopTest(Case):
    """A stalled reader stops its sender, end to end, in both directions."""

    observed = True

    def setUp(self):
        self.server = self.backend()
        self.relay_core = self.core(services=[f"app=forward:{join_address(self.server.getsockname())}", "echo=echo"],
                                    log_level="info")
        self.relay_edge = self.edge(self.relay_core, "--route", "alpn=echo,service=echo", "--alpn", "echo",
                                    service="app", log_level="info")
        self.bystander = self.client(self.relay_edge, context=client_context(alpn=["echo"]))

    def send_until_stopped(self, connection, data):
        """Sends as long as anything is taken; the bytes that were taken before nothing moved for a second."""
        connection.setblocking(False)
        sent = 0
        moved = time.monotonic()
        while time.monotonic() - moved < 1:
            _, writable, _ = select.select([], [connection], [], 0.1)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    sent += connection.send(data[:65536])
                    moved = time.monotonic()
            else:
                self.bystander.echo()  # nobody else is stopped
            if sent > 256 * MEGABYTE:
                raise AssertionError("the sender is not stopped")
        return sent

    def test_a_client_that_does_not_read_stops_the_backend(self):
        client = self.client(self.relay_edge, receive_buffer=16384)
        connection = self.accept(self.server)
        before = self.relay_edge.memory(), self.relay_core.memory()
        block = bytes(range(256)) * 256
        sent = self.send_until_stopped(connection, block)
        # All that is under way is in the kernel's buffers, and a window in each program.
        self.assertLess(sent, 32 * MEGABYTE)
        if not sanitized():
            self.assertLess(self.relay_edge.memory() - before[0], 2 * MEGABYTE)
            self.assertLess(self.relay_core.memory() - before[1], 2 * MEGABYTE)
        connection.setblocking(True)
        connection.close()
        data, end = client.read_end()
        self.assertEqual((len(data), end), (sent, "close_notify"))

    def test_a_backend_that_does_not_read_stops_the_client(self):
        client = self.client(self.relay_edge)
        connection = self.accept(self.server)
        sent = 0
        client.socket.setblocking(False)
        moved = time.monotonic()
        ciphertext = memoryview(b"")
        while time.monotonic() - moved < 1:
            if not ciphertext:
                client.tls.write(b"u" * 16384)
                sent += 16384
                ciphertext = memoryview(client.outgoing.read())
            _, writable, _ = select.select([], [client.socket], [], 0.1)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    ciphertext = ciphertext[client.socket.send(ciphertext):]
                    moved = time.monotonic()
            else:
                self.bystander.echo()
            self.assertLess(sent, 32 * MEGABYTE)
        client.socket.setblocking(True)
        client.socket.settimeout(10 * patience())
        received = 0
        connection.setblocking(False)

        def receive():
            nonlocal ciphertext, received
            if ciphertext:
                client.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    ciphertext = ciphertext[client.socket.send(ciphertext):]
                client.socket.setblocking(True)
            with contextlib.suppress(BlockingIOError):
                received += len(connection.recv(MEGABYTE))
            return received == sent
        wait_for(receive, 20, lambda: f"{sent} bytes arrive: {received}")


if __name__ == "__main__":
    harness.main()
