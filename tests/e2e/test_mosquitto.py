"""MQTT through the relay pair: mosquitto behind `forward`, its own clients over TLS before the edge."""
import re
import signal

import harness
from harness import Case, free_port, pki, run, tool, wait_for


class MosquittoCase(Case):
    """A broker behind core and edge."""

    edge_options = ()
    trunks_up = 2

    def setUp(self):
        port = free_port()
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
                                 "log_dest stdout\n")
        self.broker = self.start("mosquitto", tool("mosquitto"), "-c", configuration)
        wait_for(lambda: self.listens(port), 10, "mosquitto listens")
        self.relay_core = self.core(services=[f"mqtt=forward:127.0.0.1:{port}"])
        self.relay_edge = self.edge(self.trunk_address(), *self.edge_options, service="mqtt", trunks_up=self.trunks_up)

    def trunk_address(self):
        """Where the edge finds its core."""
        return self.relay_core.address

    def listens(self, port):
        try:
            self.tcp(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def arguments(self, *more):
        return ["--cafile", pki()["ca.crt"], "-h", "localhost", "-p", str(self.relay_edge.address[1]), "-q", "1",
                *more]

    def publish(self, topic, message, *more):
        with open(self.directory / "message", "w+", encoding="ascii") as file:
            file.write(message)
            file.seek(0)
            run(tool("mosquitto_pub"), *self.arguments("-t", topic, "-s", *more), stdin=file)

    def subscribe(self, name, topic, *more):
        """A subscriber that is known to be subscribed."""
        process = self.start(name, tool("stdbuf"), "-oL", tool("mosquitto_sub"),
                             *self.arguments("-d", "-v", "-t", topic, *more))
        process.wait_output(r"^Subscribed \(mid: 1\): 1")
        return process

    def received(self, process, count):
        """The messages of a subscriber, as soon as there are `count`."""
        def messages():
            found = re.findall(r"^(room/\S+ .*)\n", process.output_text(), re.MULTILINE)
            return found if len(found) >= count else None
        return wait_for(messages, 10, lambda: f"{count} messages; so far: {process.output_text()}")


class MosquittoTest(MosquittoCase):
    def test_messages_reach_a_subscriber_that_stays(self):
        stays = self.subscribe("stays", "room/#")
        for number in range(20):
            self.publish("room/1", f"message {number}")
        self.assertEqual(self.received(stays, 20), [f"room/1 message {number}" for number in range(20)])
        # It is still there after everybody else has gone: one session is left on both sides.
        self.relay_core.wait_log("session-closed", count=20)
        self.assertEqual(len(self.relay_core.find("session-opened")), 21)
        self.publish("room/2", "x" * 200000)
        self.assertEqual(self.received(stays, 21)[-1], "room/2 " + "x" * 200000)
        stays.popen.terminate()
        stays.wait(10)
        self.assertEqual(self.relay_edge.stop()["opened"], 22)

    def test_a_retained_message_awaits_later_subscribers(self):
        self.publish("room/retained", "kept", "-r")
        done = run(tool("mosquitto_sub"), *self.arguments("-t", "room/retained", "-C", "1", "-W", "10"))
        self.assertEqual(done.stdout, "kept\n")

    def test_many_subscribers_all_get_the_message(self):
        subscribers = [self.subscribe(f"subscriber-{number}", f"room/{number % 2}") for number in range(10)]
        self.publish("room/0", "even")
        self.publish("room/1", "odd")
        for number, subscriber in enumerate(subscribers):
            self.assertEqual(self.received(subscriber, 1), [f"room/{number % 2} " + ("odd" if number % 2 else "even")])
        for subscriber in subscribers:
            subscriber.popen.send_signal(signal.SIGINT)
            subscriber.wait(10)

    def test_a_subscriber_that_dies_is_missed_by_the_broker(self):
        will = self.start("will", tool("stdbuf"), "-oL", tool("mosquitto_sub"),
                          *self.arguments("-d", "-t", "room/any", "--will-topic", "room/will", "--will-payload",
                                           "gone"))
        will.wait_output(r"Subscribed")
        stays = self.subscribe("stays", "room/will")
        will.kill()  # no DISCONNECT, no close_notify
        self.assertEqual(self.received(stays, 1), ["room/will gone"])
        self.relay_core.wait_log("session-closed", reason="reset")
        stays.popen.terminate()
        stays.wait(10)


if __name__ == "__main__":
    harness.main()
