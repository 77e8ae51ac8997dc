"""Probes of the ClientHello, one per demand on a server: RFC 8446 section 4, RFC 5246 section 7.4.1, and the RFCs of the
extensions. Each entry is a name, what must come of it (SERVED, or the alerts that will do), and what the client does."""
import os
import typing

import tls_probe as t
from tls_probe import hello_12, hello_13, number, numbers, plain, shares, vector

SERVED = "served"

# RFC 8446 section 6
(UNEXPECTED, BAD_MAC, OVERFLOW, FAILURE, ILLEGAL, DECODE, DECRYPT, VERSION, FALLBACK, MISSING, UNRECOGNIZED_NAME,
 NO_PROTOCOL) = 10, 20, 22, 40, 47, 50, 51, 70, 86, 109, 112, 120


class Entry(typing.NamedTuple):
    """One probe: `expected` is SERVED, the alerts that will do, or None for an end without an alert."""

    name: str
    expected: object
    act: object  # function of a tls_probe.Probe
    section: str = ""


def register(tables, *groups):
    """Fills the tables: each group is a function, and the section behind what it adds."""
    for make, section in groups:
        sizes = [len(table) for table in tables]
        make()
        for table, size in zip(tables, sizes):
            table[size:] = [Entry(*entry, section) for entry in table[size:]]


HELLO = []  # name, expected, function of a Probe; register makes entries of them
EXTENSIONS = []
SHARES = []
RETRY = []
TICKETS = []


def serve(p, hello, version=None):
    p.establish(hello)
    t.need(version is None or p.server["version"] == version, f"version {p.server['version']:#06x} was chosen")
    p.echo()


def hello(table, name, expected, make, version=None):
    """`make` gives the ClientHello; `expected` is SERVED or alerts."""
    if expected == SERVED:
        table.append((name, SERVED, lambda p: serve(p, make(), version)))
    else:
        table.append((name, expected, lambda p: p.start(make())))


def raw(table, name, expected, make):
    """`make` gives the ClientHello's body as bytes."""
    table.append((name, expected, lambda p: p.send(plain(t.HANDSHAKE, t.message(t.CLIENT_HELLO, make()), 0x0301))))


def both(table, name, expected, change):
    """The same change to a client of TLS 1.3 and to one of 1.2."""
    hello(table, f"{name}, TLS 1.3", expected, lambda: change(hello_13()))
    hello(table, f"{name}, TLS 1.2", expected, lambda: change(hello_12()))


def with_extension(table, name, expected, kind, body):
    both(table, name, expected, lambda h: h.set(kind, body))


def hello_any():
    """A client of TLS 1.3 and 1.2 with what browsers send."""
    h = hello_13(suites=t.SUITES_13 + t.SUITES_12)
    h.set(t.VERSIONS, vector(1, numbers([0x0304, 0x0303])))
    for kind, body in ((t.MASTER_SECRET, b""), (t.RENEGOTIATION, b"\0"), (t.POINT_FORMATS, b"\1\0"),
                       (t.SESSION_TICKET, b""), (t.STATUS_REQUEST, b"\1\0\0\0\0"), (t.PSK_MODES, b"\1\1")):
        h.set(kind, body)
    return h


# ---- structure

def truncations():
    """Every beginning of a ClientHello."""
    for label, make in (("TLS 1.3", hello_13), ("TLS 1.2", hello_12)):
        whole = make().body()
        end = len(make().drop(*range(0x10000)).body())
        for length in range(len(whole)):
            # Without any extensions it is a ClientHello of TLS 1.2 with no suite, or no signature, that will do.
            raw(HELLO, f"a ClientHello cut to {length} bytes, {label}", (FAILURE,) if length == end else (DECODE,),
                lambda make=make, length=length: make().body()[:length])


def lengths():
    def changed(make, at, size, by):
        body = make().body()
        value = int.from_bytes(body[at:at + size], "big") + by
        return body[:at] + number(value % (1 << 8 * size), size) + body[at + size:]

    for label, make in (("TLS 1.3", hello_13), ("TLS 1.2", hello_12)):
        h = make()
        suites = 2 + 32 + 1 + len(h.session)
        compression = suites + 2 + len(h.suites)
        extensions = compression + 2
        for by in (-1, 1):
            raw(HELLO, f"the suites' length is off by {by}, {label}", (DECODE, ILLEGAL),
                lambda make=make, at=suites, by=by: changed(make, at, 2, by))
            raw(HELLO, f"the extensions' length is off by {by}, {label}", (DECODE,),
                lambda make=make, at=extensions, by=by: changed(make, at, 2, by))
            at = extensions + 2
            for kind, body in h.extensions:
                raw(HELLO, f"the length of extension {kind} is off by {by}, {label}", (DECODE, ILLEGAL),
                    lambda make=make, at=at + 2, by=by: changed(make, at, 2, by))
                at += 4 + len(body)
    for extra in (1, 2, 4, 100):
        both(HELLO, f"{extra} bytes behind the extensions", (DECODE,), lambda h, extra=extra: h.part(tail=bytes(extra)))
    both(HELLO, "extensions of length zero", (FAILURE, MISSING), lambda h: h.part(extensions=[], tail=b"\0\0"))


def fields():
    for length in (33, 64, 255):
        both(HELLO, f"a session id of {length} bytes", (DECODE, ILLEGAL),
             lambda h, length=length: h.part(session=os.urandom(length)))
    for length in (0, 1, 31, 32):
        both(HELLO, f"a session id of {length} bytes", SERVED,
             lambda h, length=length: h.part(session=os.urandom(length)))
    both(HELLO, "no suites", (DECODE, ILLEGAL), lambda h: h.part(suites=b""))
    both(HELLO, "half a suite", (DECODE, ILLEGAL), lambda h: h.part(suites=h.suites + b"\x13"))
    both(HELLO, "one byte of suites", (DECODE, ILLEGAL), lambda h: h.part(suites=b"\x13"))
    both(HELLO, "no compression method", (DECODE, ILLEGAL), lambda h: h.part(compression=b""))
    both(HELLO, "a compression method that is not null", (ILLEGAL,), lambda h: h.part(compression=b"\1"))
    hello(HELLO, "null and another compression method, TLS 1.3", (ILLEGAL,), lambda: hello_13().part(compression=b"\0\1"))
    hello(HELLO, "null twice, TLS 1.3", (ILLEGAL,), lambda: hello_13().part(compression=b"\0\0"))
    hello(HELLO, "another and null compression method, TLS 1.2", SERVED, lambda: hello_12().part(compression=b"\1\0"))
    hello(HELLO, "64 compression methods and null, TLS 1.2", SERVED,
          lambda: hello_12().part(compression=bytes(range(64, 0, -1)) + b"\0"))


