"""Probes of the handshake behind the ClientHello's contents, one per demand on a server: records, their order, messages
that do not belong, change_cipher_spec, Finished, early data. Entries as in probes_hello."""
import os

import tls_probe as t
from probes_hello import (BAD_MAC, DECODE, DECRYPT, FAILURE, ILLEGAL, OVERFLOW, SERVED, UNEXPECTED, VERSION, flip, register,
                          ticket)
from tls_probe import hello_12, hello_13, message, number, numbers, plain, vector

FIRST = []  # before and within the ClientHello
FLIGHT_13 = []  # from the server's flight to the client's Finished
FLIGHT_12 = []
EARLY = []
QUIET = None  # the server ends the connection without an alert

BOTH = (("TLS 1.3", hello_13), ("TLS 1.2", hello_12))


def add(table, name, expected):
    def decorate(act):
        table.append((name, expected, act))
        return act
    return decorate


# ---- before the ClientHello is complete

def pieces(data, size, version=0x0301):
    return b"".join(plain(t.HANDSHAKE, data[i:i + size], version) for i in range(0, len(data), size))


def serve_rest(p):
    if p.server_hello()["version"] == 0x0304:
        p.flight_13().finish_13()
    else:
        p.flight_12().finish_12()
    p.echo()


def first_records():
    for kind in list(range(0, 22)) + [23, 24, 25, 64, 127, 128, 255]:
        if kind != t.ALERT:
            add(FIRST, f"the first record is of type {kind}", (UNEXPECTED,))(
                lambda p, kind=kind: p.send(number(kind, 1) + plain(22, hello_13().message(), 0x0301)[1:]))
    for version in (0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x0305, 0x03ff):
        for label, make in BOTH:
            def act(p, version=version, make=make):
                p.start(make(), version)
                serve_rest(p)
            add(FIRST, f"a first record of version {version:#06x}, {label}", SERVED)(act)
    for version in (0x0000, 0x0200, 0x0403, 0xfefd, 0xffff):
        add(FIRST, f"a first record of version {version:#06x}", (UNEXPECTED, VERSION))(
            lambda p, version=version: p.start(hello_13(), version))
    for length in (16385, 16386, 16640, 18432, 18433, 65535):
        add(FIRST, f"a first record of {length} bytes", (OVERFLOW,))(
            lambda p, length=length: p.send(number(t.HANDSHAKE, 1) + b"\3\1" + number(length, 2) + b"\1\0\xff\0"))
    for kind, name in ((t.HANDSHAKE, "handshake"), (t.CCS, "change_cipher_spec"), (t.DATA, "data"), (t.ALERT, "alert")):
        add(FIRST, f"an empty {name} record first", (UNEXPECTED, DECODE))(
            lambda p, kind=kind: (p.send(plain(kind, b"")), p.start(hello_13())))
    add(FIRST, "change_cipher_spec first", (UNEXPECTED,))(lambda p: (p.send(plain(t.CCS, b"\1")), p.start(hello_13())))
    add(FIRST, "data first", (UNEXPECTED,))(lambda p: p.send(plain(t.DATA, b"hello")))
    add(FIRST, "a fatal alert first", (UNEXPECTED,))(lambda p: p.send(plain(t.ALERT, b"\2\x28")))
    add(FIRST, "close_notify first", (UNEXPECTED,))(lambda p: p.send(plain(t.ALERT, b"\1\0")))
    add(FIRST, "half an alert first", (UNEXPECTED, DECODE))(lambda p: (p.send(plain(t.ALERT, b"\2")), p.start(hello_13())))
    add(FIRST, "a flood of warning alerts first", (UNEXPECTED,))(lambda p: p.send(plain(t.ALERT, b"\1\x5a") * 200))
    for kind in list(range(0, 26)) + [67, 254, 255]:
        if kind != t.CLIENT_HELLO:
            add(FIRST, f"the first message is of type {kind}", (UNEXPECTED,))(
                lambda p, kind=kind: p.send(plain(t.HANDSHAKE, message(kind, hello_13().body()))))
    add(FIRST, "an SSL 2 hello", (UNEXPECTED, VERSION, FAILURE))(
        lambda p: p.send(bytes.fromhex("802e0103030015000000100000") + b"\0\x2f\0\x35\0\x0a\0" * 3 + os.urandom(16)))
    add(FIRST, "a request of HTTP", (UNEXPECTED,))(lambda p: p.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    add(FIRST, "a message that announces 16 MB", (DECODE, ILLEGAL, OVERFLOW, FAILURE, UNEXPECTED))(
        lambda p: p.send(plain(t.HANDSHAKE, b"\1\xff\xff\xff" + hello_13().body())))


def fragments():
    for label, make in BOTH:
        for size in (1, 2, 3, 4, 5, 16, 64, 100):
            def act(p, size=size, make=make):
                h = make()
                p.begin(h)
                p.send(pieces(h.message(), size))
                serve_rest(p)
            add(FIRST, f"a ClientHello in records of {size} bytes, {label}", SERVED)(act)

        def slowly(p, make=make):
            h = make()
            p.begin(h)
            for byte in plain(t.HANDSHAKE, h.message(), 0x0301):
                p.send(bytes([byte]))
            serve_rest(p)
        add(FIRST, f"a ClientHello in packets of 1 byte, {label}", SERVED)(slowly)
        for total in (16384, 16389, 20000, 32768, 40000, 65536):
            def long(p, make=make, total=total):
                h = make()
                h.set(t.PADDING, bytes(total - len(h.message()) - 4))
                p.start(h)
                serve_rest(p)
            add(FIRST, f"a ClientHello of {total} bytes, {label}", SERVED)(long)

        def largest(p, make=make):
            h = make()
            h.suites = numbers(range(0x6000, 0x6000 + 32767 - len(h.suites) // 2)) + h.suites
            h.session = os.urandom(32)
            h.set(t.PADDING, b"")
            h.set(t.PADDING, bytes(65535 - sum(4 + len(body) for _, body in h.extensions)))
            p.start(h)
            serve_rest(p)
        add(FIRST, f"the largest ClientHello, {label}", SERVED)(largest)

        def change(p, make=make):
            h = make()
            p.begin(h)
            whole = h.message()
            p.send(plain(t.HANDSHAKE, whole[:30], 0x0300), plain(t.HANDSHAKE, whole[30:], 0x0303))
            serve_rest(p)
        add(FIRST, f"fragments whose versions differ, {label}", SERVED)(change)
        for what, between, expected in (
                ("an empty handshake record", plain(t.HANDSHAKE, b""), (UNEXPECTED, DECODE)),
                ("change_cipher_spec", plain(t.CCS, b"\1"), (UNEXPECTED,)), ("data", plain(t.DATA, b"x"), (UNEXPECTED,)),
                ("empty data", plain(t.DATA, b""), (UNEXPECTED,)), ("a record of type 99", plain(99, b"x"), (UNEXPECTED,)),
                ("a warning alert", plain(t.ALERT, b"\1\x5a"), (UNEXPECTED,)),
                ("a fatal alert", plain(t.ALERT, b"\2\x28"), QUIET), ("close_notify", plain(t.ALERT, b"\1\0"), QUIET)):
            for at in (2, 60):
                add(FIRST, f"{what} within a ClientHello, after {at} bytes, {label}", expected)(
                    lambda p, make=make, between=between, at=at: p.send(
                        pieces(make().message()[:at], 100), between, pieces(make().message()[at:], 100)))
        for what, more in (("another ClientHello", lambda make: make().message()), ("Finished", lambda make: message(20, bytes(32))),
                           ("half a message", lambda make: b"\x14\0\0"), ("one byte", lambda make: b"\x14")):
            add(FIRST, f"{what} in the ClientHello's record, {label}", (UNEXPECTED,))(
                lambda p, make=make, more=more: p.send(plain(t.HANDSHAKE, make().message() + more(make), 0x0301)))
    def repeated(p):
        h = hello_13()
        p.begin(h)
        p.send(plain(t.HANDSHAKE, h.message()) * 2)
        p.server_hello()
        p.flight_13()
    add(FIRST, "two ClientHellos, TLS 1.3", (UNEXPECTED,))(repeated)
    add(FIRST, "two ClientHellos, TLS 1.2", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, hello_12().message()) * 2))


# ---- TLS 1.3: where the client's Finished is due

def at_finished(name, expected, hello=hello_13):
    """The action starts under the handshake keys."""
    def decorate(act):
        def whole(p):
            p.until_flight(hello())
            act(p)
            if expected == SERVED and not p.established:
                p.finish_13()
            if expected == SERVED:
                p.echo()
        FLIGHT_13.append((name, expected, whole))
        return act
    return decorate


def finished_13():
    for name, change, expected in (
            ("wrong in its last byte", flip, (DECRYPT,)), ("wrong in its first byte", lambda b: flip(b, 4), (DECRYPT,)),
            ("of zeros", lambda b: message(20, bytes(32)), (DECRYPT,)), ("cut by a byte", lambda b: message(20, b[4:-1]), (DECODE, DECRYPT)),
            ("empty", lambda b: message(20, b""), (DECODE, DECRYPT)), ("longer by a byte", lambda b: message(20, b[4:] + b"\0"), (DECODE, DECRYPT)),
            ("of 4,000 bytes", lambda b: message(20, b[4:] + bytes(4000)), (DECODE, DECRYPT)),
            ("of 48 bytes with SHA-256", lambda b: message(20, bytes(48)), (DECODE, DECRYPT))):
        at_finished(f"Finished that is {name}", expected)(
            lambda p, change=change: p.put(t.HANDSHAKE, change(p.finished_13())))
    for name, more in (("a byte", b"\x18"), ("a KeyUpdate", message(24, b"\0")), ("another Finished", message(20, bytes(32)))):
        at_finished(f"{name} behind Finished in its record", (UNEXPECTED,))(
            lambda p, more=more: p.put(t.HANDSHAKE, p.finished_13() + more))
    for size in (1, 2, 4, 5, 20):
        def split(p, size=size):
            whole = p.finished_13()
            p.send(*(p.seal(t.HANDSHAKE, whole[i:i + size]) for i in range(0, len(whole), size)))
            p.open_13()
        at_finished(f"Finished in records of {size} bytes", SERVED)(split)
    for zeros in (1, 100, 16384 - 36):
        def padded(p, zeros=zeros):
            p.put(t.HANDSHAKE, p.finished_13(), zeros=zeros)
            p.open_13()
        at_finished(f"Finished with {zeros} bytes of padding", SERVED)(padded)
    at_finished("Finished with padding beyond a record", (OVERFLOW,))(
        lambda p: p.put(t.HANDSHAKE, p.finished_13(), zeros=16384 - 35 + 1))
    at_finished("Finished in clear", (UNEXPECTED, BAD_MAC))(lambda p: p.send(plain(t.HANDSHAKE, p.finished_13())))
    at_finished("Finished as data", (UNEXPECTED,))(lambda p: p.put(t.DATA, p.finished_13()))
    at_finished("Finished under the application keys", (BAD_MAC,))(
        lambda p: p.send(t.Protection(p.server["suite"], True, p.secrets[0]).seal(t.HANDSHAKE, p.finished_13())))

    def together(p):
        finished = p.seal(t.HANDSHAKE, p.finished_13())
        p.open_13()
        p.send(plain(t.CCS, b"\1"), finished, p.seal(t.DATA, b"at once"))
        t.need(p.receive(7) == b"at once", "echo")
    at_finished("data in one packet with Finished", SERVED)(together)

    def closed(p):
        finished = p.seal(t.HANDSHAKE, p.finished_13())
        p.open_13()
        p.send(finished, p.seal(t.DATA, b"at once"), p.seal(t.ALERT, b"\1\0"))
        t.need(p.receive(7) == b"at once" and p.end() == "close_notify", "echo and the end")
        raise t.Ended("fin")
    FLIGHT_13.append(("data and close_notify in one packet with Finished", QUIET, lambda p: closed(p.until_flight())))


def messages_13():
    for kind in list(range(0, 26)) + [67, 254, 255]:
        if kind not in (t.FINISHED, t.CERTIFICATE):
            at_finished(f"a message of type {kind} instead of Finished", (UNEXPECTED,))(
                lambda p, kind=kind: p.put(t.HANDSHAKE, message(kind, b"\0")))
    at_finished("a certificate that nobody asked for", (UNEXPECTED,))(
        lambda p: p.put(t.HANDSHAKE, message(t.CERTIFICATE, b"\0\0\0\0")))
    at_finished("a KeyUpdate before Finished", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, message(t.KEY_UPDATE, b"\1")))
    at_finished("another ClientHello before Finished", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, hello_13().message()))
    at_finished("another ClientHello in clear before Finished", (UNEXPECTED, BAD_MAC))(
        lambda p: p.send(plain(t.HANDSHAKE, hello_13().message())))
    at_finished("EndOfEarlyData without early data", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, message(5, b"")))
    at_finished("data before Finished", (UNEXPECTED,))(lambda p: p.put(t.DATA, b"hello"))
    at_finished("empty data before Finished", (UNEXPECTED,))(lambda p: p.put(t.DATA, b""))
    at_finished("data in clear before Finished", (UNEXPECTED, BAD_MAC))(lambda p: p.send(plain(t.DATA, b"hello, this is data")))
    at_finished("an empty handshake record before Finished", (UNEXPECTED, DECODE))(lambda p: p.put(t.HANDSHAKE, b""))
    at_finished("an empty handshake record with padding before Finished", (UNEXPECTED, DECODE))(
        lambda p: p.put(t.HANDSHAKE, b"", zeros=10))
    at_finished("an empty alert before Finished", (UNEXPECTED, DECODE))(lambda p: p.put(t.ALERT, b""))
    at_finished("half an alert before Finished", (UNEXPECTED, DECODE))(lambda p: p.put(t.ALERT, b"\2"))
    at_finished("two alerts in one record before Finished", (UNEXPECTED, DECODE, "ended fin"))(
        lambda p: p.put(t.ALERT, b"\1\x5a\1\x5a"))
    # unexpected_message is due; GnuTLS cannot tell the two from a broken record (see docs/THREATS.md, deviations).
    at_finished("a record without a content type", (BAD_MAC,))(lambda p: p.put(None, b""))
    at_finished("a record of nothing but zeros", (BAD_MAC,))(lambda p: p.put(None, bytes(100)))
    for kind in (1, 19, 24, 25, 99, 255):
        at_finished(f"an inner content type of {kind}", (UNEXPECTED,))(lambda p, kind=kind: p.put(kind, b"\1"))
    for kind in (0, 19, 24, 25, 99, 255):
        at_finished(f"an outer content type of {kind}", (UNEXPECTED,))(
            lambda p, kind=kind: p.put(t.HANDSHAKE, p.finished_13(), outer=kind))
    at_finished("an outer content type of handshake", (UNEXPECTED, BAD_MAC))(
        lambda p: p.put(t.HANDSHAKE, p.finished_13(), outer=t.HANDSHAKE))
    for at in (5, 20, -1):
        at_finished(f"a record that was changed at {at}", (BAD_MAC,))(
            lambda p, at=at: p.send(flip(p.seal(t.HANDSHAKE, p.finished_13()), at)))
    for length in (1, 15, 16):
        at_finished(f"a record of {length} bytes under keys", (BAD_MAC, DECODE, UNEXPECTED))(
            lambda p, length=length: p.send(plain(t.DATA, bytes(length))))
    at_finished("an empty record under keys", (BAD_MAC, DECODE, UNEXPECTED))(lambda p: p.send(plain(t.DATA, b"")))
    for length in (16384 + 257, 18432, 65535):
        at_finished(f"a record that announces {length} bytes under keys", (OVERFLOW,))(
            lambda p, length=length: p.send(number(t.DATA, 1) + b"\3\3" + number(length, 2) + bytes(100)))
    at_finished("a fatal alert before Finished", QUIET)(lambda p: p.put(t.ALERT, b"\2\x28"))
    at_finished("a fatal alert of level warning before Finished", QUIET)(lambda p: p.put(t.ALERT, b"\1\x28"))
    at_finished("close_notify before Finished", QUIET)(lambda p: p.put(t.ALERT, b"\1\0"))
    at_finished("user_canceled and close_notify before Finished", QUIET)(
        lambda p: p.send(p.seal(t.ALERT, b"\1\x5a"), p.seal(t.ALERT, b"\1\0")))
    at_finished("a flood of user_canceled before Finished", (UNEXPECTED, "ended fin"))(
        lambda p: p.send(*(p.seal(t.ALERT, b"\1\x5a") for _ in range(300))))
    at_finished("an alert in clear before Finished", QUIET)(lambda p: p.send(plain(t.ALERT, b"\2\x28")))
    at_finished("a longer alert in clear before Finished", (DECODE,))(lambda p: p.send(plain(t.ALERT, b"\2\x28\0")))

    def damaged(p):
        p.send(p.seal(t.HANDSHAKE, p.finished_13()[:16]), plain(t.DATA, os.urandom(64)))
    at_finished("a record that cannot be decrypted within Finished", (BAD_MAC,))(damaged)


