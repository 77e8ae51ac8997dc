"""A TLS client for tests that has every byte in its hand: ClientHello, key schedule, records. It speaks TLS 1.3 (RFC
8446) and 1.2 (RFC 5246) well enough to be served, checks what the server proves, and can break any rule on purpose.
What the server does is told by exceptions: Alert and Ended. Nothing here is fit for anything but tests."""
import hashlib
import hmac
import os
import socket
import struct

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
(CLIENT_HELLO, SERVER_HELLO, TICKET, ENCRYPTED_EXTENSIONS, CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST,
 SERVER_HELLO_DONE, CERTIFICATE_VERIFY, CLIENT_KEY_EXCHANGE, FINISHED, KEY_UPDATE) = \
    1, 2, 4, 8, 11, 12, 13, 14, 15, 16, 20, 24

(SERVER_NAME, MAX_FRAGMENT_LENGTH, STATUS_REQUEST, GROUPS, POINT_FORMATS, SIGNATURES, ALPN, PADDING, ENCRYPT_THEN_MAC,
 MASTER_SECRET, RECORD_SIZE_LIMIT, SESSION_TICKET, PSK, EARLY_DATA, VERSIONS, COOKIE, PSK_MODES, POST_HANDSHAKE_AUTH,
 KEY_SHARE, RENEGOTIATION) = \
    0, 1, 5, 10, 11, 13, 16, 21, 22, 23, 28, 35, 41, 42, 43, 44, 45, 49, 51, 0xff01

X25519, X448, P256, P384, P521 = 29, 30, 23, 24, 25
CURVES = {P256: ec.SECP256R1, P384: ec.SECP384R1, P521: ec.SECP521R1}

# Suites: bytes of the key, hash, cipher.
SUITES = {0x1301: (16, "sha256", AESGCM), 0x1302: (32, "sha384", AESGCM), 0x1303: (32, "sha256", ChaCha20Poly1305),
          0xc02b: (16, "sha256", AESGCM), 0xc02c: (32, "sha384", AESGCM), 0xcca9: (32, "sha256", ChaCha20Poly1305),
          0xc02f: (16, "sha256", AESGCM), 0xc030: (32, "sha384", AESGCM), 0xcca8: (32, "sha256", ChaCha20Poly1305)}
SUITES_13 = (0x1301, 0x1302, 0x1303)
SUITES_12 = (0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8)

RETRY_RANDOM = hashlib.sha256(b"HelloRetryRequest").digest()
GREASE = tuple(0x0a0a + 0x1010 * i for i in range(16))  # RFC 8701


class Alert(Exception):
    """The server has sent an alert other than close_notify."""

    def __init__(self, level, description):
        super().__init__(f"alert {description}, level {level}")
        self.level = level
        self.description = description


class Ended(Exception):
    """The server sends no more: "close_notify", "fin" or "reset"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Broken(AssertionError):
    """The server has broken the protocol."""


def need(condition, what):
    if not condition:
        raise Broken(what)


# ------------------------------------------------------------------------------------------------ encoding

def number(value, size):
    return value.to_bytes(size, "big")


def vector(size, data):
    return number(len(data), size) + data


def numbers(values, size=2):
    return b"".join(number(value, size) for value in values)


def message(kind, body):
    return number(kind, 1) + vector(3, body)


def plain(kind, data, version=0x0303):
    """A record in clear."""
    return number(kind, 1) + number(version, 2) + vector(2, data)


def shares(*pairs):
    """The body of a client's key_share extension."""
    return vector(2, b"".join(number(group, 2) + vector(2, key) for group, key in pairs))


def server_name(name, kind=0):
    return vector(2, number(kind, 1) + vector(2, name))


class Reader:
    """Takes a message apart."""

    def __init__(self, data):
        self.data = data

    def take(self, length):
        need(len(self.data) >= length, "a message of the server's is too short")
        part, self.data = self.data[:length], self.data[length:]
        return part

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def vector(self, size):
        return self.take(self.number(size))


def extensions_of(data):
    found, reader = {}, Reader(data)
    while reader.data:
        kind = reader.number(2)
        need(kind not in found, f"the server sends extension {kind} twice")
        found[kind] = reader.vector(2)
    return found


