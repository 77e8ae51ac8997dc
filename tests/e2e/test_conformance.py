"""TLS by the book: each probe is a client that keeps or breaks one rule of an RFC, and tells what the edge does about it.
The tables are in probes_*.py; the client with every byte in its hand is tls_probe.py. A probe that fails is told with its
name, the section that demands it, what is due and what came; all probes of a table run, whatever fails."""
import collections
import contextlib
import os
import time

import harness
import probes_established
import probes_handshake
import probes_hello
import tls_probe
from harness import Case, patience

ALERT_NAMES = {10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", 40: "handshake_failure",
               47: "illegal_parameter", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
               70: "protocol_version", 80: "internal_error", 86: "inappropriate_fallback", 100: "no_renegotiation",
               109: "missing_extension", 112: "unrecognized_name", 116: "certificate_required",
               120: "no_application_protocol"}
QUIET = ("ended fin", "ended reset", "ended close_notify")
ONLY = os.environ.get("TRUNKLINE_PROBES", "")  # runs only the probes whose names have this text


def told(outcome):
    return f"alert {ALERT_NAMES.get(outcome, outcome)}" if isinstance(outcome, int) else outcome


def outcome_of(address, probe):
    """"served", an alert's number, "ended HOW", or in words what the server has done wrong."""
    connection = tls_probe.Probe(address, 10 * patience())
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            probe.act(connection)
            if probe.expected == probes_hello.SERVED:
                return probes_hello.SERVED
        return f"ended {connection.end()}"
    except tls_probe.Alert as alert:
        if alert.level != 2:
            return f"alert {alert.description} of level {alert.level}"
        end = connection.silence()
        return alert.description if end in ("fin", "reset") else f"{alert}, and then {end}"
    except tls_probe.Ended as ended:
        return f"ended {ended.how}"
    except TimeoutError:
        return "neither an answer nor an end"
    except Exception as fault:  # pylint: disable=broad-except
        return f"{type(fault).__name__}: {fault}"
    finally:
        connection.close()


class ConformanceTest(Case):
    """One edge and one core for each table."""

    def run_table(self, *tables):
        core = self.core(log_level="info")
        edge = self.edge(core, "--workers", 1, trunks_up=1, log_level="info")
        bystander = self.client(edge)
        probes = [probe for table in tables for probe in table if ONLY in probe.name]
        self.assertTrue(probes or ONLY)
        doubled = [name for name, count in collections.Counter(probe.name for probe in probes).items() if count > 1]
        self.assertEqual(doubled, [], "names that several probes have")
        started = time.monotonic()
        faults = []
        for probe in probes:
            outcome = outcome_of(edge.address, probe)
            expected = QUIET if probe.expected is None else probe.expected
            if outcome not in ((expected,) if isinstance(expected, str) else expected):
                faults.append(f"{probe.name} ({probe.section}): " + (
                    f"due {'the end' if probe.expected is None else self.told_all(probe.expected)}; came {told(outcome)}"))
        bystander.echo()
        bystander.close()
        print(f"{len(probes)} probes, {len(faults)} failed, {time.monotonic() - started:.1f} s ... ", end="", flush=True)
        if faults:
            self.fail(f"{len(faults)} of {len(probes)} probes:\n" + "\n".join(faults))

    @staticmethod
    def told_all(expected):
        return expected if isinstance(expected, str) else " or ".join(told(each) for each in expected)

    def test_client_hello(self):
        self.run_table(probes_hello.HELLO)

    def test_extensions(self):
        self.run_table(probes_hello.EXTENSIONS)

    def test_key_shares(self):
        self.run_table(probes_hello.SHARES)

    def test_hello_retry_request(self):
        self.run_table(probes_hello.RETRY)

    def test_tickets(self):
        self.run_table(probes_hello.TICKETS)

    def test_first_records(self):
        self.run_table(probes_handshake.FIRST)

    def test_handshake_of_tls_1_3(self):
        self.run_table(probes_handshake.FLIGHT_13)

    def test_handshake_of_tls_1_2(self):
        self.run_table(probes_handshake.FLIGHT_12)

    def test_early_data(self):
        self.run_table(probes_handshake.EARLY)

    def test_established(self):
        self.run_table(probes_established.BOTH)

    def test_established_tls_1_3(self):
        self.run_table(probes_established.ONLY_13)

    def test_established_tls_1_2(self):
        self.run_table(probes_established.ONLY_12)


if __name__ == "__main__":
    harness.main()