def versions():
    for version in (0x0303, 0x0304, 0x0305, 0x03ff, 0x0400, 0xffff, 0x7f1c):
        hello(HELLO, f"legacy_version {version:#06x} does not matter in TLS 1.3", SERVED,
              lambda version=version: hello_13().part(version=version), 0x0304)
    for version in (0x0301, 0x0302):  # GnuTLS does not get as far as supported_versions
        hello(HELLO, f"legacy_version {version:#06x} with TLS 1.3", (VERSION,),
              lambda version=version: hello_13().part(version=version))
    for version in (0x0000, 0x0002, 0x0200, 0x0300):
        both(HELLO, f"legacy_version {version:#06x}", (VERSION,), lambda h, version=version: h.part(version=version))
    for version in (0x0301, 0x0302):
        hello(HELLO, f"nothing above {version:#06x}", (VERSION,), lambda version=version: hello_12().part(version=version))
    for version in (0x0304, 0x0305, 0x03ff, 0x0400, 0xffff):
        hello(HELLO, f"version {version:#06x} without supported_versions is answered with TLS 1.2", SERVED,
              lambda version=version: hello_12().part(version=version), 0x0303)

    def offered(*each):
        return vector(1, numbers(each))

    for name, body, version in (
            ("TLS 1.3 and 1.2", offered(0x0304, 0x0303), 0x0304), ("TLS 1.2 and 1.3", offered(0x0303, 0x0304), None),
            ("GREASE and TLS 1.3", offered(0xfafa, 0x0304), 0x0304), ("TLS 1.2", offered(0x0303), 0x0303),
            ("SSL 3 to TLS 1.3", offered(0x0300, 0x0301, 0x0302, 0x0303, 0x0304), None),
            ("drafts and TLS 1.3", offered(0x7f1c, 0x7f17, 0x0304), 0x0304),
            ("TLS 1.4 and TLS 1.3", offered(0x0305, 0x0304), 0x0304), ("TLS 1.3 twice", offered(0x0304, 0x0304), 0x0304),
            ("127 versions", offered(*range(0x0310, 0x0310 + 126), 0x0304), 0x0304)):
        hello(HELLO, f"supported_versions: {name}", SERVED, lambda body=body: hello_any().set(t.VERSIONS, body), version)
    for name, body, expected in (
            ("none", offered(), (DECODE,)), ("no body", b"", (DECODE,)), ("odd", b"\3\3\4\3", (DECODE,)),
            ("one byte", b"\1\3", (DECODE,)), ("more announced", b"\4\3\4", (DECODE,)),
            ("less announced", b"\2\3\4\3\3", (DECODE,)), ("GREASE alone", offered(0xdada), (VERSION,)),
            ("SSL 3 alone", offered(0x0300), (VERSION,)), ("TLS 1.1 and 1.0", offered(0x0302, 0x0301), (VERSION,)),
            ("a draft alone", offered(0x7f1c), (VERSION,)), ("TLS 1.4 alone", offered(0x0305), (VERSION,)),
            ("DTLS", offered(0xfefd, 0xfefc), (VERSION,))):
        hello(HELLO, f"supported_versions: {name}", expected, lambda body=body: hello_any().set(t.VERSIONS, body))

    def marked(p):
        p.establish(hello_12()).echo()
        t.need(p.server["random"][24:] == b"DOWNGRD\1", "the sentinel of RFC 8446 section 4.1.3")
    HELLO.append(("a server of TLS 1.3 marks TLS 1.2 in its random", SERVED, marked))

    def unmarked(p):
        p.establish(hello_13()).echo()
        t.need(p.server["random"][24:31] != b"DOWNGRD", "no sentinel")
    HELLO.append(("no mark in TLS 1.3", SERVED, unmarked))


def suites():
    def only(*each):
        return numbers(each)

    for suite in t.SUITES_13:
        hello(HELLO, f"suite {suite:#06x}", SERVED, lambda suite=suite: hello_13(suites=[suite]), 0x0304)
    for suite in (0xc02b, 0xc02c, 0xcca9):
        hello(HELLO, f"suite {suite:#06x}", SERVED, lambda suite=suite: hello_12(suites=[suite]), 0x0303)
    for name, each in (("RSA key exchange", (0x009c, 0x009d, 0x002f, 0x0035, 0x003c)), ("NULL", (0x0000, 0x0001, 0xc006)),
                       ("CBC", (0xc009, 0xc00a, 0xc013, 0xc014, 0xc023, 0xc024)), ("DHE", (0x009e, 0x009f, 0x0033)),
                       ("export, DES and RC4", (0x0003, 0x0009, 0x000a, 0x0004, 0x0005, 0xc007)),
                       ("anonymous", (0xc018, 0x006c, 0x0034)), ("PSK", (0x00a8, 0xccac)),
                       ("CCM", (0xc0ac, 0xc0ad, 0xc09c)), ("TLS 1.3's", t.SUITES_13), ("GREASE", t.GREASE),
                       ("the SCSV alone", (0x00ff,))):
        hello(HELLO, f"no suite but {name}, TLS 1.2", (FAILURE,), lambda each=each: hello_12().part(suites=only(*each)))
    for name, each in (("TLS 1.2's", t.SUITES_12), ("CCM", (0x1304, 0x1305)), ("integrity only", (0xc0b4, 0xc0b5)),
                       ("GREASE", t.GREASE), ("one of zero", (0,))):
        hello(HELLO, f"no suite but {name}, TLS 1.3", (FAILURE,), lambda each=each: hello_13().part(suites=only(*each)))
    both(HELLO, "GREASE around the suites", SERVED,
         lambda h: h.part(suites=numbers(t.GREASE) + h.suites + numbers(t.GREASE)))
    both(HELLO, "the same suites twice", SERVED, lambda h: h.part(suites=h.suites * 2))
    both(HELLO, "8,000 suites", SERVED, lambda h: h.part(suites=numbers(range(0x2000, 0x2000 + 8000)) + h.suites))
    hello(HELLO, "a fallback from TLS 1.3", (FALLBACK,), lambda: hello_12().part(suites=numbers(t.SUITES_12 + (0x5600,))))
    hello(HELLO, "the fallback SCSV with TLS 1.3", SERVED,
          lambda: hello_13().part(suites=numbers(t.SUITES_13 + (0x5600,))), 0x0304)
    hello(HELLO, "the renegotiation SCSV instead of the extension", SERVED,
          lambda: hello_12().drop(t.RENEGOTIATION).part(suites=numbers(t.SUITES_12 + (0x00ff,))))
    hello(HELLO, "the renegotiation SCSV and the extension", SERVED,
          lambda: hello_12().part(suites=numbers((0x00ff,) + t.SUITES_12)))
    hello(HELLO, "neither of the two", SERVED, lambda: hello_12().drop(t.RENEGOTIATION))