class Hello:
    """A ClientHello whose parts may be anything. `extensions` is a list of pairs."""

    def __init__(self, **parts):
        self.version = 0x0303
        self.random = os.urandom(32)
        self.session = os.urandom(32)
        self.suites = numbers(SUITES_13 + SUITES_12)
        self.compression = b"\0"
        self.extensions = []
        self.keys = {}
        self.tail = b""  # behind the extensions
        self.__dict__.update(parts)

    def set(self, kind, body):
        """Replaces an extension or adds it before pre_shared_key."""
        for at, (each, _) in enumerate(self.extensions):
            if each == kind:
                self.extensions[at] = (kind, body)
                return self
        at = len(self.extensions)
        if at and self.extensions[-1][0] == PSK:
            at -= 1
        self.extensions.insert(at, (kind, body))
        return self

    def drop(self, *kinds):
        self.extensions = [each for each in self.extensions if each[0] not in kinds]
        return self

    def get(self, kind):
        return dict(self.extensions)[kind]

    def part(self, **parts):
        self.__dict__.update(parts)
        return self

    def body(self):
        extensions = b"".join(number(kind, 2) + vector(2, body) for kind, body in self.extensions)
        return (number(self.version, 2) + self.random + vector(1, self.session) + vector(2, self.suites) +
                vector(1, self.compression) + (vector(2, extensions) if self.extensions else b"") + self.tail)

    def message(self):
        return message(CLIENT_HELLO, self.body())


def key_of(group):
    """A fresh private key."""
    if group == X25519:
        return x25519.X25519PrivateKey.generate()
    if group == X448:
        return x448.X448PrivateKey.generate()
    return ec.generate_private_key(CURVES[group]())


def public_of(key):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.public_key().public_bytes(serialization.Encoding.X962,
                                             serialization.PublicFormat.UncompressedPoint)
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def agree(key, peer):
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(key.curve, peer))
    if isinstance(key, x25519.X25519PrivateKey):
        return key.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
    return key.exchange(x448.X448PublicKey.from_public_bytes(peer))


SIGNATURES_ALL = (0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601)


def hello_13(groups=(X25519, P256, P384), offered=(X25519,), suites=SUITES_13, name=b"localhost"):
    """What a client of TLS 1.3 alone would send."""
    hello = Hello(suites=numbers(suites))
    hello.keys = {group: key_of(group) for group in offered}
    if name is not None:
        hello.set(SERVER_NAME, server_name(name))
    hello.set(VERSIONS, vector(1, numbers([0x0304])))
    hello.set(GROUPS, vector(2, numbers(groups)))
    hello.set(SIGNATURES, vector(2, numbers(SIGNATURES_ALL)))
    hello.set(KEY_SHARE, shares(*((group, public_of(key)) for group, key in hello.keys.items())))
    return hello


def hello_12(groups=(X25519, P256, P384), suites=SUITES_12, name=b"localhost"):
    """What a good client of TLS 1.2 would send."""
    hello = Hello(suites=numbers(suites), session=b"")
    if name is not None:
        hello.set(SERVER_NAME, server_name(name))
    hello.set(GROUPS, vector(2, numbers(groups)))
    hello.set(POINT_FORMATS, vector(1, b"\0"))
    hello.set(SIGNATURES, vector(2, numbers(SIGNATURES_ALL)))
    hello.set(MASTER_SECRET, b"")
    hello.set(RENEGOTIATION, vector(1, b""))
    return hello


# ------------------------------------------------------------------------------------------------ keys

def expand(algorithm, secret, info, length):
    made, last, count = b"", b"", 0
    while len(made) < length:
        count += 1
        last = hmac.digest(secret, last + info + bytes([count]), algorithm)
        made += last
    return made[:length]


def expand_label(algorithm, secret, label, context, length):
    return expand(algorithm, secret, number(length, 2) + vector(1, b"tls13 " + label) + vector(1, context), length)


def derive(algorithm, secret, label, transcript):
    digest = hashlib.new(algorithm, transcript).digest()
    return expand_label(algorithm, secret, label, digest, len(digest))


def prf_12(algorithm, secret, label, seed, length):
    made, step = b"", label + seed
    while len(made) < length:
        step = hmac.digest(secret, step, algorithm)
        made += hmac.digest(secret, step + label + seed, algorithm)
    return made[:length]


