"""Command line and configuration file: what is wrong is said in one clear line, with a documented exit code."""
import re
import socket
import subprocess

import harness
from harness import (BIN, EXIT_ADDRESS, EXIT_CREDENTIALS, EXIT_OK, EXIT_USAGE, SOURCE, Case, foreign_pki, join_address,
                     pki, run)


def core_arguments(**changes):
    """The shortest command line of a core; None leaves an option out."""
    options = {"listen": "127.0.0.1:0", "certificate": pki()["core.crt"], "key": pki()["core.key"],
               "client_ca": pki()["ca.crt"], "service": "echo=echo", **changes}
    return arguments_of(options)


def edge_arguments(**changes):
    options = {"listen": "127.0.0.1:0", "certificate": pki()["edge.crt"], "key": pki()["edge.key"],
               "core": "127.0.0.1:9", "core_ca": pki()["ca.crt"], "trunk_certificate": pki()["trunk.crt"],
               "trunk_key": pki()["trunk.key"], "service": "echo", **changes}
    return arguments_of(options)


def arguments_of(options):
    arguments = []
    for name, value in options.items():
        if value is not None:
            arguments += ["--" + name.replace("_", "-"), value]
    return arguments


class CommandLineTest(Case):
    def run_program(self, program, *arguments):
        """Runs a program that should end by itself at once."""
        try:
            return run(BIN / f"trunkline-{program}", *arguments, check=False, timeout=10, cwd=self.directory)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"trunkline-{program} {arguments} started instead of ending") from None

    def assert_wrong(self, program, arguments, code, *words):
        """It ends with the code and one line that names what is wrong; nothing is printed for scripts."""
        with self.subTest(program=program, words=words):
            done = self.run_program(program, *arguments)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(done.stdout, "")
            lines = done.stderr.splitlines()
            self.assertEqual(len(lines), 1, f"not one line: {done.stderr}")
            self.assertTrue(lines[0].startswith(f"trunkline-{program}: ") or re.match(r"\S+:\d+: ", lines[0]), lines)
            for word in words:
                self.assertIn(str(word), lines[0])

    def test_usage_errors_name_the_option(self):
        self.assert_wrong("core", core_arguments() + ["--lisen", "x"], EXIT_USAGE, "--lisen", "--listen")
        self.assert_wrong("edge", edge_arguments() + ["--frobnicate"], EXIT_USAGE, "--frobnicate")
        self.assert_wrong("edge", edge_arguments() + ["stray"], EXIT_USAGE, "stray")
        self.assert_wrong("edge", edge_arguments() + ["--trunks"], EXIT_USAGE, "--trunks")
        self.assert_wrong("edge", edge_arguments(trunks="many"), EXIT_USAGE, "--trunks", "many")
        self.assert_wrong("edge", edge_arguments(trunks="65"), EXIT_USAGE, "--trunks", "64")
        self.assert_wrong("edge", edge_arguments(handshake_timeout="5"), EXIT_USAGE, "--handshake-timeout")
        self.assert_wrong("edge", edge_arguments(log_level="loud"), EXIT_USAGE, "--log-level", "loud")
        self.assert_wrong("edge", edge_arguments(route="sni=a.example"), EXIT_USAGE, "--route", "service")
        self.assert_wrong("edge", edge_arguments(route="listener=nowhere,service=a"), EXIT_USAGE, "nowhere")
        self.assert_wrong("edge", edge_arguments(client_certificate="require"), EXIT_USAGE, "client-ca")
        self.assert_wrong("core", core_arguments(service="echo"), EXIT_USAGE, "--service", "NAME=HANDLER")
        self.assert_wrong("core", core_arguments(service="echo=nosuch"), EXIT_USAGE, "nosuch")
        self.assert_wrong("core", core_arguments(service="web=forward:nowhere"), EXIT_USAGE, "nowhere")
        self.assert_wrong("core", core_arguments(service="web=plugin:/nowhere/x.so"), EXIT_USAGE, "/nowhere/x.so")
        self.assert_wrong("core", core_arguments() + ["--service", "echo=echo"], EXIT_USAGE, "echo", "twice")
        self.assert_wrong("core", core_arguments(stream_window="1M", trunk_window="1M"), EXIT_USAGE, "trunk-window")
        self.assert_wrong("core", core_arguments(listen="nonsense"), EXIT_USAGE, "--listen", "nonsense")

    def test_missing_options_are_named(self):
        for name in ("listen", "certificate", "key", "client_ca", "service"):
            self.assert_wrong("core", core_arguments(**{name: None}), EXIT_USAGE, "--" + name.replace("_", "-"))
        for name in ("listen", "certificate", "core", "core_ca", "trunk_certificate", "trunk_key"):
            self.assert_wrong("edge", edge_arguments(**{name: None}), EXIT_USAGE, "--" + name.replace("_", "-"))
        self.assert_wrong("edge", edge_arguments(key=None), EXIT_USAGE, "--certificate",
                          "every certificate needs one key")

    def test_credentials_that_cannot_be_used_are_named(self):
        garbage = self.directory / "garbage.pem"
        garbage.write_text("this is no certificate\n")
        short = self.directory / "short.key"
        short.write_bytes(b"too short")
        absent = self.directory / "absent.crt"
        for name in ("certificate", "key", "client_ca"):
            self.assert_wrong("core", core_arguments(**{name: absent}), EXIT_CREDENTIALS, absent)
            self.assert_wrong("core", core_arguments(**{name: garbage}), EXIT_CREDENTIALS, garbage)
        for name in ("certificate", "key", "core_ca", "trunk_certificate", "trunk_key"):
            self.assert_wrong("edge", edge_arguments(**{name: absent}), EXIT_CREDENTIALS, absent)
            self.assert_wrong("edge", edge_arguments(**{name: garbage}), EXIT_CREDENTIALS, garbage)
        self.assert_wrong("core", core_arguments(key=foreign_pki()["core.key"]), EXIT_CREDENTIALS, "does not match",
                          foreign_pki()["core.key"])
        self.assert_wrong("edge", edge_arguments(key=foreign_pki()["edge.key"]), EXIT_CREDENTIALS, "does not match",
                          foreign_pki()["edge.key"])
        self.assert_wrong("edge", edge_arguments(trunk_key=foreign_pki()["trunk.key"]), EXIT_CREDENTIALS,
                          "does not match", foreign_pki()["trunk.key"])
        self.assert_wrong("edge", edge_arguments(ticket_key=short), EXIT_CREDENTIALS, short)

    def test_an_address_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = join_address(taken.getsockname())
            self.assert_wrong("core", core_arguments(listen=address), EXIT_ADDRESS, address, "in use")
            for workers in ("1", "2"):
                self.assert_wrong("edge", edge_arguments(listen=address, workers=workers), EXIT_ADDRESS, address,
                                  "in use")
        core = self.core()
        edge = self.edge(core)
        address = join_address(core.address)
        self.assert_wrong("core", core_arguments(listen=address), EXIT_ADDRESS, address, "in use")
        address = join_address(edge.address)
        for workers in ("1", "2"):
            self.assert_wrong("edge", edge_arguments(listen=address, workers=workers), EXIT_ADDRESS, address, "in use")
        self.assert_wrong("core", core_arguments(listen="192.0.2.1:1"), EXIT_ADDRESS, "192.0.2.1:1")

    def config(self, text):
        path = self.directory / "trunkline.conf"
        path.write_text(text)
        return path

    def test_errors_in_the_configuration_file_name_file_line_and_key(self):
        for program, text, line, words in (
                ("edge", "trunks = 2;\n\nworkers = none;\n", 3, ("workers",)),
                ("edge", 'service = "echo";\nservise = "echo";\n', 2, ("servise", "service")),
                ("edge", 'listen { address = "127.0.0.1:0"; nome = "a" }\n', 1, ("nome",)),
                ("edge", 'route { sni = "a.example.com" }\n', 1, ("route",)),
                ("core", 'workers = 2;\nservice "x" { handler = "echo"; argument = 5; colour = "red" }\n', 2,
                 ("colour",)),
                ("core", "workers = 1000000;\n", 1, ("workers", "256"))):
            path = self.config(text)
            self.assert_wrong(program, ["--config", path], EXIT_USAGE, f"{path}:{line}: ", *words)
        path = self.config('trunks = 2;\nlisten = "unclosed\n')
        self.assert_wrong("edge", ["--config", path], EXIT_USAGE, f"{path}:")
        self.assert_wrong("edge", ["--config", self.directory / "absent.conf"], EXIT_USAGE, "absent.conf")

    def test_a_configuration_is_checked_without_a_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = join_address(taken.getsockname())
            for program, arguments in (("core", core_arguments(listen=address)),
                                       ("edge", edge_arguments(listen=address))):
                done = self.run_program(program, *arguments, "--check-config")
                self.assertEqual(done.returncode, EXIT_OK, done.stderr)
                self.assertNotIn("listening", done.stdout)
        self.assert_wrong("edge", edge_arguments(key=foreign_pki()["edge.key"]) + ["--check-config"], EXIT_CREDENTIALS,
                          "does not match")
        self.assert_wrong("core", core_arguments(service="a=nosuch") + ["--check-config"], EXIT_USAGE, "nosuch")

    def test_help_and_version(self):
        version = re.search(r"project\(trunkline VERSION (\S+)", (SOURCE / "CMakeLists.txt").read_text()).group(1)
        for program in ("core", "edge"):
            done = self.run_program(program, "--version")
            self.assertEqual((done.returncode, done.stdout), (EXIT_OK, f"trunkline-{program} {version}\n"))
            done = self.run_program(program, "--help")
            self.assertEqual((done.returncode, done.stderr), (EXIT_OK, ""))
            for option in ("--listen", "--config", "--check-config", "--log-level", "--log-format", "--service"):
                self.assertIn(option, done.stdout)
            self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)

    def test_a_file_configures_several_listeners_routes_services_and_cores(self):
        first = self.backend()
        second = self.backend()
        core_file = self.directory / "core.conf"
        core_file.write_text(f"""
            listen = ["127.0.0.1:0", "[::1]:0"];
            certificate = "{pki()['core.crt']}";
            key = "{pki()['core.key']}";
            client-ca = "{pki()['ca.crt']}";
            service "echo" {{ handler = "echo" }}
            service "one" {{ handler = "forward"; argument = "{join_address(first.getsockname())}" }}
            service = "two=forward:{join_address(second.getsockname())}";
            log-format = json;
        """)
        core = self.program("trunkline-core", "core", [], ["--config", core_file], 2)
        edge_file = self.directory / "edge.conf"
        edge_file.write_text(f"""
            listen {{ address = "127.0.0.1:0"; name = "plain" }}
            listen {{ address = "[::1]:0"; name = "six" }}
            certificate {{ certificate = "{pki()['edge.crt']}"; key = "{pki()['edge.key']}" }}
            alpn = ["h2", "http/1.1"];
            route {{ listener = "six"; service = "one" }}
            route {{ alpn = "h2"; service = "two" }}
            service = "echo";
            core {{ address = "{join_address(core.addresses[0])}"; name = "localhost" }}
            core {{ address = "{join_address(core.addresses[1])}"; name = "localhost" }}
            core-ca = "{pki()['ca.crt']}";
            trunk-certificate = "{pki()['trunk.crt']}";
            trunk-key = "{pki()['trunk.key']}";
            trunks = 64;
            log-format = json;
        """)
        # The command line wins over the file.
        edge = self.program("trunkline-edge", "edge", [], ["--config", edge_file, "--trunks", "1", "--workers", "2"], 2)
        edge.wait_log("trunk-up", count=4)
        self.client(edge.addresses[0]).echo()
        six = self.client(edge.addresses[1])
        six.send(b"six")
        self.assertEqual(harness.receive_exactly(self.accept(first), 3), b"six")
        two = self.client(edge.addresses[0], context=harness.client_context(alpn=["h2"]))
        two.send(b"two")
        self.assertEqual(harness.receive_exactly(self.accept(second), 3), b"two")
        self.assertEqual(len(edge.find("trunk-up")), 4)

    def test_the_examples_are_complete_but_for_their_certificates(self):
        for program in ("core", "edge"):
            done = self.run_program(program, "--config", SOURCE / "docs" / "examples" / f"{program}.conf",
                                    "--check-config")
            self.assertNotIn(".conf:", done.stderr)


if __name__ == "__main__":
    harness.main()