# ---- extensions

def extension_rules():
    kinds = [kind for kind, _ in hello_any().extensions]
    for kind in kinds + [0x0a0a, 0x7777]:
        hello(EXTENSIONS, f"extension {kind} twice", (ILLEGAL, DECODE), lambda kind=kind: doubled(kind))
    both(EXTENSIONS, "an unknown extension twice, far apart", (ILLEGAL, DECODE),
         lambda h: h.part(extensions=[(0x1234, b"a")] + h.extensions + [(0x1234, b"b")]))
    both(EXTENSIONS, "GREASE around the extensions", SERVED,
         lambda h: h.part(extensions=[(0x3a3a, b"")] + h.extensions + [(0x4a4a, b"\0")]))
    both(EXTENSIONS, "extensions backwards", SERVED, lambda h: h.part(extensions=h.extensions[::-1]))
    both(EXTENSIONS, "a thousand unknown extensions", SERVED,
         lambda h: h.part(extensions=[(0x4000 + i, os.urandom(i % 5)) for i in range(1000)] + h.extensions))
    for size in (0, 1, 255, 512, 4000, 12000):
        with_extension(EXTENSIONS, f"{size} bytes of padding", SERVED, t.PADDING, bytes(size))
    for kind, body in ((4, b""), (15, b"\1"), (13172, b""), (17513, b""), (18, b""), (24, b"\0\1\2\0"), (27, b"\2\0\2"),
                       (34, b"\0\2\4\3"), (50, b"\0\2\4\3"), (57, b""), (30032, b""), (65037, os.urandom(200)),
                       (t.ENCRYPT_THEN_MAC, b""), (t.STATUS_REQUEST, b"\1\0\0\0\0"), (t.POST_HANDSHAKE_AUTH, b""),
                       (t.PSK_MODES, b"\1\1"), (47, vector(2, vector(2, b"\x30\0")))):
        with_extension(EXTENSIONS, f"extension {kind} does no harm", SERVED, kind, body)
    for kind, name in ((t.GROUPS, "supported_groups"), (t.SIGNATURES, "signature_algorithms"), (t.KEY_SHARE, "key_share")):
        hello(EXTENSIONS, f"TLS 1.3 without {name}", (MISSING,), lambda kind=kind: hello_13().drop(kind))
    hello(EXTENSIONS, "TLS 1.3 without key_share and supported_groups", (MISSING,),
          lambda: hello_13().drop(t.GROUPS, t.KEY_SHARE))
    hello(EXTENSIONS, "TLS 1.3 with supported_versions alone", (MISSING,),
          lambda: hello_13().part(extensions=[(t.VERSIONS, b"\2\3\4")]))


def doubled(kind):
    h = hello_any()
    h.set(kind, dict(h.extensions).get(kind, b""))
    h.extensions.append((kind, h.get(kind)))
    return h


def server_names():
    for name, body in (("an empty list", b"\0\0"), ("no body", b""), ("an empty name", t.server_name(b"")),
                       ("one byte", b"\0"), ("a list that is longer than it says", t.server_name(b"localhost") + b"x"),
                       ("a list that is shorter than it says", b"\0\x10\0\0\x09localhost"),
                       ("a name that is shorter than it says", b"\0\x0c\0\0\x0alocalhost"),
                       ("a type alone", b"\0\1\0"), ("half a length", b"\0\2\0\0")):
        with_extension(EXTENSIONS, f"server_name: {name}", (DECODE, ILLEGAL), t.SERVER_NAME, body)
    with_extension(EXTENSIONS, "server_name: two host names", (ILLEGAL, DECODE), t.SERVER_NAME,
                   vector(2, b"\0" + vector(2, b"localhost") + b"\0" + vector(2, b"other")))
    for name, text in (("a zero byte", b"local\0host"), ("a zero byte at the end", b"localhost\0"),
                       ("a space", b"local host"), ("bytes above ASCII", b"loc\xc3\xa4lhost")):
        with_extension(EXTENSIONS, f"server_name: {name}", (ILLEGAL, DECODE, UNRECOGNIZED_NAME), t.SERVER_NAME,
                       t.server_name(text))
    with_extension(EXTENSIONS, "server_name: 256 bytes", (ILLEGAL, DECODE, UNRECOGNIZED_NAME), t.SERVER_NAME,
                   t.server_name(b"a" * 63 + b"." + b"b" * 192))
    for name, text in (("capitals", b"LocalHost"), ("an address", b"127.0.0.1"), ("another host", b"other.example.com"),
                       ("255 bytes", (b"a" * 62 + b".") * 4 + b"abc"), ("a dot at the end", b"localhost.")):
        with_extension(EXTENSIONS, f"server_name: {name}", SERVED, t.SERVER_NAME, t.server_name(text))
    both(EXTENSIONS, "no server_name", SERVED, lambda h: h.drop(t.SERVER_NAME))


