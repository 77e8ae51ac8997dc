"""Edge and core among faults: trunkline-chaos between clients and edge, on the trunk, and behind the core, one kind of
fault after the other and in mixtures, while trunkline-load checks every byte. No byte may be lost, doubled, reordered or
altered on a session that no fault has ended, no session may be lost with its trunk, none that was cut may look like a
clean end, and afterwards nothing may be left. TRUNKLINE_SEED repeats a run; each round prints its own."""
import os
import random
import socket
import sys
import threading

import faults
import harness
from faults import DELAYING, ENDING, SITES, STREAMS, Chaos, Fault, Rig, allowed, complaints_about, draw_fault, draw_mix
from harness import Case, client_context, join_address, patience, sanitized

MIXED_ROUNDS = 12
CUT_ROUNDS = 16
DRAWS_MAX = 6              # of a fault that hits nobody
# Nothing corrupts behind the core, and trunks seldom end while their end is held back.
SELDOM = (("backend", "corrupt"), ("trunk", "hold"))
MEMORY_SPARE = 6 << 20
BODY = bytes(range(251)) * 1200


class SuiteCase(Case):
    def setUp(self):
        self.seed = int(os.environ.get("TRUNKLINE_SEED") or random.SystemRandom().randrange(1 << 32))
        self.again = f"again: TRUNKLINE_SEED={self.seed} python3 tests/e2e/test_chaos_suite.py {self.id().split('.', 1)[1]}"
        self.dice = random.Random(f"{self.seed} {self._testMethodName}")
        print(f"{self._testMethodName}: seed {self.seed}", file=sys.stderr)

    def play(self, rig, drawn, **how):
        seed = self.dice.randrange(1 << 32)
        print(f"  seed {seed}: {'; '.join(map(str, drawn)) or 'no faults'}", file=sys.stderr)
        rig.round(seed, drawn, **how)

    def finish_rig(self, rig, before):
        """All that was taken is given back, before and at the end."""
        if not sanitized():
            for program in rig.programs():
                harness.wait_for(lambda each=program: each.memory() <= before[each.name] * 1.25 + MEMORY_SPARE, 20,
                                 lambda each=program: f"{each.name} has {each.memory() >> 10} KB of memory, before the "
                                                      f"faults it had {before[each.name] >> 10} KB")
        rig.stop()
        rig.tell()
        self.assertGreater(rig.messages, 0)

    def rig(self):
        rig = Rig(self, self.seed)
        self.play(rig, [])  # what a round without faults needs is no growth
        return rig, {program.name: program.memory() for program in rig.programs()}


class EachFaultTest(SuiteCase):
    """Every kind of fault by itself, in one direction drawn by lot; corruption in both."""

    def play_until_hit(self, rig, site, kind, stream):
        """Some faults are due after a round, or on connections that a lot has spared: another is drawn then. A latency
        without jitter draws nothing, so no log shows it, and another is played after it."""
        action = faults.ACTION_OF.get(kind)
        for _ in range(DRAWS_MAX):
            hits = rig.hits.get(action, 0)
            self.play(rig, [draw_fault(self.dice, site, kind, stream, 1.0 if site == "trunk" else None)])
            if site == "trunk" and kind in DELAYING:  # after the others there is a new one anyway
                rig.renew_trunk(self.seed, [])  # only then are all its decisions known
            if action is None or (site, action) in SELDOM or rig.hits.get(action, 0) > hits:
                return

    def each(self, site):
        rig, before = self.rig()
        for kind in (*DELAYING, *ENDING):
            if allowed(site, kind):
                for stream in STREAMS if kind == "corrupt" else [self.dice.choice(STREAMS)]:
                    with self.subTest(kind=kind, stream=stream):
                        self.play_until_hit(rig, site, kind, stream)
        self.finish_rig(rig, before)
        for action in ("delay", "slice", "pause", "hold", "slow_open", *faults.ACTIONS_THAT_END):
            if (site, action) not in SELDOM:
                self.assertGreater(rig.hits.get(action, 0), 0, f"no {action} was done to anything")

    def test_between_clients_and_edge(self):
        self.each("client")

    def test_on_the_trunk(self):
        self.each("trunk")

    def test_behind_the_core(self):
        self.each("backend")


class MixtureTest(SuiteCase):
    def test_faults_everywhere_at_once(self):
        rig, before = self.rig()
        for number in range(MIXED_ROUNDS):
            ending = [(), ("client",), ("backend",), ("client", "backend"), ("trunk",), SITES][number % 6]
            self.play(rig, draw_mix(self.dice, ending), renew=number % 2 == 0)
        self.finish_rig(rig, before)


