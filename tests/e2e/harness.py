"""What the end-to-end tests share: a PKI for the run, programs that are started and ended by their process ids, logs
that are searched and are shown when a test fails, TLS clients that tell each way in which a connection can end, and
waiting for conditions with a deadline. Nothing here sleeps for a fixed time.

TRUNKLINE_BIN names the directory of the programs under test, TRUNKLINE_SOURCE the source tree.
"""
import atexit
import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = pathlib.Path(os.environ.get("TRUNKLINE_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BIN = pathlib.Path(os.environ.get("TRUNKLINE_BIN", SOURCE / "build" / "bin"))
HERE = pathlib.Path(__file__).resolve().parent

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_CREDENTIALS, EXIT_ADDRESS, EXIT_FORCED = range(6)

SANITIZER = re.compile(r"(ERROR|WARNING): (Address|Leak|Thread|Memory)Sanitizer|runtime error:|LeakSanitizer")
LOG_LINES_SHOWN = 40


@functools.lru_cache(maxsize=None)
def sanitized():
    """The compiler's option for the sanitizers that the programs are built with; "" for none. Such programs are slower
    and larger: bounds of time and memory do not hold for them."""
    program = (BIN / "trunkline-edge").read_bytes()
    if b"__asan_init" in program:
        return "-fsanitize=address,undefined"
    return "-fsanitize=thread" if b"__tsan_init" in program else ""


@functools.lru_cache(maxsize=None)
def patience():
    return 5.0 if sanitized() else 1.0


def wait_for(condition, seconds, what):
    """The first true value of `condition`, which is asked again and again for at most `seconds`."""
    deadline = time.monotonic() + seconds * patience()
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * patience():.0f} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def tool(name):
    """The path of a program that the tests need; a missing one is a failure, as scripts/setup installs them all."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise AssertionError(f"{name} is missing: run scripts/setup")
    return path


def free_port():
    """A port for a program that cannot choose one by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*arguments, check=True, timeout=60, **options):
    """Runs a program to its end; its output is text."""
    done = subprocess.run([str(argument) for argument in arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=options.pop("stdin", subprocess.DEVNULL) if "input" not in options else None,
                          text=True, timeout=timeout * patience(), check=False, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def split_address(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def join_address(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ------------------------------------------------------------------------------------------------ certificates

class Pki:
    """Files of a development PKI by name: pki["edge.crt"]. Further certificates are made on demand."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)

    def __getitem__(self, name):
        return self.directory / name

    def self_signed(self, name, names):
        """A certificate that is its own CA, for the DNS names given: NAME.crt and NAME.key."""
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-keyout", self[f"{name}.key"], "-out", self[f"{name}.crt"], "-subj", f"/CN={names[0]}",
            "-addext", "subjectAltName=" + ",".join(f"DNS:{each}" for each in names))
        return self[f"{name}.crt"], self[f"{name}.key"]

    def client(self, name, authority):
        """NAME.crt and NAME.key, signed by the self-signed certificate `authority`."""
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self[f"{name}.key"], "-out", self[f"{name}.csr"], "-subj", f"/CN={name}")
        run("openssl", "x509", "-req", "-in", self[f"{name}.csr"], "-CA", self[f"{authority}.crt"],
            "-CAkey", self[f"{authority}.key"], "-CAcreateserial", "-days", "2", "-out", self[f"{name}.crt"])
        return self[f"{name}.crt"], self[f"{name}.key"]


def make_pki(name):
    directory = run_directory() / name
    run(SOURCE / "scripts" / "gen-certs", directory)
    return Pki(directory)


@functools.lru_cache(maxsize=None)
def run_directory():
    """The directory of this run, removed at its end."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-e2e-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.lru_cache(maxsize=None)
def pki():
    """The PKI that edge and core of this run share."""
    return make_pki("pki")


@functools.lru_cache(maxsize=None)
def foreign_pki():
    """The same names, signed by a CA that nobody trusts."""
    return make_pki("foreign")


# ------------------------------------------------------------------------------------------------ programs

class Process:
    """A program under the tests' care, with its output in files. Ended in the test's clean-up, whatever happens."""

    def __init__(self, case, name, arguments, directory, environment=None):
        self.case = case
        self.name = name
        self.output = directory / f"{name}.out"
        self.errors = directory / f"{name}.err"
        self.arguments = [str(argument) for argument in arguments]
        with open(self.output, "wb") as output, open(self.errors, "wb") as errors:
            self.popen = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                          cwd=directory, env=environment)
        self.pid = self.popen.pid

    def output_text(self):
        return self.output.read_text(errors="replace")

    def error_text(self):
        return self.errors.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, seconds):
        """The exit code, which must come within the time."""
        try:
            return self.popen.wait(seconds * patience())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {seconds * patience():.0f} s") \
                from None

    def kill(self):
        """kill -9."""
        if self.running():
            self.popen.kill()
        self.popen.wait()

    def finish(self):
        """For clean-up: ends it politely, and for good if that does not help."""
        if self.running():
            self.popen.terminate()
            try:
                self.popen.wait(5 * patience())
            except subprocess.TimeoutExpired:
                self.kill()

    def files(self):
        """How many file descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self):
        """Its proportional set size in bytes."""
        for line in pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no memory figures for {self.name}")

    def wait_output(self, pattern, seconds=10):
        """The match of a regular expression in standard output."""
        def found():
            match = re.search(pattern, self.output_text(), re.MULTILINE)
            if match is None and not self.running():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}: {self.error_text()}")
            return match
        return wait_for(found, seconds, lambda: f"{self.name} prints {pattern!r}; so far: {self.output_text()!r}")


class Program(Process):
    """trunkline-edge or trunkline-core: logs JSON lines, tells where it listens, and ends with a documented code."""

    def __init__(self, case, name, arguments, directory):
        super().__init__(case, name, arguments, directory)
        self.expected_exit = EXIT_OK
        self.checked = False
        self.lines = []
        self.lines_end = 0
        self.addresses = []

    def wait_listening(self, count):
        def listening():
            found = re.findall(r"^listening on (\S+)$", self.output_text(), re.MULTILINE)
            if len(found) < count and not self.running():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}: {self.error_text()}")
            return found if len(found) >= count else None
        found = wait_for(listening, 10, f"{self.name} listens")
        self.addresses = [split_address(text) for text in found]
        return self

    @property
    def address(self):
        return self.addresses[0]

    def log(self):
        """All log lines so far, as dictionaries. Every line must be JSON: anything else is a defect."""
        with open(self.errors, "rb") as file:
            file.seek(self.lines_end)
            fresh = file.read()
        whole = fresh[:fresh.rfind(b"\n") + 1]
        self.lines_end += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                raise AssertionError(f"{self.name} wrote what is no log line: {line}\n{self.error_text()[-4000:]}") \
                    from None
        return self.lines

    def find(self, event, **fields):
        """Log lines of an event whose fields have the values given."""
        return [line for line in self.log()
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items())]

    def wait_log(self, event, count=1, seconds=10, **fields):
        """Log lines of an event, as soon as there are `count`."""
        def logged():
            found = self.find(event, **fields)
            if len(found) < count and not self.running():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode} before it logged {event}")
            return found if len(found) >= count else None
        return wait_for(logged, seconds, f"{self.name} logs {event} {fields or ''} {count} times")

    def stop(self, seconds=15):
        """SIGTERM; the last log line, which holds the totals, once it has ended as it should."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.check(seconds)

    def check(self, seconds=15):
        """It ends by itself, with the code expected and no report of a sanitizer: the line of totals."""
        self.checked = True
        code = self.wait(seconds)
        self.assert_no_report()
        self.case.assertEqual(code, self.expected_exit, f"{self.name}: exit code\n{self.error_text()[-2000:]}")
        self.case.assertTrue(self.find("edge-stopped") or self.find("core-stopped"), f"{self.name} tells its totals")
        totals = self.log()[-1]
        left = {name: value for name, value in totals.items() if name.endswith("_left")}
        self.case.assertEqual((len(left), set(left.values())), (3, {0}), f"{self.name} has let go of all: {left}")
        return totals

    def kill(self):
        super().kill()
        self.checked = True
        self.assert_no_report()

    def assert_no_report(self):
        """No sanitizer has found anything."""
        text = self.error_text()
        report = SANITIZER.search(text)
        if report is not None:
            raise AssertionError(f"{self.name}: a sanitizer's report\n{text[report.start():][:6000]}")

    def finish(self):
        try:
            if not self.checked:
                self.stop()
        finally:
            super().finish()


class Interactive:
    """A program that takes lines and gives lines, on pipes."""

    def __init__(self, case, *arguments):
        self.popen = subprocess.Popen([str(argument) for argument in arguments], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
        case.addCleanup(self.close)

    def send(self, line):
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def read_until(self, pattern):
        """What is printed up to a line that matches."""
        lines = []
        for line in self.popen.stdout:
            lines.append(line.rstrip("\n"))
            if re.search(pattern, line):
                return lines
        raise AssertionError(f"{self.popen.args[0]} ended without a line like {pattern!r}:\n" + "\n".join(lines))

    def finish(self):
        """End of input; the exit code."""
        self.popen.stdin.close()
        self.popen.stdout.read()
        return self.popen.wait(15 * patience())

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self.popen.stdin.close()
        self.popen.stdout.close()


# ------------------------------------------------------------------------------------------------ TLS clients

def client_context(*, alpn=None, lowest=ssl.TLSVersion.TLSv1_2, highest=ssl.TLSVersion.TLSv1_3, certificate=None,
                   authority=None, verify=True):
    """What a TLS client believes and offers; `certificate` is a pair of files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = lowest
    context.maximum_version = highest
    # Until 3.11.3 Python asks OpenSSL 3 to take a FIN without close_notify for a clean end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0x80)
    if verify:
        context.load_verify_locations(authority or pki()["ca.crt"])
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*certificate)
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    return context


def alert_name(error):
    """An ssl.SSLError in capitals, as "TLSV1_ALERT_INTERNAL_ERROR"; for alerts that Python has no name for, OpenSSL's
    text."""
    return error.reason or str(error).split("(_ssl")[0].replace("[SSL]", "").strip().replace(" ", "_").upper()


class Client:
    """A TLS client whose every byte is under control: it can half-close, vanish, reset, send garbage, and it tells how
    the other side ended."""

    def __init__(self, address, *, context=None, server_name="localhost", session=None, timeout=10,
                 receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket.settimeout(timeout * patience())
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self.name = join_address(self.socket.getsockname())
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        context = context or client_context()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name, session=session)

    def flush(self):
        ciphertext = self.outgoing.read()
        if ciphertext:
            self.socket.sendall(ciphertext)

    def feed(self):
        ciphertext = self.socket.recv(262144)
        if ciphertext:
            self.incoming.write(ciphertext)
        else:
            self.incoming.write_eof()

    def carry_out(self, call, *arguments):
        """A TLS operation together with the reading and writing that it needs."""
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                self.feed()
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.flush()  # the alert
                raise
            self.flush()
            return result

    def handshake(self):
        self.carry_out(self.tls.do_handshake)
        return self

    def send(self, data):
        self.tls.write(data)
        self.flush()

    def receive(self, length):
        """Exactly `length` bytes."""
        data = b""
        while len(data) < length:
            part = self.carry_out(self.tls.read, min(length - len(data), 65536))
            if not part:
                raise AssertionError(f"the connection ended after {len(data)} of {length} bytes")
            data += part
        return data

    def echo(self, data=b"are you there?"):
        """Sends and expects the same bytes back, a part at a time so that no window fills up."""
        for start in range(0, len(data), 16384):
            part = data[start:start + 16384]
            self.send(part)
            if self.receive(len(part)) != part:
                raise AssertionError("what came back is not what was sent")

    def half_close(self):
        """close_notify: sends no more, but goes on receiving."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def finish(self, waiting=b""):
        """Sends ciphertext that waits, then close_notify, and reads all the while: what came, and how it ended."""
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                data += self.tls.read(65536)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        waiting = memoryview(bytes(waiting) + self.outgoing.read())
        timeout = self.socket.gettimeout()
        while waiting:
            readable, writable, _ = select.select([self.socket], [self.socket], [], timeout)
            if not readable and not writable:
                raise TimeoutError("the connection neither gives nor takes bytes")
            if readable:
                self.feed()
                with contextlib.suppress(ssl.SSLWantReadError):
                    while True:
                        data += self.tls.read(65536)
            if writable:
                self.socket.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    waiting = waiting[self.socket.send(waiting):]
                self.socket.settimeout(timeout)
        rest, end = self.read_end()
        return data + rest, end

    def read_end(self):
        """What still comes, and how it ends: "close_notify", "truncated", "reset", or an alert's name."""
        data = b""
        while True:
            try:
                part = self.carry_out(self.tls.read, 65536)
            except ssl.SSLZeroReturnError:
                return data, "close_notify"
            except ssl.SSLEOFError:
                return data, "truncated"
            except ssl.SSLError as error:
                return data, alert_name(error)
            except (ConnectionResetError, BrokenPipeError):
                return data, "reset"
            if not part:
                return data, "close_notify"
            data += part

    def close(self):
        """A clean end of both directions: whatever the other side does with its own."""
        if self.socket.fileno() < 0:
            return
        with contextlib.suppress(OSError, ssl.SSLError):
            self.half_close()
            self.read_end()
        self.socket.close()

    def vanish(self):
        """FIN without close_notify."""
        self.socket.close()

    def reset(self):
        """A TCP reset."""
        reset(self.socket)


def reset(connection):
    """Closes a TCP connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def receive_exactly(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise AssertionError(f"the peer ended after {len(data)} of {length} bytes")
        data += part
    return data


def raw_end(connection):
    """All that still comes on a TCP connection, and how it ends: "fin" or "reset"."""
    data = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return data, "reset"
        if not part:
            return data, "fin"
        data += part


# ------------------------------------------------------------------------------------------------ tests

class Case(unittest.TestCase):
    """A test with a directory of its own, and with every process that it starts ended after it."""

    maxDiff = None
    observed = False  # its tests look into /proc/PID for memory and files

    def run(self, result=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=self._testMethodName[:40] + "-", dir=run_directory()))
        self.processes = []
        self.addCleanup(self.end_processes)  # after all clients and sockets, which are cleaned up before
        bad = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > bad:
            self.show_logs()
        shutil.rmtree(self.directory, ignore_errors=True)
        return result

    def show_logs(self):
        for process in self.processes:
            for kind, text in (("stdout", process.output_text()), ("stderr", process.error_text())):
                lines = text.splitlines()[-LOG_LINES_SHOWN:]
                if lines:
                    print(f"--- {self._testMethodName}: {process.name} {kind}", *lines, sep="\n", file=sys.stderr)

    def end_processes(self):
        """Edges first, so that cores have no sessions left; then the others. Each must end as it should."""
        faults = []
        order = {"trunkline-edge": 0, "trunkline-core": 1}
        for process in sorted(reversed(self.processes),
                              key=lambda each: order.get(pathlib.Path(each.arguments[0]).name, 2)):
            try:
                process.finish()
            except AssertionError as fault:
                faults.append(str(fault))
        if faults:
            raise AssertionError("\n".join(faults))

    def start(self, name, *arguments, environment=None):
        """Any other program that a test needs."""
        process = Process(self, name, arguments, self.directory, environment)
        self.processes.append(process)
        return process

    def program(self, program, name, defaults, options, listens):
        options = [str(option) for option in options]
        if self.observed and os.geteuid() != 0:
            defaults.append(("--sandbox", "off"))  # in the sandbox only root sees such things
        arguments = [BIN / program]
        for option, value in defaults:
            if option not in options:
                arguments += [option, value]
        process = Program(self, name, arguments + options, self.directory)
        self.processes.append(process)
        return process.wait_listening(listens)

    def core(self, *options, name="core", services=("echo=echo",), listens=1, log_level="debug"):
        """A running trunkline-core; an option given replaces the default of the same name."""
        defaults = [("--listen", "127.0.0.1:0"), ("--certificate", pki()["core.crt"]), ("--key", pki()["core.key"]),
                    ("--client-ca", pki()["ca.crt"]), ("--workers", 2), ("--log-format", "json"),
                    ("--log-level", log_level), ("--drain-timeout", "5s")]
        for service in services:
            options += ("--service", service)
        return self.program("trunkline-core", name, defaults, options, listens)

    def edge(self, cores, *options, name="edge", service="echo", listens=1, log_level="debug", trunks_up=2):
        """A running trunkline-edge, as soon as `trunks_up` trunks are up."""
        addresses = [core if isinstance(core, tuple) else core.address
                     for core in (cores if isinstance(cores, list) else [cores])]
        for address in addresses:
            options += ("--core", join_address(address))
        if service is not None:
            options += ("--service", service)
        defaults = [("--listen", "127.0.0.1:0"), ("--certificate", pki()["edge.crt"]), ("--key", pki()["edge.key"]),
                    ("--core-ca", pki()["ca.crt"]), ("--trunk-certificate", pki()["trunk.crt"]),
                    ("--trunk-key", pki()["trunk.key"]), ("--workers", 2), ("--trunks", 1), ("--log-format", "json"),
                    ("--log-level", log_level), ("--drain-timeout", "5s"), ("--reconnect-max", "500ms")]
        edge = self.program("trunkline-edge", name, defaults, options, listens)
        if trunks_up > 0:
            edge.wait_log("trunk-up", count=trunks_up)
        return edge

    def client(self, edge, **options):
        """A TLS client of an edge whose handshake is complete."""
        client = Client(edge if isinstance(edge, tuple) else edge.address, **options)
        self.addCleanup(client.close)
        return client.handshake()

    def tcp(self, address, timeout=10):
        connection = socket.create_connection(address, timeout * patience())
        self.addCleanup(connection.close)
        return connection

    def backend(self):
        """A listening socket on loopback for the forward handler; `accept` gives its connections."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.settimeout(10 * patience())
        self.addCleanup(listener.close)
        return listener

    def accept(self, listener):
        connection, _ = listener.accept()
        connection.settimeout(10 * patience())
        self.addCleanup(connection.close)
        return connection

    def assert_not_clean(self, end):
        """The client could tell that its connection was cut."""
        self.assertNotEqual(end, "close_notify", "a cut connection looks like a clean end")


def raise_files():
    """As many open files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def own_network():
    """Loopback of this run's own, where it may be had: a port that one test has just let go, and that its clients or edges
    still call, is never one that a test beside it has just been given."""
    new_network, get_flags, set_flags, up = 0x40000000, 0x8913, 0x8914, 1  # linux/sched.h, linux/sockios.h, linux/if.h
    if ctypes.CDLL(None, use_errno=True).unshare(new_network) != 0:
        return  # for root only; the ports are then shared with all others
    with socket.socket() as any_socket:
        request = bytearray(struct.pack("16sh14x", b"lo", 0))
        fcntl.ioctl(any_socket, get_flags, request)
        flags, = struct.unpack_from("h", request, 16)
        struct.pack_into("h", request, 16, flags | up)
        fcntl.ioctl(any_socket, set_flags, request)


def main():
    """Runs the tests of the calling module. A skipped test fails the run, unless the platform is the reason."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that clean-up takes place
    own_network()
    raise_files()
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    failed = not program.result.wasSuccessful()
    for test, reason in program.result.skipped:
        if not reason.startswith("platform:"):
            print(f"skipped without need: {test}: {reason}", file=sys.stderr)
            failed = True
    sys.exit(1 if failed or program.result.testsRun == 0 else 0)
