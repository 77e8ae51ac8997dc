"""Probes of established connections, one per demand on an endpoint: records, alerts, KeyUpdate, renegotiation, both ends
of the data. Entries as in probes_hello."""
import tls_probe as t
from probes_hello import BAD_MAC, DECODE, ILLEGAL, OVERFLOW, SERVED, UNEXPECTED, VERSION, flip, register
from tls_probe import hello_12, hello_13, message, number, plain

BOTH = []
ONLY_13 = []
ONLY_12 = []
QUIET = None


def established(table, name, expected, make):
    def decorate(act):
        def whole(p):
            p.establish(make()).echo()
            act(p)
            if expected == SERVED:
                p.echo(b"still here")
        table.append((name, expected, whole))
        return act
    return decorate


def at_13(name, expected, make=hello_13):
    return established(ONLY_13, name, expected, make)


def at_12(name, expected, make=hello_12):
    return established(ONLY_12, name, expected, make)


def at_both(name, expected):
    def decorate(act):
        established(BOTH, f"{name}, TLS 1.3", expected, hello_13)(act)
        established(BOTH, f"{name}, TLS 1.2", expected, hello_12)(act)
        return act
    return decorate


def data():
    for size in (1, 2, 15, 16, 17, 255, 256, 1000, 16383, 16384):
        at_both(f"a record of {size} bytes", SERVED)(lambda p, size=size: p.echo(b"d" * size))
    at_both("a record of 16,385 bytes", (OVERFLOW,))(lambda p: p.put(t.DATA, bytes(16385)))

    def single(p):
        p.send(*(p.seal(t.DATA, b"s") for _ in range(500)))
        t.need(p.receive(500) == b"s" * 500, "echo")
    at_both("500 records of one byte in one packet", SERVED)(single)

    def dripping(p):
        for byte in p.seal(t.DATA, b"drip"):
            p.send(bytes([byte]))
        t.need(p.receive(4) == b"drip", "echo")
    at_both("a record in packets of one byte", SERVED)(dripping)

    def empty(p, count, between):
        p.send(*(p.seal(t.DATA, b"x" * (between and at % between == 0)) for at in range(count)))
        if between:
            p.receive(len(range(0, count, between)))
    at_both("an empty record of data", SERVED)(lambda p: empty(p, 1, 0))
    at_both("1,000 empty records of data", SERVED)(lambda p: empty(p, 1000, 0))
    at_both("10,000 empty records of data with some between", SERVED)(lambda p: empty(p, 10000, 500))
    at_both("2,000 empty records of data in a row", (UNEXPECTED,))(lambda p: empty(p, 2000, 0))


def records():
    for kind in [0, 1, 19, 24, 25, 64, 99, 128, 255]:
        at_both(f"a record of type {kind}", (UNEXPECTED,))(
            lambda p, kind=kind: p.send(number(kind, 1) + p.seal(t.DATA, b"hello")[1:]))
    for kind in (t.HANDSHAKE, t.ALERT, t.CCS):
        at_13(f"the outer type {kind}", (UNEXPECTED,))(lambda p, kind=kind: p.put(t.DATA, b"hello", outer=kind))
    for name, body in (("change_cipher_spec", plain(t.CCS, b"\1")), ("data", plain(t.DATA, b"hello, in clear, all of it")),
                       ("a fatal alert", plain(t.ALERT, b"\2\x28")), ("close_notify", plain(t.ALERT, b"\1\0")),
                       ("a handshake message", plain(t.HANDSHAKE, message(24, b"\0")))):
        at_both(f"{name} in clear", (UNEXPECTED, BAD_MAC))(lambda p, body=body: p.send(body))
    for at in (5, 6, 13, 20, -17, -1):
        at_both(f"a record that was changed at {at}", (BAD_MAC,))(
            lambda p, at=at: p.send(flip(p.seal(t.DATA, b"a record of some length"), at)))
    at_both("a record that was cut by a byte", (BAD_MAC,))(
        lambda p: p.send((lambda r: r[:3] + number(len(r) - 6, 2) + r[5:-1])(p.seal(t.DATA, b"hello"))))

    def twice(p):
        record = p.seal(t.DATA, b"hello")
        p.send(record, record)
        p.receive(5)
    at_both("a record twice", (BAD_MAC,))(twice)

    def skipped(p):
        p.seal(t.DATA, b"lost")
        p.put(t.DATA, b"hello")
    at_both("a record is missing", (BAD_MAC,))(skipped)
    for length in (0, 1, 15, 16):
        at_both(f"a record of {length} bytes of ciphertext", (BAD_MAC, DECODE, UNEXPECTED))(
            lambda p, length=length: p.send(plain(t.DATA, bytes(length))))
    for length, table in ((16384 + 257, at_13), (16384 + 2049, at_12), (65535, at_both)):
        table(f"a record that announces {length} bytes", (OVERFLOW,))(
            lambda p, length=length: p.send(number(t.DATA, 1) + b"\3\3" + number(length, 2)))
    for version in (0x0301, 0x0302, 0x0304, 0x0200):
        at_12(f"a record of version {version:#06x}", (VERSION, BAD_MAC))(
            lambda p, version=version: p.put(t.DATA, b"hello", version=version))
    at_13("a record of version 0x0301, sealed as such", SERVED)(
        lambda p: (p.put(t.DATA, b"hello", version=0x0301), p.receive(5)))

    def explicit(p):
        keys = p.writing
        header = number(t.DATA, 1) + b"\3\3"
        nonce = b"any will"
        body = keys.cipher.encrypt(keys.fixed + nonce, b"hello", number(keys.number, 8) + header + b"\0\5")
        keys.number += 1
        p.send(header, number(8 + len(body), 2), nonce, body)
        t.need(p.receive(5) == b"hello", "echo")
    at_12("an explicit nonce of the client's choice", SERVED)(explicit)

    def nonces(p):
        seen = []
        for _ in range(5):
            p.put(t.DATA, b"n")
            p.fill(13)
            seen.append(p.input[5:13])
            p.receive(1)
        t.need(len(set(seen)) == 5, "an explicit nonce twice")
    at_12("explicit nonces never repeat", SERVED)(nonces)