def change_cipher_specs():
    one = plain(t.CCS, b"\1")

    def with_ccs(name, expected, before, between=b"", compatible=False):
        def act(p):
            p.compatible = compatible
            finished = p.seal(t.HANDSHAKE, p.finished_13()[:9]) if between else b""
            rest = p.seal(t.HANDSHAKE, p.finished_13()[9 if between else 0:])
            p.send(before, finished, between, rest)
            p.open_13()
        at_finished(name, expected)(act)
    with_ccs("no change_cipher_spec", SERVED, b"")
    with_ccs("change_cipher_spec before Finished", SERVED, one)
    with_ccs("two change_cipher_spec before Finished", SERVED, one * 2)
    with_ccs("ten change_cipher_spec before Finished", SERVED, one * 10)
    with_ccs("change_cipher_spec of record version 1.0", SERVED, plain(t.CCS, b"\1", 0x0301))
    with_ccs("a flood of change_cipher_spec before Finished", (UNEXPECTED,), one * 5000)
    for name, body in (("of value 0", b"\0"), ("of value 2", b"\2"), ("of two bytes", b"\1\1"), ("that is empty", b"")):
        with_ccs(f"change_cipher_spec {name}", (UNEXPECTED, ILLEGAL, DECODE), plain(t.CCS, body))
    at_finished("an encrypted change_cipher_spec", (UNEXPECTED,))(lambda p: p.put(t.CCS, b"\1"))
    at_finished("change_cipher_spec of 16,384 bytes", (UNEXPECTED, ILLEGAL, DECODE))(
        lambda p: p.send(plain(t.CCS, b"\1" * 16384)))

    def at_once(p):
        h = hello_13()
        p.begin(h)
        p.send(plain(t.HANDSHAKE, h.message(), 0x0301), one)
        p.server_hello()
        p.compatible = False
        p.flight_13().finish_13().echo()
    FLIGHT_13.append(("change_cipher_spec right behind the ClientHello", SERVED, at_once))

    def retried(p):
        p.start(hello_13(offered=())).server_hello()
        p.compatible = False
        p.send(one * 3)
        p.retry()
        p.server_hello()
        p.flight_13()
        p.send(one)
        p.finish_13().echo()
    FLIGHT_13.append(("change_cipher_spec around both ClientHellos", SERVED, retried))