def lists():
    """Extensions that are one vector of numbers."""
    for kind, name in ((t.GROUPS, "supported_groups"), (t.SIGNATURES, "signature_algorithms")):
        for what, change in (("no body", lambda b: b""), ("one byte", lambda b: b"\0"), ("none", lambda b: b"\0\0"),
                             ("odd", lambda b: vector(2, b[2:] + b"\4")), ("one byte of list", lambda b: b"\0\1\4"),
                             ("more announced", lambda b: number(len(b), 2) + b[2:]),
                             ("less announced", lambda b: number(len(b) - 4, 2) + b[2:]),
                             ("trailing bytes", lambda b: b + b"\0\0")):
            both(EXTENSIONS, f"{name}: {what}", (DECODE, ILLEGAL),
                 lambda h, kind=kind, change=change: h.set(kind, change(h.get(kind))))
        both(EXTENSIONS, f"{name}: GREASE around", SERVED,
             lambda h, kind=kind: h.set(kind, vector(2, numbers(t.GREASE) + h.get(kind)[2:] + numbers(t.GREASE))))
        both(EXTENSIONS, f"{name}: a thousand unknown ones and good ones", SERVED,
             lambda h, kind=kind: h.set(kind, vector(2, numbers(range(0x7000, 0x7400)) + h.get(kind)[2:])))
    for name, schemes in (("SHA-1", (0x0203, 0x0201)), ("MD5", (0x0101, 0x0103)), ("RSA for an ECDSA certificate",
                          (0x0804, 0x0805, 0x0401, 0x0501)), ("unknown ones", (0x7001, 0xfefe)), ("GREASE", t.GREASE),
                          ("anonymous", (0x0400, 0x0500)), ("Ed25519 for an ECDSA certificate", (0x0807,))):
        with_extension(EXTENSIONS, f"signature_algorithms: nothing but {name}", (FAILURE,), t.SIGNATURES,
                       vector(2, numbers(schemes)))
    with_extension(EXTENSIONS, "signature_algorithms: SHA-1 and what will do", SERVED, t.SIGNATURES,
                   vector(2, numbers((0x0203, 0x0201, 0x0403))))
    for name, groups in (("unknown ones", (0x7001, 0x01ff)), ("GREASE", t.GREASE), ("finite fields", (256, 257, 258)),
                         ("obsolete curves", (19, 21, 22, 1, 9, 15)), ("brainpool", (26, 27, 28)), ("P-521", (25,))):
        hello(EXTENSIONS, f"supported_groups: nothing but {name}, TLS 1.2", (FAILURE,),
              lambda groups=groups: hello_12(groups=groups))
        hello(EXTENSIONS, f"supported_groups: nothing but {name}, TLS 1.3", (FAILURE,),
              lambda groups=groups: hello_13(groups=groups, offered=()))
    hello(EXTENSIONS, "TLS 1.2 without signature_algorithms, for which SHA-1 would be meant", (FAILURE,),
          lambda: hello_12().drop(t.SIGNATURES))


KNOWN = (t.KEY_SHARE, 50)


def preceded(h, extensions):
    return h.part(extensions=extensions + h.extensions)


def small_ones():
    # The first three have no meaning in TLS 1.3, but GnuTLS reads them there, too (docs/THREATS.md, deviations).
    for kind, name in ((t.MASTER_SECRET, "extended_master_secret"), (t.ENCRYPT_THEN_MAC, "encrypt_then_mac"),
                       (t.POST_HANDSHAKE_AUTH, "post_handshake_auth")):
        with_extension(EXTENSIONS, f"{name} with a body", (DECODE,), kind, b"\0")
    hello(EXTENSIONS, "ec_point_formats without a body, TLS 1.3", (DECODE,), lambda: hello_13().set(t.POINT_FORMATS, b""))
    for start in range(0x34, 0x10000, 4096):
        kinds = [kind for kind in range(start, min(start + 4096, 0xff00)) if kind != 57]
        hello(EXTENSIONS, f"empty extensions from {start} on", SERVED,
              lambda kinds=kinds: preceded(hello_13(), [(kind, b"") for kind in kinds if kind not in KNOWN]))
    foreign = (2, 3, 4, 6, 7, 8, 9, 17, 24, 25, 26, *range(29, 41), 46)
    hello(EXTENSIONS, "what the server has not, with random bodies", SERVED,
          lambda: preceded(hello_13(), [(kind, os.urandom(kind)) for kind in foreign]))
    hello(EXTENSIONS, "extended_master_secret is agreed to", SERVED, hello_12)
    hello(EXTENSIONS, "TLS 1.2 without extended_master_secret", SERVED, lambda: hello_12().drop(t.MASTER_SECRET))
    for name, body, expected in (("no body", b"", (DECODE, FAILURE)), ("of another handshake", b"\1a", (FAILURE,)),
                                 ("12 bytes", vector(1, bytes(12)), (FAILURE,)), ("more announced", b"\1", (DECODE, FAILURE)),
                                 ("trailing bytes", b"\0\0", (DECODE, FAILURE))):
        hello(EXTENSIONS, f"renegotiation_info: {name}", expected, lambda body=body: hello_12().set(t.RENEGOTIATION, body))
    for name, body, expected in (("no body", b"", (DECODE, ILLEGAL)), ("none", b"\0", (DECODE, ILLEGAL)),
                                 ("more announced", b"\2\0", (DECODE, ILLEGAL)), ("compressed alone", b"\1\1", (ILLEGAL,)),
                                 ("trailing bytes", b"\1\0\0", (DECODE, ILLEGAL))):
        hello(EXTENSIONS, f"ec_point_formats: {name}", expected, lambda body=body: hello_12().set(t.POINT_FORMATS, body))
    hello(EXTENSIONS, "ec_point_formats: compressed and not", SERVED, lambda: hello_12().set(t.POINT_FORMATS, b"\3\1\2\0"))
    hello(EXTENSIONS, "no ec_point_formats", SERVED, lambda: hello_12().drop(t.POINT_FORMATS))
    for name, body in (("no body", b""), ("an empty list", b"\0\0"), ("an empty name", b"\0\1\0"),
                       ("a name and an empty name", b"\0\4\2h2\0"), ("more announced", b"\0\5\2h2"),
                       ("less announced", b"\0\2\2h2"), ("a name that is too long", b"\0\3\5h2"), ("one byte", b"\0")):
        with_extension(EXTENSIONS, f"ALPN: {name}", (DECODE, ILLEGAL), t.ALPN, body)
    with_extension(EXTENSIONS, "ALPN is ignored by a server without", SERVED, t.ALPN, vector(2, b"\2h2\x08http/1.1"))
    with_extension(EXTENSIONS, "ALPN with GREASE and a name of 255 bytes", SERVED, t.ALPN,
                   vector(2, b"\2\x0a\x0a" + vector(1, bytes(255))))
    for name, body in (("no body", b""), ("none", b"\0"), ("more announced", b"\2\1"), ("trailing bytes", b"\1\1\1")):
        hello(EXTENSIONS, f"psk_key_exchange_modes: {name}", (DECODE, ILLEGAL),
              lambda body=body: hello_13().set(t.PSK_MODES, body))
    hello(EXTENSIONS, "psk_key_exchange_modes: unknown ones and GREASE", SERVED,
          lambda: hello_13().set(t.PSK_MODES, b"\3\x0b\x2a\7"))
    hello(EXTENSIONS, "a session ticket that is nobody's, TLS 1.2", SERVED,
          lambda: hello_12().set(t.SESSION_TICKET, os.urandom(180)))
    hello(EXTENSIONS, "early_data with a body", (DECODE, ILLEGAL), lambda: hello_13().set(t.EARLY_DATA, b"\0\0\0\1"))
    for name, body in (("no body", b""), ("an empty cookie", b"\0\0"), ("more announced", b"\0\5a")):
        hello(EXTENSIONS, f"cookie: {name}", (DECODE, ILLEGAL), lambda body=body: hello_13().set(t.COOKIE, body))