def contents():
    for zeros in (1, 100, 10000, 16384 - 5):
        at_13(f"padding of {zeros} bytes", SERVED)(
            lambda p, zeros=zeros: (p.put(t.DATA, b"hello", zeros=zeros), p.receive(5)))
    at_13("padding beyond a record", (OVERFLOW,))(lambda p: p.put(t.DATA, b"hello", zeros=16384 - 4))
    at_13("an empty record of data with padding", SERVED)(lambda p: p.put(t.DATA, b"", zeros=1000))
    for zeros in (0, 1, 100, 16384, 16385):
        at_13(f"a record of nothing but {zeros} zeros", (UNEXPECTED,))(lambda p, zeros=zeros: p.put(None, bytes(zeros)))
    for kind in [1, 19, 24, 25, 64, 128, 255]:
        at_13(f"an inner type of {kind}", (UNEXPECTED,))(lambda p, kind=kind: p.put(kind, b"\1"))
        at_13(f"an inner type of {kind} and nothing", (UNEXPECTED,))(lambda p, kind=kind: p.put(kind, b""))
    at_both("an empty handshake record", (UNEXPECTED, DECODE))(lambda p: p.put(t.HANDSHAKE, b""))
    at_both("an empty alert", (UNEXPECTED, DECODE))(lambda p: p.put(t.ALERT, b""))
    at_both("change_cipher_spec under keys", (UNEXPECTED,))(lambda p: p.put(t.CCS, b"\1"))
    at_both("an empty change_cipher_spec under keys", (UNEXPECTED,))(lambda p: p.put(t.CCS, b""))


def alerts():
    for description in (10, 20, 21, 22, 40, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 110, 112, 120):
        at_both(f"fatal alert {description}", QUIET)(
            lambda p, description=description: p.put(t.ALERT, bytes([2, description])))
    for description in (10, 41, 99, 109, 116, 254, 255):
        at_13(f"alert {description} of level warning", QUIET)(
            lambda p, description=description: p.put(t.ALERT, bytes([1, description])))
        at_13(f"alert {description} of level 77", QUIET)(
            lambda p, description=description: p.put(t.ALERT, bytes([77, description])))
    at_13("user_canceled", SERVED)(lambda p: p.put(t.ALERT, b"\1\x5a"))
    at_13("a flood of user_canceled", (UNEXPECTED,))(lambda p: p.send(*(p.seal(t.ALERT, b"\1\x5a") for _ in range(100))))
    at_13("half an alert", (DECODE, UNEXPECTED))(lambda p: p.put(t.ALERT, b"\1"))
    at_13("an alert in two records", (DECODE, UNEXPECTED))(lambda p: p.send(p.seal(t.ALERT, b"\1"), p.seal(t.ALERT, b"\0")))
    at_13("two alerts in one record", (DECODE, UNEXPECTED))(lambda p: p.put(t.ALERT, b"\1\x5a\1\0"))
    at_13("an alert of three bytes", (DECODE, UNEXPECTED))(lambda p: p.put(t.ALERT, b"\1\0\0"))
    for description in (41, 90, 100, 110, 255):
        at_12(f"warning alert {description}", SERVED)(lambda p, description=description: p.put(t.ALERT, bytes([1, description])))
    at_12("a flood of warning alerts", (UNEXPECTED,))(lambda p: p.send(*(p.seal(t.ALERT, b"\1\x64") for _ in range(100))))
    at_12("an alert of level 0", (ILLEGAL, DECODE, UNEXPECTED))(lambda p: p.put(t.ALERT, b"\0\x28"))
    at_12("an alert of level 77", (ILLEGAL, DECODE, UNEXPECTED))(lambda p: p.put(t.ALERT, b"\x4d\x28"))
    at_12("a warning alert in two records", SERVED)(lambda p: p.send(p.seal(t.ALERT, b"\1"), p.seal(t.ALERT, b"\x64")))
    at_12("two warning alerts in one record", SERVED)(lambda p: p.put(t.ALERT, b"\1\x64\1\x5a"))