# ---- TLS 1.2

def at_exchange(name, expected, make=hello_12):
    """The action starts where ClientKeyExchange is due."""
    def decorate(act):
        def whole(p):
            p.until_flight(make())
            act(p)
            if expected == SERVED:
                p.echo()
        FLIGHT_12.append((name, expected, whole))
        return act
    return decorate


def exchanges():
    good = t.public_of(t.key_of(t.P256))
    for name, group, body, expected in (
            ("no body", 29, b"", (DECODE, ILLEGAL)), ("an empty share", 29, b"\0", (DECODE, ILLEGAL)),
            ("a share of zero", 29, vector(1, bytes(32)), (ILLEGAL, FAILURE)), ("31 bytes", 29, vector(1, b"\t" * 31), (ILLEGAL, DECODE)),
            ("33 bytes", 29, vector(1, b"\t" * 33), (ILLEGAL, DECODE)), ("more announced", 29, b"\x21" + b"\t" * 32, (DECODE, ILLEGAL)),
            ("less announced", 29, b"\x1f" + b"\t" * 32, (DECODE,)), ("trailing bytes", 29, vector(1, b"\t" * 32) + b"\0", (DECODE, ILLEGAL)),
            ("a point of small order", 29, vector(1, b"\1" + bytes(31)), (ILLEGAL, FAILURE)),
            ("a point off the curve", 23, vector(1, flip(good)), (ILLEGAL,)), ("zero", 23, vector(1, b"\4" + bytes(64)), (ILLEGAL,)),
            ("a compressed point", 23, vector(1, b"\2" + good[1:33]), (ILLEGAL, DECODE)), ("infinity", 23, vector(1, b"\0"), (ILLEGAL, DECODE)),
            ("a cut point", 23, vector(1, good[:-1]), (ILLEGAL, DECODE)), ("a longer point", 23, vector(1, good + b"\0"), (ILLEGAL, DECODE)),
            ("a hybrid point", 23, vector(1, bytes([6 + (good[-1] & 1)]) + good[1:]), (ILLEGAL, DECODE)),
            ("a point of P-384", 23, vector(1, t.public_of(t.key_of(24))), (ILLEGAL, DECODE))):
        at_exchange(f"ClientKeyExchange, group {group}: {name}", expected, lambda group=group: hello_12(groups=(group,)))(
            lambda p, body=body: p.send(plain(t.HANDSHAKE, message(t.CLIENT_KEY_EXCHANGE, body))))