def size_limits():
    def limited(make, sizes, extension, limit):
        def act(p):
            p.establish(make().set(*extension))
            agreed = p.encrypted if p.server["version"] == 0x0304 else p.server["extensions"]
            t.need(extension[0] in agreed, "the server agrees")
            for size in sizes:
                p.put(t.DATA, b"x" * size)
                p.receive(size)
            t.need(max(p.record_sizes) <= limit, f"a record of {max(p.record_sizes)} bytes where {limit} are allowed")
        return act

    for label, make, more in (("TLS 1.3", hello_13, 1), ("TLS 1.2", hello_12, 0)):
        for limit in list(range(0, 64)):
            hello(EXTENSIONS, f"record_size_limit {limit}, {label}", (ILLEGAL,),
                  lambda make=make, limit=limit: make().set(t.RECORD_SIZE_LIMIT, number(limit, 2)))
        for body in (b"", b"\x40", b"\0\1\0", b"\0\0\0\x40"):
            hello(EXTENSIONS, f"record_size_limit of {len(body)} bytes, {label}", (DECODE, ILLEGAL),
                  lambda make=make, body=body: make().set(t.RECORD_SIZE_LIMIT, body))
        for limit in (64, 65, 100, 255, 512, 1024, 16383, 16384, 16385, 16386, 65535):
            EXTENSIONS.append((f"record_size_limit {limit} is kept, {label}", SERVED,
                               limited(make, (1, 1000, 16384), (t.RECORD_SIZE_LIMIT, number(limit, 2)),
                                       min(limit - more, 16384))))
        for code in (0, 5, 6, 255):
            hello(EXTENSIONS, f"max_fragment_length {code}, {label}", (ILLEGAL,),
                  lambda make=make, code=code: make().set(t.MAX_FRAGMENT_LENGTH, number(code, 1)))
        for body in (b"", b"\1\1"):
            hello(EXTENSIONS, f"max_fragment_length of {len(body)} bytes, {label}", (DECODE, ILLEGAL),
                  lambda make=make, body=body: make().set(t.MAX_FRAGMENT_LENGTH, body))
        for code in (1, 2, 3, 4):
            EXTENSIONS.append((f"max_fragment_length {code} is kept, {label}", SERVED,
                               limited(make, (1, 256 << code, 256 << code), (t.MAX_FRAGMENT_LENGTH, number(code, 1)),
                                       256 << code)))

        for code in (1, 4):
            limit = 256 << code

            def held(p, make, code, size, announced=0):
                p.establish(make().set(t.MAX_FRAGMENT_LENGTH, number(code, 1)))
                if announced:
                    p.send(number(t.DATA, 1) + b"\3\3" + number(announced, 2))
                else:
                    p.put(t.DATA, b"x" * size)
                    p.receive(size)

            expansion = 256 if more else 2048
            EXTENSIONS.append((f"max_fragment_length {code}, and a record of as much, {label}", SERVED,
                               lambda p, make=make, code=code, limit=limit: held(p, make, code, limit)))
            EXTENSIONS.append((f"max_fragment_length {code}, and a record of a byte more, {label}", (OVERFLOW,),
                               lambda p, make=make, code=code, limit=limit: held(p, make, code, limit + 1)))
            EXTENSIONS.append((
                f"max_fragment_length {code}, and a longer record is announced, {label}", (OVERFLOW,),
                lambda p, make=make, code=code, limit=limit + expansion + 1: held(p, make, code, 0, limit)))

        def unheld(p, make=make):
            p.establish(make().set(t.MAX_FRAGMENT_LENGTH, b"\1").set(t.RECORD_SIZE_LIMIT, b"\4\0"))
            p.put(t.DATA, b"x" * 16384)
            p.receive(16384)
        EXTENSIONS.append((f"with record_size_limit, max_fragment_length does not hold, {label}", SERVED, unheld))

        def superseded(p, make=make):
            p.establish(make().set(t.MAX_FRAGMENT_LENGTH, b"\1").set(t.RECORD_SIZE_LIMIT, b"\4\0"))
            agreed = p.encrypted if p.server["version"] == 0x0304 else p.server["extensions"]
            t.need(t.RECORD_SIZE_LIMIT in agreed and t.MAX_FRAGMENT_LENGTH not in agreed, "one is agreed to")
            p.echo(b"x" * 3000)
            t.need(512 < max(p.record_sizes) <= 1024, "and it is kept")
        EXTENSIONS.append((f"record_size_limit supersedes max_fragment_length, {label}", SERVED, superseded))


# ---- key shares