def ends():
    def closing(p, pieces=(), after=b""):
        p.send(*pieces, p.seal(t.ALERT, b"\1\0"), after)
        t.need(p.end() == "close_notify", "close_notify is answered")
        raise t.Ended(p.end())

    at_both("close_notify", QUIET)(closing)

    def behind(p):
        p.put(t.DATA, b"last")
        t.need(p.receive(4) == b"last", "echo")
        closing(p)
    at_both("data and close_notify", QUIET)(behind)

    def ignored(p):
        p.put(t.ALERT, b"\1\0")
        p.put(t.DATA, b"too late")
        p.socket.shutdown(1)
        rest = b""
        try:
            while True:
                kind, body = p.record()
                rest += body if kind == t.DATA else b""
        except t.Ended as ended:
            t.need(ended.how == "close_notify" and not rest, "data after close_notify is ignored")
            raise t.Ended(p.end()) from None
    at_both("data after close_notify", QUIET)(ignored)
    at_both("garbage after close_notify", QUIET)(lambda p: closing(p, after=b"\x17\3\3\0\x20" + b"?" * 32))

    def level(p):
        p.put(t.ALERT, b"\2\0")
        t.need(p.end() in ("close_notify", "fin", "reset"), "the end")
        raise t.Ended("fin")
    at_both("close_notify of level fatal", QUIET)(level)

    def truncated(p):
        p.socket.shutdown(1)
        how = p.end()
        t.need(how != "close_notify", "a cut connection looks like a clean end")
        raise t.Ended(how)
    at_both("FIN without close_notify", QUIET)(truncated)

    def within(p):
        p.send(p.seal(t.DATA, b"hello")[:-3])
        p.socket.shutdown(1)
        how = p.end()
        t.need(how != "close_notify", "a cut connection looks like a clean end")
        raise t.Ended(how)
    at_both("FIN within a record", QUIET)(within)


def key_updates():
    key_update = message(t.KEY_UPDATE, b"\0")

    def answered(p, count=1, wait=True):
        for _ in range(count):
            p.update(1)
            if wait:
                p.echo(b"k")
        if not wait:
            p.echo(b"k")
        t.need(1 <= p.key_updates <= count, f"{p.key_updates} answers to {count} requests")
    at_13("a KeyUpdate with a request is answered", SERVED)(answered)
    at_13("ten KeyUpdates with requests", SERVED)(lambda p: answered(p, 10))
    at_13("300 KeyUpdates with requests in a row", SERVED)(lambda p: answered(p, 300, False))
    for suite in t.SUITES_13:
        at_13(f"KeyUpdates, suite {suite:#06x}", SERVED, lambda suite=suite: hello_13(suites=(suite,)))(
            lambda p: (answered(p, 3), p.update(0).echo()))

    def unasked(p):
        p.update(0).echo().update(0).update(0).echo()
        t.need(p.key_updates == 0, "nobody asked for an answer")
    at_13("KeyUpdates without requests", SERVED)(unasked)

    def storm(p):
        for at in range(4000):
            p.update(at % 2)
            if at % 500 == 0:
                p.echo(b"storm")
    at_13("4,000 KeyUpdates with data between", SERVED)(storm)

    def endless(p):
        for _ in range(3000):
            p.update(0)
    at_13("3,000 KeyUpdates with no data between", (UNEXPECTED,))(endless)
    for value in (2, 3, 127, 128, 255):
        at_13(f"a KeyUpdate with the value {value}", (ILLEGAL,))(
            lambda p, value=value: p.put(t.HANDSHAKE, message(t.KEY_UPDATE, bytes([value]))))
    for body in (b"", b"\0\0", b"\1\0\0", bytes(255), bytes(10000)):
        at_13(f"a KeyUpdate of {len(body)} bytes", (DECODE,))(
            lambda p, body=body: p.put(t.HANDSHAKE, message(t.KEY_UPDATE, body)))
    at_13("a KeyUpdate that announces 16 MB", (DECODE,))(lambda p: p.put(t.HANDSHAKE, b"\x18\xff\xff\xff"))
    for what, more in (("another KeyUpdate", key_update), ("a byte", b"\x18"), ("half another", key_update[:3])):
        at_13(f"{what} behind a KeyUpdate in its record", (UNEXPECTED,))(
            lambda p, more=more: p.put(t.HANDSHAKE, key_update + more))
    for size in (1, 2, 3, 4):
        def split(p, size=size):
            p.send(*(p.seal(t.HANDSHAKE, key_update[i:i + size]) for i in range(0, 5, size)))
            p.writing = p.writing.next()
        at_13(f"a KeyUpdate in records of {size} bytes", SERVED)(split)
        for what, kind, content in (("data", t.DATA, b"x"), ("empty data", t.DATA, b""), ("an alert", t.ALERT, b"\1\x5a"),
                                    ("an empty handshake record", t.HANDSHAKE, b"")):
            at_13(f"{what} within a KeyUpdate, after {size} bytes", (UNEXPECTED, DECODE))(
                lambda p, size=size, kind=kind, content=content: p.send(
                    p.seal(t.HANDSHAKE, key_update[:size]), p.seal(kind, content), p.seal(t.HANDSHAKE, key_update[size:])))
    at_13("data under the old key after a KeyUpdate", (BAD_MAC,))(
        lambda p: p.send(p.seal(t.HANDSHAKE, key_update), p.seal(t.DATA, b"old")))

    def padded(p):
        p.put(t.HANDSHAKE, message(t.KEY_UPDATE, b"\1"), zeros=500)
        p.writing = p.writing.next()
    at_13("a KeyUpdate with padding", SERVED)(padded)

    def last(p):
        p.put(t.HANDSHAKE, message(t.KEY_UPDATE, b"\1"))
        p.writing = p.writing.next()
        p.put(t.ALERT, b"\1\0")
        t.need(p.end() == "close_notify", "the end")
        raise t.Ended(p.end())
    at_13("a KeyUpdate and close_notify", QUIET)(last)
    at_12("a KeyUpdate in TLS 1.2", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, key_update))