def order_12():
    one = plain(t.CCS, b"\1")

    def sealed(p, kind, data):
        p.exchange = p.exchange_12()
        p.writing = p.ready[0]
        return p.seal(kind, data)
    at_exchange("change_cipher_spec before ClientKeyExchange", (UNEXPECTED,))(lambda p: p.send(one))
    at_exchange("Finished in clear instead of ClientKeyExchange", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, message(20, bytes(12)))))
    at_exchange("Finished in clear without change_cipher_spec", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), plain(t.HANDSHAKE, p.finished_12())))
    at_exchange("an encrypted Finished without change_cipher_spec", (UNEXPECTED, BAD_MAC, DECODE))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), p.ready[0].seal(t.HANDSHAKE, p.finished_12())))
    at_exchange("Finished in clear after change_cipher_spec", (BAD_MAC, UNEXPECTED, DECODE))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), one, plain(t.HANDSHAKE, p.finished_12())))
    at_exchange("two ClientKeyExchanges", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()) * 2))
    at_exchange("two ClientKeyExchanges in one record", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12() * 2)))
    at_exchange("change_cipher_spec twice", (UNEXPECTED, BAD_MAC))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), one, one))
    for name, body in (("of value 0", b"\0"), ("of value 2", b"\2"), ("of two bytes", b"\1\1"), ("that is empty", b"")):
        at_exchange(f"change_cipher_spec {name}", (UNEXPECTED, ILLEGAL, DECODE))(
            lambda p, body=body: p.send(plain(t.HANDSHAKE, p.exchange_12()), plain(t.CCS, body)))
    for kind in list(range(0, 26)) + [67, 254, 255]:
        if kind != t.CLIENT_KEY_EXCHANGE:
            at_exchange(f"a message of type {kind} instead of ClientKeyExchange", (UNEXPECTED,))(
                lambda p, kind=kind: p.send(plain(t.HANDSHAKE, message(kind, b"\0\0\0"))))
    for kind in list(range(0, 26)) + [67, 254, 255]:
        if kind != t.FINISHED:
            def instead(p, kind=kind):
                p.send(plain(t.HANDSHAKE, p.exchange_12()), one, p.ready[0].seal(t.HANDSHAKE, message(kind, bytes(12))))
            at_exchange(f"a message of type {kind} instead of Finished", (UNEXPECTED,))(instead)
    at_exchange("another ClientHello instead of ClientKeyExchange", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, hello_12().message())))
    at_exchange("data before Finished", (UNEXPECTED,))(lambda p: p.send(plain(t.DATA, b"hello")))
    at_exchange("empty data before Finished", (UNEXPECTED,))(lambda p: p.send(plain(t.DATA, b"")))
    at_exchange("data under keys before Finished", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), one, p.ready[0].seal(t.DATA, b"hello")))
    at_exchange("empty data under keys before Finished", (UNEXPECTED,))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12()), one, p.ready[0].seal(t.DATA, b"")))
    at_exchange("an empty handshake record", (UNEXPECTED, DECODE))(lambda p: p.send(plain(t.HANDSHAKE, b"")))
    at_exchange("a record of type 24", (UNEXPECTED,))(lambda p: p.send(plain(24, b"\1\0\1x")))
    at_exchange("a record of 16,385 bytes", (OVERFLOW,))(
        lambda p: p.send(number(t.HANDSHAKE, 1) + b"\3\3" + number(16385, 2) + bytes(100)))
    at_exchange("a record of version 0x0200", (VERSION, UNEXPECTED, DECODE))(
        lambda p: p.send(plain(t.HANDSHAKE, p.exchange_12(), 0x0200)))
    at_exchange("a fatal alert", QUIET)(lambda p: p.send(plain(t.ALERT, b"\2\x28")))
    at_exchange("close_notify", QUIET)(lambda p: p.send(plain(t.ALERT, b"\1\0")))
    at_exchange("a flood of warning alerts", (UNEXPECTED,))(lambda p: p.send(plain(t.ALERT, b"\1\x64") * 200))
    at_exchange("change_cipher_spec within ClientKeyExchange", (UNEXPECTED,))(
        lambda p: (p.exchange_12(), p.send(plain(t.HANDSHAKE, message(16, bytes(33))[:10]), one)))
    at_exchange("half of Finished, change_cipher_spec, and the other half", (UNEXPECTED, BAD_MAC))(lambda p: (
        p.send(plain(t.HANDSHAKE, p.exchange_12()), plain(t.HANDSHAKE, p.finished_12()[:6]), one,
               p.ready[0].seal(t.HANDSHAKE, p.finished_12()[6:]))))