def key_shares():
    def one(group, key):
        return lambda: hello_13(groups=(group,), offered=()).set(t.KEY_SHARE, shares((group, key)))

    good = t.public_of(t.key_of(t.P256))
    for name, group, key in (
            ("X25519, 31 bytes", t.X25519, b"\t" * 31), ("X25519, 33 bytes", t.X25519, b"\t" * 33),
            ("X25519, 1 byte", t.X25519, b"\t"), ("X25519, zero", t.X25519, bytes(32)),
            ("X25519, one", t.X25519, b"\1" + bytes(31)),
            ("X25519, a point of small order", t.X25519, bytes.fromhex(
                "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")),
            ("X25519, p - 1", t.X25519, b"\xec" + b"\xff" * 30 + b"\x7f"), ("X25519, p", t.X25519, b"\xed" + b"\xff" * 30 + b"\x7f"),
            ("P-256, not on the curve", t.P256, good[:-1] + bytes([good[-1] ^ 1])), ("P-256, zero", t.P256, b"\4" + bytes(64)),
            ("P-256, x of zero", t.P256, b"\4" + bytes(32) + good[33:]), ("P-256, above p", t.P256, b"\4" + b"\xff" * 64),
            ("P-256, compressed", t.P256, b"\2" + good[1:33]), ("P-256, hybrid", t.P256, bytes([6 + (good[-1] & 1)]) + good[1:]),
            ("P-256, infinity", t.P256, b"\0"), ("P-256, cut", t.P256, good[:-1]), ("P-256, one byte more", t.P256, good + b"\0"),
            ("P-256, no format", t.P256, good[1:]), ("P-256, an unknown format", t.P256, b"\5" + good[1:]),
            ("P-256, 1 byte", t.P256, b"\4"), ("P-256, of P-384", t.P256, t.public_of(t.key_of(t.P384))),
            ("P-384, of P-256", t.P384, good), ("P-384, zero", t.P384, b"\4" + bytes(96))):
        hello(SHARES, f"key share: {name}", (ILLEGAL, DECODE), one(group, key))
    for name, body in (("no body", b""), ("one byte", b"\0"), ("more announced", b"\0\x26" + shares((29, bytes(32)))[2:][:-2]),
                       ("less announced", b"\0\x22" + shares((29, b"\t" * 32))[2:]), ("trailing bytes", shares((29, b"\t" * 32)) + b"\0"),
                       ("an empty share", shares((29, b""))), ("half an entry", b"\0\3\0\x1d\0"),
                       ("a share that is longer than the list", b"\0\x24\0\x1d\0\x21" + b"\t" * 32)):
        hello(SHARES, f"key_share: {name}", (DECODE, ILLEGAL), lambda body=body: hello_13().set(t.KEY_SHARE, body))
    hello(SHARES, "the same group twice", (ILLEGAL,), lambda: hello_13().set(
        t.KEY_SHARE, shares((29, t.public_of(t.key_of(29))), (29, t.public_of(t.key_of(29))))))
    hello(SHARES, "a group that was not offered", (ILLEGAL,), lambda: hello_13(groups=(t.P256, t.P384), offered=(t.X25519,)))
    hello(SHARES, "a good share and one of a group that was not offered", (ILLEGAL,),
          lambda: hello_13(groups=(t.X25519,), offered=(t.X25519, t.P256)))
    hello(SHARES, "an unknown group twice", (ILLEGAL,), lambda: hello_13(groups=(0x7777, t.X25519)).set(
        t.KEY_SHARE, shares((0x7777, b"a"), (0x7777, b"b"), (29, b"\t" * 32))))

    for group in (t.X25519, t.P256, t.P384):
        hello(SHARES, f"group {group}", SERVED, lambda group=group: hello_13(groups=(group,), offered=(group,)))
        hello(SHARES, f"group {group}, TLS 1.2", SERVED, lambda group=group: hello_12(groups=(group,)))
    hello(SHARES, "shares of all groups", SERVED, lambda: hello_13(offered=(t.P384, t.P256, t.X25519)))

    def with_unknown(first):
        h = hello_13(groups=(0x0a0a, 0x11ec, t.X25519))
        own = (t.X25519, t.public_of(h.keys[t.X25519]))
        odd = ((0x0a0a, b"\0"), (0x11ec, os.urandom(1216)))
        return h.set(t.KEY_SHARE, shares(*(odd + (own,) if first else (own,) + odd)))
    hello(SHARES, "GREASE and an unknown group before a good share", SERVED, lambda: with_unknown(True))
    hello(SHARES, "GREASE and an unknown group behind a good share", SERVED, lambda: with_unknown(False))
    SHARES.append(("shares are fresh in each handshake", SERVED, fresh))


def fresh(p):
    p.establish().echo()
    other = t.Probe(p.socket.getpeername(), p.socket.gettimeout())
    try:
        other.establish().echo()
    finally:
        other.close()
    t.need(other.server["extensions"][t.KEY_SHARE] != p.server["extensions"][t.KEY_SHARE] and
           other.server["random"] != p.server["random"], "nothing is used twice")


# ---- HelloRetryRequest

def asked(p, **options):
    p.start(hello_13(offered=(), **options)).server_hello()
    t.need(p.server["retry"], "a HelloRetryRequest")


def altered(name, expected, change, **options):
    def act(p):
        asked(p, **options)
        p.retry(change)
    RETRY.append((f"second ClientHello: {name}", expected, act))


def retries():
    for group in (t.X25519, t.P256, t.P384):
        hello(RETRY, f"no share, group {group}", SERVED, lambda group=group: hello_13(groups=(group,), offered=()))
    hello(RETRY, "a share of an unknown group alone", SERVED, lambda: hello_13(groups=(0x7777, t.P256), offered=()).set(
        t.KEY_SHARE, shares((0x7777, b"abc"))))
    for suite in t.SUITES_13:
        hello(RETRY, f"no share, suite {suite:#06x}", SERVED, lambda suite=suite: hello_13(suites=(suite,), offered=()))

    def plainly(p):
        p.compatible = False
        p.establish(hello_13(offered=()).part(session=b"")).echo()
    RETRY.append(("a client without middlebox compatibility", SERVED, plainly))

    def only_once(p):
        asked(p)
        p.retry(lambda h: h.set(t.KEY_SHARE, b"\0\0"))
        p.server_hello()
        t.need(not p.server["retry"], "never two HelloRetryRequests")
    RETRY.append(("second ClientHello: still no share", (ILLEGAL, UNEXPECTED), only_once))
    altered("no key_share", (MISSING, ILLEGAL), lambda h: h.drop(t.KEY_SHARE))
    altered("a share of another group", (ILLEGAL,),
            lambda h: h.set(t.KEY_SHARE, shares((t.P384, t.public_of(t.key_of(t.P384))))))
    altered("two shares", (ILLEGAL,), lambda h: h.set(
        t.KEY_SHARE, shares((t.X25519, t.public_of(h.keys[29])), (t.P256, t.public_of(t.key_of(t.P256))))))
    altered("a bad share", (ILLEGAL,), lambda h: h.set(t.KEY_SHARE, shares((29, bytes(32)))))
    altered("another random", (ILLEGAL,), lambda h: h.part(random=os.urandom(32)))
    altered("another session id", (ILLEGAL,), lambda h: h.part(session=os.urandom(32)))
    altered("no session id", (ILLEGAL,), lambda h: h.part(session=b""))
    altered("another legacy_version", (ILLEGAL,), lambda h: h.part(version=0x0302))
    altered("other suites", (ILLEGAL, FAILURE), lambda h: h.part(suites=numbers((0x1302, 0x1303))))
    altered("suites in another order", (ILLEGAL,), lambda h: h.part(suites=numbers((0x1303, 0x1302, 0x1301))))
    altered("one suite less", (ILLEGAL,), lambda h: h.part(suites=numbers((0x1301, 0x1302))))
    altered("two compression methods", (ILLEGAL,), lambda h: h.part(compression=b"\0\0"))
    altered("another server name", (ILLEGAL,), lambda h: h.set(t.SERVER_NAME, t.server_name(b"other.example.com")))
    altered("no server name", (ILLEGAL,), lambda h: h.drop(t.SERVER_NAME))
    altered("other groups", (ILLEGAL,), lambda h: h.set(t.GROUPS, vector(2, numbers((29, 24)))))
    altered("other signature algorithms", (ILLEGAL,), lambda h: h.set(t.SIGNATURES, b"\0\2\4\3"))
    altered("no supported_versions", (ILLEGAL, VERSION, MISSING, FAILURE), lambda h: h.drop(t.VERSIONS))
    altered("TLS 1.2", (ILLEGAL, VERSION), lambda h: h.set(t.VERSIONS, b"\2\3\3"))
    altered("TLS 1.2, too", (ILLEGAL,), lambda h: h.set(t.VERSIONS, b"\4\3\4\3\3"))
    altered("one extension more", (ILLEGAL,), lambda h: h.set(0x7777, b"x"))
    altered("another record_size_limit", (ILLEGAL,), lambda h: h.set(t.RECORD_SIZE_LIMIT, b"\1\0"))
    altered("a cookie that nobody gave", (ILLEGAL,), lambda h: h.set(t.COOKIE, b"\0\4abcd"))
    altered("early_data", (ILLEGAL,), lambda h: h.set(t.EARLY_DATA, b""))
    altered("malformed", (DECODE,), lambda h: h.part(tail=b"\0"))
    altered("a share of a group that was never offered", (ILLEGAL,), lambda h: h.set(
        t.KEY_SHARE, shares((t.P521, t.public_of(t.key_of(t.P521))))))

    def served_with(name, change):
        def act(p):
            asked(p)
            p.retry(change)
            p.server_hello()
            p.flight_13().finish_13().echo()
        RETRY.append((f"second ClientHello: {name}", SERVED, act))
    served_with("extensions in another order", lambda h: h.part(extensions=h.extensions[::-1]))
    served_with("padding added", lambda h: h.set(t.PADDING, bytes(100)))

    def no_hello(name, expected, act):
        def whole(p):
            asked(p)
            act(p)
        RETRY.append((f"after a HelloRetryRequest: {name}", expected, whole))
    no_hello("Finished", (UNEXPECTED,), lambda p: p.send(plain(t.HANDSHAKE, t.message(t.FINISHED, bytes(32)))))
    no_hello("data", (UNEXPECTED,), lambda p: p.send(plain(t.DATA, b"hello")))
    no_hello("a fatal alert", None, lambda p: p.send(plain(t.ALERT, b"\2\x28")))
    no_hello("close_notify", None, lambda p: p.send(plain(t.ALERT, b"\1\0")))
    no_hello("change_cipher_spec of value 2", (UNEXPECTED, ILLEGAL), lambda p: p.send(plain(t.CCS, b"\2")))