def messages():
    for kind in list(range(0, 24)) + [25, 67, 254, 255]:
        at_13(f"a message of type {kind}", (UNEXPECTED,))(lambda p, kind=kind: p.put(t.HANDSHAKE, message(kind, bytes(40))))
        if kind != t.CLIENT_HELLO:
            at_12(f"a message of type {kind}", (UNEXPECTED,))(
                lambda p, kind=kind: p.put(t.HANDSHAKE, message(kind, bytes(12))))
    at_13("another ClientHello", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, hello_13().message()))
    at_13("another ClientHello in clear", (UNEXPECTED,))(lambda p: p.send(plain(t.HANDSHAKE, hello_13().message())))
    at_13("Finished again", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, message(t.FINISHED, bytes(32))))
    at_13("a ticket from the client", (UNEXPECTED,))(
        lambda p: p.put(t.HANDSHAKE, message(t.TICKET, bytes(8) + b"\0\0\1t\0\0")))

    def renegotiated(p, hello, pieces=1):
        whole = hello.message()
        step = -(-len(whole) // pieces)
        p.send(*(p.seal(t.HANDSHAKE, whole[i:i + step]) for i in range(0, len(whole), step)))
        try:
            p.data()
        except t.Alert as alert:
            t.need((alert.level, alert.description) == (1, 100), f"no_renegotiation: {alert}")
        raise t.Ended(p.end())
    at_12("renegotiation", QUIET)(lambda p: renegotiated(p, hello_12()))
    at_12("renegotiation with its proof", QUIET)(
        lambda p: renegotiated(p, hello_12().set(t.RENEGOTIATION, b"\x0c" + bytes(12))))
    at_12("renegotiation without any", QUIET)(lambda p: renegotiated(p, hello_12().drop(t.RENEGOTIATION)))
    at_12("renegotiation in fragments", QUIET)(lambda p: renegotiated(p, hello_12(), 40))
    at_12("renegotiation to TLS 1.3", QUIET)(lambda p: renegotiated(p, hello_13()))
    at_12("Finished again", (UNEXPECTED,))(lambda p: p.put(t.HANDSHAKE, message(t.FINISHED, bytes(12))))
    at_12("heartbeat", (UNEXPECTED,))(lambda p: p.put(24, b"\1\x40\0" + bytes(16)))


register((BOTH, ONLY_13, ONLY_12),
         (data, "RFC 8446 section 5.1, RFC 5246 section 6.2"),
         (records, "RFC 8446 section 5.2, RFC 5246 section 6.2.3"),
         (contents, "RFC 8446 sections 5.1 and 5.4"),
         (alerts, "RFC 8446 section 6, RFC 5246 section 7.2"),
         (ends, "RFC 8446 section 6.1, RFC 5246 section 7.2.1"),
         (key_updates, "RFC 8446 sections 4.6.3 and 5.1"),
         (messages, "RFC 8446 section 4, RFC 5246 sections 7.2.2 and 7.4.1"))