def finished_12():
    one = plain(t.CCS, b"\1")

    def send(p, make, **options):
        p.send(plain(t.HANDSHAKE, p.exchange_12()), one, make(p.ready[0], p.finished_12()))
    for name, change, expected in (
            ("wrong in its last byte", flip, (DECRYPT,)), ("wrong in its first byte", lambda b: flip(b, 4), (DECRYPT,)),
            ("cut by a byte", lambda b: message(20, b[4:-1]), (DECODE,)), ("empty", lambda b: message(20, b""), (DECODE,)),
            ("longer by a byte", lambda b: message(20, b[4:] + b"\0"), (DECODE,)),
            ("of 4,000 bytes", lambda b: message(20, b[4:] + bytes(4000)), (DECODE,)),
            ("followed by a byte", lambda b: b + b"\0", (UNEXPECTED, DECODE)),
            ("followed by another", lambda b: b + b, (UNEXPECTED,))):
        at_exchange(f"Finished that is {name}", expected)(
            lambda p, change=change: send(p, lambda keys, b: keys.seal(t.HANDSHAKE, change(b))))
    for at in (5, 20, -1):
        at_exchange(f"a Finished whose record was changed at {at}", (BAD_MAC,))(
            lambda p, at=at: send(p, lambda keys, b: flip(keys.seal(t.HANDSHAKE, b), at)))
    at_exchange("Finished as an alert", (UNEXPECTED, DECODE, BAD_MAC, "ended fin"))(
        lambda p: send(p, lambda keys, b: keys.seal(t.ALERT, b)))
    for length in (0, 1, 8, 23):
        at_exchange(f"a record of {length} bytes under keys", (BAD_MAC, DECODE, UNEXPECTED))(
            lambda p, length=length: send(p, lambda keys, b: plain(t.HANDSHAKE, bytes(length))))
    at_exchange("a record that announces 2^14 + 2049 bytes", (OVERFLOW,))(
        lambda p: send(p, lambda keys, b: number(t.HANDSHAKE, 1) + b"\3\3" + number(16384 + 2049, 2) + bytes(100)))

    def split(p, size):
        exchange = p.exchange_12()
        finished = p.finished_12()
        p.writing = p.ready[0]
        p.send(pieces(exchange, size, 0x0303), one,
               *(p.seal(t.HANDSHAKE, finished[i:i + size]) for i in range(0, len(finished), size)))
        p.transcript += finished
        p.open_12()
    for size in (1, 2, 5, 15):
        at_exchange(f"ClientKeyExchange and Finished in records of {size} bytes", SERVED)(
            lambda p, size=size: split(p, size))

    def together(p):
        exchange = p.exchange_12()
        finished = p.finished_12()
        p.writing = p.ready[0]
        p.send(plain(t.HANDSHAKE, exchange), one, p.seal(t.HANDSHAKE, finished), p.seal(t.DATA, b"at once"))
        p.transcript += finished
        p.open_12()
        t.need(p.receive(7) == b"at once", "echo")
    at_exchange("data in one packet with Finished", SERVED)(together)

    def warned(p):
        p.send(plain(t.ALERT, b"\1\x64"))
        p.finish_12()
    at_exchange("one warning alert", SERVED)(warned)