# ---- tickets

def ticket(p, version_13=True, **options):
    """A ticket of another connection to the same server."""
    other = t.Probe(p.socket.getpeername(), p.socket.gettimeout())
    try:
        hello = hello_13(**options) if version_13 else hello_12(**options).set(t.SESSION_TICKET, b"")
        other.establish(hello).echo()
    finally:
        other.close()
    t.need(other.tickets, "the server gives tickets")
    return other.tickets[0]


def resumed(p):
    return t.PSK in p.server["extensions"]


def psk(name, expected, act):
    def whole(p):
        act(p, ticket(p))
    TICKETS.append((name, expected, whole))


def use(p, hello, awaited):
    p.establish(hello)
    t.need(awaited is None or resumed(p) == awaited, f"resumed: {resumed(p)}")
    p.echo()


def flip(data, at=-1):
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1:]


def tickets_13():
    psk("a ticket resumes", SERVED, lambda p, k: use(p, p.offer(k), True))
    psk("a ticket with (EC)DHE or without", SERVED, lambda p, k: use(p, p.offer(k, modes=b"\0\1"), True))
    psk("a ticket without (EC)DHE alone", SERVED, lambda p, k: use(p, p.offer(k, modes=b"\0"), None))
    psk("a ticket with unknown modes alone", SERVED, lambda p, k: use(p, p.offer(k, modes=b"\x0b\x2a"), False))
    psk("a ticket that was changed", SERVED, lambda p, k: use(p, p.offer({**k, "ticket": flip(k["ticket"])}), False))
    psk("a ticket whose beginning was changed", SERVED,
        lambda p, k: use(p, p.offer({**k, "ticket": flip(k["ticket"], 3)}), False))
    psk("a ticket of one byte", SERVED, lambda p, k: use(p, p.offer({**k, "ticket": b"x"}), False))
    psk("a ticket of 30,000 random bytes", SERVED,
        lambda p, k: use(p, p.offer({**k, "ticket": os.urandom(30000)}), False))
    psk("a ticket twice in one offer", SERVED, lambda p, k: use(p, p.offer(k, identities=2), True))
    psk("a ticket for another server name", SERVED,
        lambda p, k: use(p, p.offer(k, hello_13(name=b"other.example.com")), None))
    psk("a ticket without a server name", SERVED, lambda p, k: use(p, p.offer(k, hello_13(name=None)), None))
    psk("a ticket with no suite of its hash", (FAILURE,), lambda p, k: p.start(p.offer(k, hello_13(suites=(0x1302,)))))
    psk("a ticket with another suite of the same hash", SERVED,
        lambda p, k: use(p, p.offer(k, hello_13(suites=(0x1303,))), None))
    psk("a ticket with another protocol", SERVED,
        lambda p, k: use(p, p.offer(k, hello_13().set(t.ALPN, vector(2, b"\2h2"))), None))

    def again(p, k):
        use(p, p.offer(k), True)
        other = t.Probe(p.socket.getpeername(), p.socket.gettimeout())
        try:
            use(other, other.offer(k), None)
        finally:
            other.close()
    psk("a ticket used twice", SERVED, again)

    def retried(p, k):
        hello = hello_13(offered=())
        p.start(p.offer(k, hello)).server_hello()
        p.retry(ticket=k)
        p.server_hello()
        t.need(resumed(p), "resumed")
        p.flight_13().finish_13().echo()
    psk("a ticket and a HelloRetryRequest", SERVED, retried)
    for name, binder, expected in (("wrong", flip, (DECRYPT, ILLEGAL)), ("wrong in its first byte", lambda b: flip(b, 0), (DECRYPT, ILLEGAL)),
                                   ("of zeros", lambda b: bytes(len(b)), (DECRYPT, ILLEGAL)),
                                   ("of 31 bytes", lambda b: b[:-1], (DECODE, DECRYPT, ILLEGAL)),
                                   ("of 33 bytes", lambda b: b + b"x", (DECRYPT, ILLEGAL)),
                                   ("empty", lambda b: b"", (DECODE, ILLEGAL))):
        psk(f"a binder that is {name}", expected, lambda p, k, binder=binder: p.start(p.offer(k, binder=binder)))
    psk("a ticket without psk_key_exchange_modes", (MISSING,), lambda p, k: p.start(p.offer(k, modes=None)))
    psk("a ticket with no modes", (DECODE, ILLEGAL), lambda p, k: p.start(p.offer(k, modes=b"")))

    def rewritten(name, expected, change):
        def act(p, k):
            hello = p.offer(k)
            hello.extensions[-1] = (t.PSK, change(hello.get(t.PSK), k))
            p.start(hello)
        psk(f"pre_shared_key: {name}", expected, act)
    rewritten("no body", (DECODE, ILLEGAL), lambda body, k: b"")
    rewritten("no identities", (DECODE, ILLEGAL), lambda body, k: b"\0\0" + vector(2, vector(1, bytes(32))))
    rewritten("no binders", (DECODE, ILLEGAL), lambda body, k: body[:2 + int.from_bytes(body[:2], "big")] + b"\0\0")
    rewritten("no list of binders", (DECODE, ILLEGAL), lambda body, k: body[:2 + int.from_bytes(body[:2], "big")])
    rewritten("an empty identity", (DECODE, ILLEGAL), lambda body, k: vector(2, b"\0\0" + bytes(4)) + body[-35:])
    rewritten("two binders for one identity", (ILLEGAL, DECODE, DECRYPT), lambda body, k: body[:-35] + vector(2, body[-33:] * 2))
    rewritten("one binder for two identities", (ILLEGAL, DECODE, DECRYPT),
              lambda body, k: vector(2, body[2:-35] * 2) + body[-35:])
    rewritten("trailing bytes", (DECODE, ILLEGAL, DECRYPT), lambda body, k: body + b"\0")
    rewritten("an identity that is cut", (DECODE, ILLEGAL), lambda body, k: body[:20])

    def not_last(p, k):
        hello = p.offer(k)
        hello.extensions.insert(1, hello.extensions.pop())
        p.start(hello)
    psk("pre_shared_key is not the last", (ILLEGAL,), not_last)

    def twice(p, k):
        hello = p.offer(k)
        hello.extensions.append(hello.extensions[-1])
        p.start(hello)
    psk("pre_shared_key twice", (ILLEGAL, DECODE), twice)
    TICKETS.append(("an identity that the server never gave", SERVED, lambda p: use(p, p.offer(
        {"ticket": os.urandom(64), "add": 0, "suite": 0x1301, "psk": bytes(32)}), False)))
    psk("a ticket of TLS 1.3 with TLS 1.2", SERVED, lambda p, k: stale(p, k["ticket"]))

    def crossed(p):
        old = ticket(p, False)
        use(p, p.offer({"ticket": old["ticket"], "add": 0, "suite": 0x1301, "psk": bytes(32)}), False)
    TICKETS.append(("a ticket of TLS 1.2 with TLS 1.3", SERVED, crossed))
    for suite in t.SUITES_13:
        TICKETS.append((f"a ticket of suite {suite:#06x}", SERVED, lambda p, suite=suite: use(
            p, p.offer(ticket(p, suites=(suite,)), hello_13(suites=(suite,))), True)))