class Protection:
    """One direction of a connection: key, nonce, number of the next record."""

    def __init__(self, suite, version_13, secret=None, key=None, nonce=None):
        self.suite = suite
        self.version_13 = version_13
        self.number = 0
        self.secret = secret
        if version_13:
            size, algorithm, cipher = SUITES[suite]
            key = expand_label(algorithm, secret, b"key", b"", size)
            nonce = expand_label(algorithm, secret, b"iv", b"", 12)
        self.cipher = SUITES[suite][2](key)
        self.fixed = nonce

    def next(self):
        algorithm = SUITES[self.suite][1]
        size = hashlib.new(algorithm).digest_size
        return Protection(self.suite, True, expand_label(algorithm, self.secret, b"traffic upd", b"", size))

    def nonce(self, explicit):
        if explicit is not None:
            return self.fixed + explicit
        return bytes(a ^ b for a, b in zip(self.fixed, number(self.number, 12)))

    @property
    def explicit(self):
        return not self.version_13 and self.cipher.__class__ is AESGCM

    def seal(self, kind, data, version=0x0303, zeros=0, outer=DATA):
        """A whole record. In TLS 1.3 `kind` None leaves the content type out."""
        if self.version_13:
            inner = data + (b"" if kind is None else bytes([kind])) + bytes(zeros)
            header = number(outer, 1) + number(version, 2) + number(len(inner) + 16, 2)
            body = self.cipher.encrypt(self.nonce(None), inner, header)
        else:
            header = number(kind, 1) + number(version, 2)
            explicit = number(self.number, 8) if self.explicit else None
            body = self.cipher.encrypt(self.nonce(explicit), data, number(self.number, 8) + header + number(len(data), 2))
            body = (explicit or b"") + body
            header += number(len(body), 2)
        self.number += 1
        return header + body

    def open(self, header, body):
        """Content type and content."""
        if self.version_13:
            inner = self.cipher.decrypt(self.nonce(None), body, header).rstrip(b"\0")
            self.number += 1
            need(inner, "the server has sent a record without a content type")
            return inner[-1], inner[:-1]
        explicit, sealed = (body[:8], body[8:]) if self.explicit else (None, body)
        data = self.cipher.decrypt(self.nonce(explicit), sealed,
                                   number(self.number, 8) + header[:3] + number(len(sealed) - 16, 2))
        self.number += 1
        return header[0], data


def check_signature(certificate, scheme, signed, signature):
    key = x509.load_der_x509_certificate(certificate).public_key()
    algorithm = {4: hashes.SHA256, 5: hashes.SHA384, 6: hashes.SHA512}[scheme >> 8 if scheme >> 8 != 8 else scheme & 0xf]()
    if isinstance(key, rsa.RSAPublicKey):
        scheme_padding = (padding.PSS(padding.MGF1(algorithm), algorithm.digest_size) if scheme >> 8 == 8
                          else padding.PKCS1v15())
        key.verify(signature, signed, scheme_padding, algorithm)
    else:
        key.verify(signature, signed, ec.ECDSA(algorithm))


# ------------------------------------------------------------------------------------------------ the connection