class TruncationTest(SuiteCase):
    """A body of known length, cut somewhere: whoever has not got all of it does not see a clean end."""

    def serve(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        try:
            connection.settimeout(10 * patience())
            connection.recv(1)
            connection.sendall(BODY)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
        except OSError:
            pass
        connection.close()

    def cut(self, site, kind):
        offset = self.dice.randrange(1, len(BODY) + (8000 if site != "backend" else 0))
        key = "bytes" if kind == "limit_data" else "after_bytes"
        return Fault(site, "downstream", kind, ((key, offset),))

    def download(self, address):
        """(bytes, how they ended)."""
        client = harness.Client(address, context=client_context())
        try:
            client.handshake()
            client.send(b"x")
            return client.read_end()
        except (OSError, AssertionError):
            return b"", "no connection"
        finally:
            client.socket.close()

    def test_what_was_cut_never_looks_whole(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.addCleanup(listener.close)
        threading.Thread(target=self.serve, args=(listener,), daemon=True).start()
        seen = {"whole": 0, "cut": 0}
        backend = Chaos(self, "backend", self.seed, {"backend": listener.getsockname()}, [])
        core = self.core(services=(f"all=forward:{join_address(backend.addresses['backend'])}",), log_level="info")
        trunk = Chaos(self, "trunk", self.seed, {"trunk": core.address}, [])
        edge = self.edge(trunk.addresses["trunk"], "--core-name", "core", "--linger-timeout", "1s", service="all",
                         log_level="info")
        client = Chaos(self, "client", self.seed, {"edge": edge.address}, [])
        self.assertEqual(self.download(client.addresses["edge"]), (BODY, "close_notify"))
        for number in range(CUT_ROUNDS):
            for site, chaos, kinds in (("client", client, ("reset", "half_close", "corrupt", "limit_data")),
                                       ("trunk", trunk, ("reset", "half_close", "corrupt", "limit_data")),
                                       ("backend", backend, ("reset",))):
                fault = self.cut(site, kinds[number % len(kinds)])
                chaos.populate([fault])
                data, end = self.download(client.addresses["edge"])
                chaos.populate([])
                with self.subTest(fault=str(fault)):
                    self.assertEqual(data, BODY[:len(data)], f"altered bytes; {self.again}")
                    if len(data) < len(BODY):
                        self.assert_not_clean(end)
                seen["whole" if end == "close_notify" else "cut"] += 1
        self.assertGreater(seen["cut"], CUT_ROUNDS)
        client.end()
        edge.stop()
        core.stop()


class JudgementTest(SuiteCase):
    """The suite finds what it looks for."""

    GOOD = {"clients": 10, "opened": 10, "failed": 0, "failures": {}, "first_failure": "", "ended_clean": 10,
            "ended_other": 0, "messages": {"missing": 0, "repeated": 0, "altered": 0, "broken_streams": 0,
                                           "stalled_clients": 0, "unanswered": 0},
            "http": {"wrong_status": 0, "wrong_length": 0}}
    RESET = Fault("client", "upstream", "reset", ())
    TRUNK = Fault("trunk", "upstream", "reset", ())
    FIN = Fault("backend", "downstream", "half_close", ())

    def complaints(self, drawn=(), clients=0, backends=0, service="echo", **changes):
        figures = {**self.GOOD, **changes}
        figures["messages"] = {**self.GOOD["messages"], **changes.get("messages", {})}
        figures["http"] = {**self.GOOD["http"], **changes.get("http", {})}
        return complaints_about(figures, service, drawn, clients, backends)

    def test_what_must_not_be_is_found(self):
        self.assertEqual(self.complaints(), [])
        for what in ("missing", "repeated", "altered", "broken_streams", "unanswered"):
            self.assertTrue(self.complaints(messages={what: 1}), what)
        for drawn in ([self.RESET], [self.TRUNK]):
            self.assertTrue(self.complaints(drawn, 10, messages={"altered": 1}))
            self.assertTrue(self.complaints(drawn, 10, failed=1, failures={"open.peer-closed": 1}))
            self.assertTrue(self.complaints(drawn, 10, failed=1, failures={"open.invalid": 1}))
            self.assertEqual(self.complaints(drawn, 10, failed=1, failures={"open.peer-reset": 1}), [])
        self.assertTrue(self.complaints([self.RESET], 2, failed=2, ended_other=1))
        self.assertTrue(self.complaints([self.TRUNK], failed=1, failures={"open.peer-reset": 1}))
        self.assertTrue(self.complaints([self.RESET], 2, failed=2, messages={"stalled_clients": 1}))
        self.assertTrue(self.complaints([self.FIN], 0, 3, failed=3, failures={"open.peer-closed": 3}))
        self.assertEqual(self.complaints([self.FIN], 0, 3, "all", failed=3, failures={"open.peer-closed": 3}), [])
        self.assertTrue(self.complaints(opened=9))
        self.assertTrue(self.complaints(ended_clean=9))

    def test_bytes_altered_where_nothing_protects_them_are_found(self):
        rig = Rig(self, self.seed)
        fault = Fault("backend", "downstream", "corrupt", (("after_bytes", 200),))
        with self.assertRaisesRegex(AssertionError, "altered|broken|answer nothing|wrong") as caught:
            rig.round(self.dice.randrange(1 << 32), [fault])
        self.assertIn("--replay", str(caught.exception))


if __name__ == "__main__":
    harness.main()