def stale(p, bytes_of_ticket):
    p.establish(hello_12().set(t.SESSION_TICKET, bytes_of_ticket)).echo()
    t.need(p.server["session"] != p.hello.session or not p.hello.session, "a full handshake")


def tickets_12():
    def resume(name, awaited, change=lambda k: k, hello=hello_12):
        def act(p):
            k = change(ticket(p, False))
            got = p.resume_12(k, hello())
            t.need(awaited is None or got == awaited, f"resumed: {got}")
            p.echo()
        TICKETS.append((f"{name}, TLS 1.2", SERVED, act))
    resume("a ticket resumes", True)
    resume("a ticket with another server name", None, hello=lambda: hello_12(name=b"other.example.com"))
    resume("a ticket without a server name", None, hello=lambda: hello_12(name=None))
    resume("a ticket that was changed", False, lambda k: {**k, "ticket": flip(k["ticket"])})
    resume("a ticket that was cut", False, lambda k: {**k, "ticket": k["ticket"][:-1]})
    TICKETS.append(("a ticket whose suite is not offered any more, TLS 1.2", (ILLEGAL, FAILURE), lambda p: p.resume_12(
        ticket(p, False), hello_12(suites=(0xc02c,)))))

    def without(p):
        k = ticket(p, False)
        p.start(hello_12().drop(t.MASTER_SECRET).part(session=os.urandom(32)).set(t.SESSION_TICKET, k["ticket"]))
        p.server_hello()
        t.need(p.server["session"] != p.hello.session, "RFC 7627 section 5.3: never resumed without the extension")
        p.flight_12().finish_12().echo()
    TICKETS.append(("a ticket without extended_master_secret, which its session had", SERVED, without))

    def wrong(p):
        k = ticket(p, False)
        p.start(hello_12().part(session=os.urandom(32)).set(t.SESSION_TICKET, k["ticket"]))
        p.server_hello()
        p.algorithm, p.master = "sha256", k["master"]
        p.keys_12()
        p.open_12()
        p.writing = p.ready[0]
        p.send(plain(t.CCS, b"\1"), p.seal(t.HANDSHAKE, flip(p.finished_12())))
    TICKETS.append(("a ticket and a wrong Finished, TLS 1.2", (DECRYPT,), wrong))


register((HELLO, EXTENSIONS, SHARES, RETRY, TICKETS),
         (truncations, "RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2"),
         (lengths, "RFC 8446 sections 4.1.2 and 6.2"),
         (fields, "RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2"),
         (versions, "RFC 8446 sections 4.1.3 and 4.2.1, appendix D"),
         (suites, "RFC 8446 section 4.1.1, RFC 5246 section 7.4.1.3, RFC 7507, RFC 5746 section 3.6"),
         (extension_rules, "RFC 8446 sections 4.2 and 9.2, RFC 8701"),
         (server_names, "RFC 6066 section 3"),
         (lists, "RFC 8446 sections 4.2.3 and 4.2.7, RFC 8422 section 5.1.1"),
         (small_ones, "RFC 7627, RFC 5746 section 3.6, RFC 8422 section 5.1.2, RFC 7301, RFC 8446 section 4.2"),
         (size_limits, "RFC 8449 sections 4 and 5, RFC 6066 section 4"),
         (key_shares, "RFC 8446 section 4.2.8"),
         (retries, "RFC 8446 sections 4.1.2 and 4.1.4"),
         (tickets_13, "RFC 8446 sections 4.2.9 and 4.2.11"),
         (tickets_12, "RFC 5077 section 3, RFC 7627 section 5.3"))