class Probe:
    """One connection. What is sent in clear or under keys is up to the caller; reading follows the keys that are in
    force. `timeout` is for each read and write."""

    def __init__(self, address, timeout=10):
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = b""
        self.reading = None
        self.writing = None
        self.messages = b""  # of the server, not yet taken
        self.transcript = b""
        self.tickets = []
        self.record_sizes = []  # plaintext of the server's records under application keys
        self.established = False
        self.compatible = True  # sends a change_cipher_spec before its Finished of TLS 1.3
        self.saw_ccs = False
        self.key_updates = 0
        self.saw_retry = False
        self.ready = None  # both directions of TLS 1.2
        self.hello = self.server = self.psk = None

    def close(self):
        self.socket.close()

    # ---- records

    def send(self, *pieces):
        self.socket.sendall(b"".join(pieces))

    def seal(self, kind, data, **options):
        """A record under the keys in force, or in clear if there are none."""
        if self.writing is None:
            return plain(kind, data, options.get("version", 0x0303))
        return self.writing.seal(kind, data, **options)

    def put(self, kind, data, **options):
        self.send(self.seal(kind, data, **options))

    def fill(self, length):
        while len(self.input) < length:
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError:
                raise Ended("reset") from None
            if not part:
                if self.input:
                    raise Broken("the connection ends within a record")
                raise Ended("fin")
            self.input += part

    def record(self):
        """The server's next record, decrypted; alerts are raised."""
        self.fill(5)
        header = self.input[:5]
        kind, length = header[0], int.from_bytes(header[3:], "big")
        need(header[1] == 3 and header[2] in (1, 3), f"a record's version is {header[1:3].hex()}")
        need(length <= 16384 + 256, "a record is too long")
        self.fill(5 + length)
        body, self.input = self.input[5:5 + length], self.input[5 + length:]
        if self.reading is not None and not (kind == CCS and self.reading.version_13 and not self.established):
            kind, body = self.reading.open(header, body)
        need(len(body) <= 16384, "a record's content is too long")
        if kind == CCS and self.ready is not None and self.reading is None:
            need(body == b"\1", "change_cipher_spec")
            self.reading = self.ready[1]
        if kind == ALERT:
            need(len(body) == 2, "an alert has two bytes")
            if body[1] == 0:
                raise Ended("close_notify")
            raise Alert(*body)
        if self.established and kind == DATA:
            self.record_sizes.append(len(body))
        return kind, body

    def next_message(self):
        """Type and body of the server's next handshake message; a change_cipher_spec of TLS 1.3 is skipped."""
        while len(self.messages) < 4 or len(self.messages) < 4 + int.from_bytes(self.messages[1:4], "big"):
            kind, body = self.record()
            if kind == CCS and self.server and self.server["version"] == 0x0304:
                need(body == b"\1" and not self.saw_ccs, "one change_cipher_spec, of value 1")
                self.saw_ccs = True
                continue
            need(kind == HANDSHAKE, f"a record of type {kind} where a handshake message is awaited")
            need(body, "an empty handshake record")
            self.messages += body
        length = 4 + int.from_bytes(self.messages[1:4], "big")
        whole, self.messages = self.messages[:length], self.messages[length:]
        self.transcript += whole
        return whole[0], whole[4:]

    def expect(self, kind):
        found, body = self.next_message()
        need(found == kind, f"message {found} where {kind} is awaited")
        return body

    # ---- handshake, both versions

    def start(self, hello, version=0x0301):
        self.begin(hello)
        whole = hello.message()
        self.send(*(plain(HANDSHAKE, whole[at:at + 16384], version) for at in range(0, len(whole), 16384)))
        return self

    def begin(self, hello):
        """Takes note of a ClientHello that the caller sends."""
        self.hello = hello
        self.transcript += hello.message()

    def server_hello(self):
        body = Reader(self.expect(SERVER_HELLO))
        version, random, session = body.number(2), body.take(32), body.vector(1)
        suite, compression = body.number(2), body.number(1)
        extensions = extensions_of(body.vector(2)) if body.data else {}
        need(not body.data, "bytes behind the ServerHello")
        need(version == 0x0303 and compression == 0, "legacy fields of the ServerHello")
        if VERSIONS in extensions:
            version = int.from_bytes(extensions[VERSIONS], "big")
            need(session == self.hello.session, "the session id is echoed")
            need(set(extensions) <= {VERSIONS, KEY_SHARE, PSK, COOKIE}, f"extensions of the ServerHello: {extensions}")
        for kind in extensions:
            offered = [each for each, _ in self.hello.extensions]
            need(kind in offered or kind == COOKIE or (kind == RENEGOTIATION and b"\0\xff" in self.hello.suites),
                 f"extension {kind} was not offered")
        need(number(suite, 2) in [self.hello.suites[i:i + 2] for i in range(0, len(self.hello.suites), 2)],
             "the suite was not offered")
        self.server = {"version": version, "random": random, "session": session, "suite": suite,
                       "extensions": extensions, "retry": random == RETRY_RANDOM}
        return self.server

    def retry(self, change=None, ticket=None):
        """Answers a HelloRetryRequest with what it asks for, and with the ticket that was offered before, if any."""
        need(self.server["retry"], "a HelloRetryRequest is awaited")
        algorithm = SUITES[self.server["suite"]][1]
        length = 4 + len(self.hello.body())
        first = hashlib.new(algorithm, self.transcript[:length]).digest()
        self.transcript = message(254, first) + self.transcript[length:]
        group = int.from_bytes(self.server["extensions"][KEY_SHARE], "big")
        need(group not in self.hello.keys, "a group is asked for that a share was sent of")
        hello = self.hello
        hello.keys = {group: key_of(group)}
        hello.set(KEY_SHARE, shares((group, public_of(hello.keys[group]))))
        hello.drop(EARLY_DATA)
        if COOKIE in self.server["extensions"]:
            hello.set(COOKIE, self.server["extensions"][COOKIE])
        if ticket is not None:
            self.offer(ticket, hello)
        if change is not None:
            change(hello)
        self.saw_retry = True
        if self.compatible:
            self.send(plain(CCS, b"\1"))
        return self.start(hello, 0x0303)

    # ---- TLS 1.3

    def flight_13(self):
        """From a ServerHello that is no retry to the server's Finished; then the handshake keys are in force."""
        server = self.server
        need(server["version"] == 0x0304 and not server["retry"], "TLS 1.3 is awaited")
        algorithm = SUITES[server["suite"]][1]
        size = hashlib.new(algorithm).digest_size
        psk = bytes(size)
        if PSK in server["extensions"]:
            need(server["extensions"][PSK] == b"\0\0" and self.psk is not None, "the PSK was not offered")
            psk = self.psk
        share = bytes(size)
        if KEY_SHARE in server["extensions"]:
            reader = Reader(server["extensions"][KEY_SHARE])
            share = agree(self.hello.keys[reader.number(2)], reader.vector(2))
        early = hmac.digest(bytes(size), psk, algorithm)
        handshake = hmac.digest(derive(algorithm, early, b"derived", b""), share, algorithm)
        self.client_secret = derive(algorithm, handshake, b"c hs traffic", self.transcript)
        server_secret = derive(algorithm, handshake, b"s hs traffic", self.transcript)
        self.master = hmac.digest(derive(algorithm, handshake, b"derived", b""), bytes(size), algorithm)
        self.reading = Protection(server["suite"], True, server_secret)
        self.encrypted = extensions_of(Reader(self.expect(ENCRYPTED_EXTENSIONS)).vector(2))
        for kind in self.encrypted:
            need(kind in [each for each, _ in self.hello.extensions], f"encrypted extension {kind} was not offered")
            need(kind not in (VERSIONS, KEY_SHARE, PSK, MASTER_SECRET, RENEGOTIATION, SESSION_TICKET, POINT_FORMATS,
                              SIGNATURES), f"extension {kind} is not for EncryptedExtensions")
        if PSK not in server["extensions"]:
            self.prove_13(algorithm)
        before = self.transcript
        finished = self.expect(FINISHED)
        key = expand_label(algorithm, server_secret, b"finished", b"", size)
        need(finished == hmac.digest(key, hashlib.new(algorithm, before).digest(), algorithm), "the server's Finished")
        need(not self.messages, "bytes behind the server's Finished")
        self.algorithm = algorithm
        self.secrets = [derive(algorithm, self.master, label, self.transcript)
                        for label in (b"c ap traffic", b"s ap traffic")]
        self.writing = Protection(server["suite"], True, self.client_secret)
        self.reading = Protection(server["suite"], True, self.secrets[1])
        return self

    def prove_13(self, algorithm):
        body = Reader(self.expect(CERTIFICATE))
        need(body.vector(1) == b"", "the context of a server's certificate is empty")
        entries = Reader(body.vector(3))
        leaf = entries.vector(3)
        before = self.transcript
        body = Reader(self.expect(CERTIFICATE_VERIFY))
        scheme, signature = body.number(2), body.vector(2)
        signed = (b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + hashlib.new(algorithm, before).digest())
        check_signature(leaf, scheme, signed, signature)

    def finished_13(self):
        """The client's Finished."""
        size = hashlib.new(self.algorithm).digest_size
        key = expand_label(self.algorithm, self.client_secret, b"finished", b"", size)
        digest = hashlib.new(self.algorithm, self.transcript).digest()
        return message(FINISHED, hmac.digest(key, digest, self.algorithm))

    def open_13(self):
        """After the client's Finished: application keys."""
        self.transcript += self.finished_13()
        self.resumption = derive(self.algorithm, self.master, b"res master", self.transcript)
        self.writing = Protection(self.server["suite"], True, self.secrets[0])
        self.established = True
        return self

    def finish_13(self):
        first = plain(CCS, b"\1") if self.compatible and not self.saw_retry else b""
        self.send(first, self.seal(HANDSHAKE, self.finished_13()))
        return self.open_13()

    def until_flight(self, hello=None):
        """To where the client's Finished is due."""
        self.start(hello or hello_13())
        if self.server_hello()["version"] == 0x0304:
            if self.server["retry"]:
                self.retry()
                self.server_hello()
            return self.flight_13()
        return self.flight_12()

    def establish(self, hello=None):
        """A whole handshake, in the version that the server chooses."""
        self.until_flight(hello)
        return self.finish_13() if self.server["version"] == 0x0304 else self.finish_12()

    # ---- TLS 1.2

    def flight_12(self):
        """From the ServerHello to ServerHelloDone."""
        need(self.server["version"] == 0x0303, "TLS 1.2 is awaited")
        body = Reader(Reader(self.expect(CERTIFICATE)).vector(3))
        leaf = body.vector(3)
        exchange = Reader(self.expect(SERVER_KEY_EXCHANGE))
        whole = exchange.data
        need(exchange.number(1) == 3, "a named curve")
        group, share = exchange.number(2), exchange.vector(1)
        signed = self.hello.random + self.server["random"] + whole[:len(whole) - len(exchange.data)]
        scheme, signature = exchange.number(2), exchange.vector(2)
        check_signature(leaf, scheme, signed, signature)
        need(self.expect(SERVER_HELLO_DONE) == b"", "ServerHelloDone is empty")
        self.algorithm = SUITES[self.server["suite"]][1]
        self.key = key_of(group)
        self.premaster = agree(self.key, share)
        return self

    def exchange_12(self):
        """ClientKeyExchange; the keys that follow from it are ready, not in force."""
        exchange = message(CLIENT_KEY_EXCHANGE, vector(1, public_of(self.key)))
        self.transcript += exchange
        if MASTER_SECRET in self.server["extensions"]:
            digest = hashlib.new(self.algorithm, self.transcript).digest()
            self.master = prf_12(self.algorithm, self.premaster, b"extended master secret", digest, 48)
        else:
            self.master = prf_12(self.algorithm, self.premaster, b"master secret",
                                 self.hello.random + self.server["random"], 48)
        self.keys_12()
        return exchange

    def keys_12(self):
        size, _, cipher = SUITES[self.server["suite"]]
        fixed = 4 if cipher is AESGCM else 12
        block = prf_12(self.algorithm, self.master, b"key expansion", self.server["random"] + self.hello.random,
                       2 * size + 2 * fixed)
        suite = self.server["suite"]
        self.ready = [Protection(suite, False, key=block[i * size:][:size],
                                 nonce=block[2 * size + i * fixed:][:fixed]) for i in (0, 1)]

    def finished_12(self, label=b"client finished"):
        digest = hashlib.new(self.algorithm, self.transcript).digest()
        return message(FINISHED, prf_12(self.algorithm, self.master, label, digest, 12))

    def finish_12(self):
        self.send(plain(HANDSHAKE, self.exchange_12()), plain(CCS, b"\1"))
        self.writing = self.ready[0]
        finished = self.finished_12()
        self.put(HANDSHAKE, finished)
        self.transcript += finished
        return self.open_12()

    def open_12(self):
        """The server's answer to the client's Finished."""
        while True:
            kind, body = self.record()
            if kind == CCS:
                break
            need(kind == HANDSHAKE, "a ticket is all that may come")
            self.messages += body
            kind, body = self.next_message()
            need(kind == TICKET and SESSION_TICKET in self.server["extensions"], "a ticket that was announced")
            self.tickets.append({"ticket": body[6:], "master": self.master, "suite": self.server["suite"]})
        awaited = self.finished_12(b"server finished")
        need(message(*self.next_message()) == awaited, "the server's Finished")
        self.established = True
        return self

    def resume_12(self, ticket, hello=None):
        """A ticket of TLS 1.2 is presented; True when the server takes it."""
        hello = hello or hello_12()
        hello.session = hello.session or os.urandom(32)
        self.start(hello.set(SESSION_TICKET, ticket["ticket"]))
        self.server_hello()
        if self.server["session"] != hello.session:
            self.flight_12().finish_12()
            return False
        self.algorithm = SUITES[self.server["suite"]][1]
        self.master = ticket["master"]
        self.keys_12()
        self.open_12()
        self.established = False
        self.writing = self.ready[0]
        self.send(plain(CCS, b"\1"), self.seal(HANDSHAKE, self.finished_12()))
        self.established = True
        return True

    # ---- TLS 1.3 tickets

    def take_ticket(self, body):
        reader = Reader(body)
        lifetime, add, nonce, ticket = reader.number(4), reader.number(4), reader.vector(1), reader.vector(2)
        need(0 < lifetime <= 604800 and ticket, "a ticket's lifetime is at most 7 days")
        size = hashlib.new(self.algorithm).digest_size
        self.tickets.append({"ticket": ticket, "add": add, "suite": self.server["suite"],
                             "psk": expand_label(self.algorithm, self.resumption, b"resumption", nonce, size)})

    def offer(self, ticket, hello=None, *, modes=b"\1", age=0, binder=None, identities=1):
        """Adds a ticket of TLS 1.3 to a ClientHello. `binder` changes the binder."""
        hello = hello or hello_13()
        algorithm = SUITES[ticket["suite"]][1]
        size = hashlib.new(algorithm).digest_size
        self.psk = ticket["psk"]
        if modes is not None:
            hello.set(PSK_MODES, vector(1, modes))
        identity = vector(2, ticket["ticket"]) + number((ticket["add"] + age) & 0xffffffff, 4)
        hello.drop(PSK)
        hello.extensions.append((PSK, vector(2, identity * identities) + vector(2, vector(1, bytes(size)) * identities)))
        binders = 2 + identities * (1 + size)
        early = hmac.digest(bytes(size), self.psk, algorithm)
        key = expand_label(algorithm, derive(algorithm, early, b"res binder", b""), b"finished", b"", size)
        digest = hashlib.new(algorithm, self.transcript + hello.message()[:-binders]).digest()
        made = hmac.digest(key, digest, algorithm)
        made = binder(made) if binder is not None else made
        hello.extensions[-1] = (PSK, vector(2, identity * identities) + vector(2, vector(1, made) * identities))
        return hello

    # ---- established

    def take_post_handshake(self, body):
        self.messages += body
        while len(self.messages) >= 4 and len(self.messages) >= 4 + int.from_bytes(self.messages[1:4], "big"):
            kind, content = self.next_message()
            need(self.server["version"] == 0x0304, "no handshake message may come now")
            if kind == TICKET:
                self.take_ticket(content)
            else:
                need(kind == KEY_UPDATE and content in (b"\0", b"\1"), f"message {kind} after the handshake")
                need(not self.messages, "a KeyUpdate must end its record")
                self.key_updates += 1
                self.reading = self.reading.next()

    def data(self):
        """The next bytes of data that are not empty."""
        while True:
            kind, body = self.record()
            if kind == DATA and body:
                need(not self.messages, "data within a handshake message")
                return body
            if kind == HANDSHAKE:
                self.take_post_handshake(body)
            else:
                need(kind == DATA, f"a record of type {kind}")

    def receive(self, length):
        data = b""
        while len(data) < length:
            data += self.data()
        need(len(data) == length, "more data than was sent")
        return data

    def echo(self, data=b"are you there?"):
        for start in range(0, len(data), 16384):
            part = data[start:start + 16384]
            self.put(DATA, part)
            need(self.receive(len(part)) == part, "what came back is not what was sent")
        return self

    def update(self, request=0, body=None):
        """A KeyUpdate; our next record is under the new key."""
        self.put(HANDSHAKE, message(KEY_UPDATE, bytes([request]) if body is None else body))
        self.writing = self.writing.next()
        return self

    def end(self):
        """All that comes until the end: how that is."""
        try:
            while True:
                kind, body = self.record()
                if kind == HANDSHAKE and self.established:
                    self.take_post_handshake(body)
        except Ended as ended:
            return ended.how

    def silence(self):
        """How it ends when nothing more may come: "fin" or "reset"; else what came."""
        try:
            return f"{len(self.socket.recv(1))} byte more" if self.input or self.socket.recv(1) else "fin"
        except ConnectionResetError:
            return "reset"