# ---- early data, which is never taken

def early_data():
    garbage = t.Protection(0x1301, True, bytes(32))

    def offered(name, expected, amounts, offer=True, retry=False, kind=t.DATA):
        def act(p):
            h = hello_13(offered=() if retry else (t.X25519,)).set(t.EARLY_DATA, b"")
            k = ticket(p) if offer else None
            if offer:
                h = p.offer(k, h)
            p.begin(h)
            p.send(plain(t.HANDSHAKE, h.message(), 0x0301), plain(t.CCS, b"\1"),
                   *(garbage.seal(kind, os.urandom(amount)) for amount in amounts))
            p.server_hello()
            if retry:
                t.need(p.server["retry"], "a HelloRetryRequest")
                p.compatible = False
                p.retry(ticket=k)
                p.server_hello()
            p.compatible = False
            p.flight_13()
            t.need(t.EARLY_DATA not in p.encrypted, "early data is refused")
            p.finish_13().echo()
        add(EARLY, name, expected)(act)
    offered("early data is refused and skipped", SERVED, (20,))
    offered("early data of no bytes is skipped", SERVED, (0,))
    offered("early data in ten records is skipped", SERVED, (100,) * 10)
    offered("early data of 12 KB is skipped", SERVED, (12000,))
    offered("early data of 16,384 bytes is skipped", SERVED, (16384 - 17,))
    offered("early data of 16,384 bytes before a HelloRetryRequest", SERVED, (16384 - 17,), retry=True)
    offered("early_data without a ticket", SERVED, (20,), offer=False)
    offered("early_data and nothing behind it", SERVED, ())
    offered("early data before a HelloRetryRequest", SERVED, (20, 300), retry=True)
    offered("no early data before a HelloRetryRequest", SERVED, (), retry=True)
    offered("early data without end", (BAD_MAC, UNEXPECTED), (16000,) * 100)
    offered("early data without end before a HelloRetryRequest", (BAD_MAC, UNEXPECTED), (16000,) * 100, retry=True)

    def unannounced(p):
        h = p.offer(ticket(p))
        p.begin(h)
        p.send(plain(t.HANDSHAKE, h.message(), 0x0301), garbage.seal(t.DATA, b"early"))
        p.server_hello()
        p.flight_13()
    add(EARLY, "early data that was not announced", (BAD_MAC,))(unannounced)

    def not_13(p):
        h = hello_12().set(t.EARLY_DATA, b"")
        p.begin(h)
        p.send(plain(t.HANDSHAKE, h.message(), 0x0301), garbage.seal(t.DATA, b"early"))
    add(EARLY, "early data with TLS 1.2", (UNEXPECTED, BAD_MAC))(not_13)


register((FIRST, FLIGHT_13, FLIGHT_12, EARLY),
         (first_records, "RFC 8446 section 5.1, RFC 5246 section 6.2.1 and appendix E.1"),
         (fragments, "RFC 8446 section 5.1, RFC 5246 section 6.2.1"),
         (finished_13, "RFC 8446 sections 4.4.4 and 5"),
         (messages_13, "RFC 8446 sections 4, 5.2, 5.4 and 6"),
         (change_cipher_specs, "RFC 8446 section 5 and appendix D.4"),
         (exchanges, "RFC 8422 sections 5.7 and 5.11"),
         (order_12, "RFC 5246 sections 7.1, 7.3 and 7.4"),
         (finished_12, "RFC 5246 sections 6.2.3 and 7.4.9"),
         (early_data, "RFC 8446 section 4.2.10"))
