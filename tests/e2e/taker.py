"""Speaks what a new process of the edge speaks when it takes over (edge/takeover_format.h), as far as one wants it to: for
tests and benchmarks of what the running process does when the new one stops at any point."""
import os
import socket
import struct

HELLO, REFUSE, WELCOME, READY, WORKER, CLIENTS, END, PREPARED, COMMIT, COMMITTED, TAKEN_BACK, DONE = range(1, 13)
VERSION = 1


TRUNK_NAME = "edge"  # of the development PKI's trunk certificate


class Taker:
    def __init__(self, path, timeout):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.sockets = []

    def close(self):
        self.socket.close()
        for fd in self.sockets:
            os.close(fd)
        self.sockets = []

    def send(self, message, body=b""):
        self.socket.sendall(struct.pack(">BBHI", message, 0, 0, len(body)) + body)

    def receive(self):
        """A message and its body; (None, b"") at the end."""
        header, fds, _, _ = socket.recv_fds(self.socket, 8, 128)
        self.sockets += fds
        if not header:
            return None, b""
        message, _, _, length = struct.unpack(">BBHI", header)
        body = bytearray()
        while len(body) < length:
            part = self.socket.recv(length - len(body))
            if not part:
                return None, b""
            body += part
        return message, bytes(body)

    def expect(self, message):
        """The body of the next message, which must be this one."""
        got, body = self.receive()
        if got != message:
            raise AssertionError(f"message {got}, not {message}: {body[:200]!r}")
        return body

    def hello(self, core, workers=2, oldest=VERSION, newest=VERSION, name=TRUNK_NAME, resumes=1):
        def text(value):
            return struct.pack(">I", len(value)) + value.encode()
        self.send(HELLO, struct.pack(">IHHIB", 0x54726b54, oldest, newest, workers, resumes) + text(name) +
                  struct.pack(">H", 1) + text(core))

    def ready(self, workers=2):
        """One listener, one core, and a trunk of each worker."""
        self.send(READY, struct.pack(">HH", 1, 0) + struct.pack(">I", workers) + b"\1" * workers)

    def take_all(self):
        """The number of clients, when all have come."""
        while True:
            message, body = self.receive()
            if message == END:
                return struct.unpack(">Q", body)[0]
            if message not in (WORKER, CLIENTS):
                raise AssertionError(f"message {message}, not more clients: {body[:200]!r}")

    def go_to(self, core, last, workers=2):
        """As far as the message `last` is sent or received; from WORKER on the clients stand still."""
        self.hello(core, workers)
        if last == HELLO:
            return
        self.expect(WELCOME)
        if last == WELCOME:
            return
        self.ready(workers)
        if last == READY:
            return
        self.expect(WORKER)
        if last == WORKER:
            return
        clients = self.take_all()
        if last == END:
            return
        self.send(PREPARED, struct.pack(">Q", clients))
        if last == PREPARED:
            return
        self.expect(COMMIT)
