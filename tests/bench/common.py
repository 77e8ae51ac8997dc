"""What the benchmarks share: processes and what they cost, the load generator, tables. Ends whatever it has started."""

import ctypes
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("TRUNKLINE_BIN", ROOT / "build" / "bin"))
FILES_SPARE = 400  # of each process: listeners, logs, libraries, trunks
QUIET_SECONDS = 7  # what a burst leaves behind is given back up to 6 s later (mux/trim.h)
SETTLE_SECONDS = 60
STOP_SECONDS = 3   # that all programs together have to end by themselves
KILL_SECONDS = 60  # that the system has to close what killed programs held: a million sockets take a while
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CPU_CLOCK = 2      # of a whole process, as clock_getcpuclockid(3) makes it of a process id
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None)
# In its sandbox a program shows its memory and files to root only.
UNSHUT = () if os.geteuid() == 0 else ("--sandbox", "off")
BENCH = os.getpid()
PATHS = ("--json", "--markdown")
MARKDOWN = []      # the report so far


class Failure(Exception):
    """The benchmark cannot go on; the text is for the user."""


def files_limit():
    """Raises the soft limit of open files to the hard one, for all that is started from here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def number(name, text, least=1):
    if not text.isdigit() or not least <= int(text) <= 10_000_000:
        raise Failure(f"{name}: \"{text}\" is not a number from {least} on")
    return int(text)


def numbers(name, text):
    return sorted({number(name, part) for part in text.split(",")})


def read_options(doc, options, words, special=None):
    """Fills `options`, whose keys are their names, from the command line. `special` has functions of name and text for
    those that are not numbers; "json" and "markdown" are paths. Prints `doc` for --help."""
    special = {**{path[2:]: lambda _, text: text for path in PATHS}, **(special or {})}
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "--help":
            print(doc.strip())
            sys.exit(0)
        name = word[2:]
        if not word.startswith("--") or name not in options:
            raise Failure(f"unknown option {word}; see --help")
        if not words:
            raise Failure(f"{word} needs a value")
        options[name] = special.get(name, number)(word, words.pop(0))
    return options


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    """The process and all that it has started."""
    found = [pid]
    for parent in found:
        try:
            for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def send(pid, number):
    """A signal, to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def die_with_bench():
    """In a new process: it is killed when the benchmark is, even by a signal that the benchmark cannot see."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != BENCH:
        os._exit(1)  # it was killed before the line above


class Program:
    """A program under test, with all of its processes. Its output goes to NAME.out and NAME.log. All are of one session:
    with sched_autogroup_enabled a niceness counts within a session only, and against others each session is as good as
    any (sched(7))."""

    def __init__(self, bench, name, *command):
        self.name = name
        self.log = bench.directory / f"{name}.log"
        self.out = bench.directory / f"{name}.out"
        with open(self.log, "wb") as log, open(self.out, "wb") as out:
            self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=log, process_group=0, preexec_fn=die_with_bench)
        bench.programs.append(self)

    def fail(self, text):
        said = (self.log.read_text(errors="replace") + self.out.read_text(errors="replace")).strip().splitlines()
        raise Failure("\n".join([f"{self.name} {text}"] + ["    " + line for line in said[-5:]]))

    def wait_until(self, condition, what, seconds=15):
        end = time.monotonic() + seconds
        while not (result := condition()):
            if self.process.poll() is not None:
                self.fail(f"has ended with status {self.process.returncode}")
            if time.monotonic() > end:
                self.fail(f"does not {what} after {seconds} s")
            time.sleep(0.05)
        return result

    def address(self):
        """What it says that it listens on."""
        def said():
            for line in self.out.read_text().splitlines():
                if line.startswith("listening on "):
                    return line[len("listening on "):]
            return None
        return self.wait_until(said, "listen")

    def wait_port(self, port):
        def open_now():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0
        self.wait_until(open_now, f"listen on port {port}")

    def memory_kb(self):
        """(anonymous, all) proportional memory in kB. Anonymous is heap, slabs and stacks: what clients cost."""
        anonymous = total = 0
        for pid in children(self.process.pid):
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
                    for line in rollup:
                        if line.startswith("Pss_Anon:"):
                            anonymous += int(line.split()[1])
                        elif line.startswith("Pss:"):
                            total += int(line.split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return anonymous, total

    def cpu_seconds(self):
        """To the nanosecond, threads that have ended included; /proc/PID/stat counts in hundredths of a second, which
        is more than an edge with few clients uses between two looks."""
        seconds = 0.0
        for pid in children(self.process.pid):
            try:
                seconds += time.clock_gettime(~pid << 3 | CPU_CLOCK)
            except OSError:
                pass
        return seconds

    def files(self):
        """Open files, without looking at each of them where the kernel (6.2 and later) tells their number."""
        count = 0
        for pid in children(self.process.pid):
            try:
                count += os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return count

    def page_tables_kb(self):
        total = 0
        for pid in children(self.process.pid):
            try:
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmPTE:"):
                        total += int(line.split()[1])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total

    def sockets(self):
        count = 0
        for pid in children(self.process.pid):
            try:
                for entry in os.scandir(f"/proc/{pid}/fd"):
                    try:
                        count += os.readlink(entry.path).startswith("socket:")
                    except FileNotFoundError:
                        pass
            except (FileNotFoundError, ProcessLookupError):
                pass
        return count


def settle(programs, seconds=SETTLE_SECONDS, note=lambda: None):
    """Waits until their memory has not changed for QUIET_SECONDS, or until the time is up: one may never rest. Calls
    `note` at each look."""
    end = time.monotonic() + seconds
    known, since = None, 0.0
    while time.monotonic() < end:
        note()
        looked = time.monotonic()
        now_kb = sum(program.memory_kb()[0] for program in programs)
        if known is None or abs(now_kb - known) > 64 + known // 1000:
            known, since = now_kb, time.monotonic()
        elif time.monotonic() - since > QUIET_SECONDS:
            return
        # Looking at many takes a while, in which they and those that look wait for each other.
        time.sleep(max(0.25, 4 * (time.monotonic() - looked)))


def at_nice(steps):
    """The beginning of a command that gives way to others, by so many steps of `nice`; negative: that goes before them,
    which only root may."""
    return ["nice", "-n", steps] if steps != 0 else []


class Load(Program):
    """trunkline-load, which waits for go() when all its clients are open."""

    def __init__(self, bench, name, address, *options, wait=True, nice=0, before=()):
        self.ready = bench.directory / f"{name}.ready"
        self.json = bench.directory / f"{name}.json"
        for path in (self.ready, pathlib.Path(f"{self.ready}.go"), self.json):
            path.unlink(missing_ok=True)  # of one with the same name
        waiting = ["--wait-file", self.ready] if wait else []
        super().__init__(bench, name, *at_nice(nice), *before, BIN / "trunkline-load", "--connect", address, "--server-name", "localhost",
                         "--ca", bench.pki / "ca.crt", "--json", self.json, *waiting, *options)

    def is_ready(self):
        if self.process.poll() is not None:
            self.fail(f"has ended with status {self.process.returncode}")
        return self.ready.exists() and self.ready.stat().st_size > 0

    def wait_ready(self, seconds=300):
        self.wait_until(self.is_ready, "have its clients open", seconds)

    def freeze(self):
        """Stops its processes, whose clients rest: each looks 50 times a second whether there is something to do."""
        for pid in children(self.process.pid):
            send(pid, signal.SIGSTOP)

    def go(self):
        for pid in children(self.process.pid):
            send(pid, signal.SIGCONT)
        pathlib.Path(f"{self.ready}.go").touch()

    def finish(self, seconds=300, allowed=(0,)):
        """Its figures. A status that is not allowed is a failure: figures of a bad run are none."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.fail(f"does not end after {seconds} s")
        if status not in allowed:
            self.fail(f"has failed with status {status}")
        return json.loads(self.json.read_text())


class Bench:
    """A directory for what a benchmark writes, a development PKI, and the programs that run."""

    def __init__(self):
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.programs = []
        self.files = files_limit()
        self.scratch = tempfile.TemporaryDirectory(prefix="trunkline-bench.")
        self.directory = pathlib.Path(self.scratch.name)
        # Servers that give up root read their certificates afterwards.
        self.directory.chmod(0o755)
        self.pki = self.directory / "pki"

    def __enter__(self):
        made = subprocess.run([ROOT / "scripts" / "gen-certs", self.pki], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Failure(f"scripts/gen-certs: {made.stderr.strip()}")
        return self

    def __exit__(self, *_):
        self.stop_all()
        self.scratch.cleanup()

    def stop_all(self):
        """Ends all that runs, and what that has started: all are told at once and have one deadline together, then
        what is left is killed. Nothing interrupts it."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            if not self.end_all(signal.SIGTERM, STOP_SECONDS) and not self.end_all(signal.SIGKILL, KILL_SECONDS):
                print(f"bench: processes that do not end: {self.living()}", file=sys.stderr)
            self.programs.clear()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def end_all(self, number, seconds):
        """True when nothing is left."""
        for pid in self.living():
            send(pid, number)
            send(pid, signal.SIGCONT)  # one that is frozen would not see the other
        end = time.monotonic() + seconds
        # Twice: one that changes its parent while they are looked for may be missed once.
        while self.living() or self.living():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def living(self):
        """Ids of all processes below this one, which adopts those whose parent has ended. Reaps the dead."""
        own = {program.process.pid for program in self.programs if program.process.poll() is None}
        found = children(os.getpid())[1:]
        for pid in found:
            if pid not in own:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass  # it belongs to a program, which takes note of its end
        return [pid for pid in found if os.path.exists(f"/proc/{pid}")]

    def core(self, *options, name="core", before=()):
        """`before` is the beginning of the command: a program that runs this one."""
        options += UNSHUT
        program = Program(self, name, *before, BIN / "trunkline-core", "--listen", "127.0.0.1:0", "--certificate",
                          self.pki / "core.crt", "--key", self.pki / "core.key", "--client-ca", self.pki / "ca.crt",
                          "--service", "echo=echo", "--log-level", "warning", *options)
        return program, program.address()

    def edge(self, core_address, *options, name="edge", nice=0, before=()):
        options += UNSHUT
        program = Program(self, name, *at_nice(nice), *before, BIN / "trunkline-edge", "--listen", "127.0.0.1:0",
                          "--certificate",
                          self.pki / "edge.crt", "--key", self.pki / "edge.key", "--core", core_address, "--core-ca",
                          self.pki / "ca.crt", "--trunk-certificate", self.pki / "trunk.crt", "--trunk-key",
                          self.pki / "trunk.key", "--service", "echo", "--log-level", "warning", *options)
        return program, program.address()


def machine():
    """What the figures were measured on."""
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) / 1048576
    return {"cpus": len(os.sched_getaffinity(0)), "model": model, "memory_gib": round(memory, 1),
            "kernel": os.uname().release}


def print_machine():
    here = machine()
    tell(f"{here['cpus']} x {here['model']}, {here['memory_gib']} GiB, Linux {here['kernel']}")


def say(text):
    """How far it is."""
    print(f"  {text}", file=sys.stderr, flush=True)


def tell(text):
    """Prints a line of the report."""
    print(f"  {text}", flush=True)
    MARKDOWN.append(f"- {text}")


def judge(text, kept):
    """Prints a line for a bar; returns what to add to those that were missed."""
    tell(f"{text}: {'kept' if kept else 'MISSED'}")
    return [] if kept else [text]


def table(headings, rows):
    """Prints rows of texts: the first column to the left, the others to the right."""
    print()
    widths = [max(len(str(row[i])) for row in [headings] + rows) for i in range(len(headings))]
    for row in [headings] + rows:
        cells = [str(row[0]).ljust(widths[0])] + [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  " + "  ".join(cells).rstrip())
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1)] + rows
    MARKDOWN.append("\n" + "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n")


def keep(options, **figures):
    """Writes what --json and --markdown ask for."""
    if options["json"]:
        text = json.dumps({"machine": machine(), "options": options, **figures}, indent=2)
        pathlib.Path(options["json"]).write_text(text + "\n")
    if options["markdown"]:
        words = iter(sys.argv[1:])
        kept = [f"{word} {next(words)}" for word in words]
        command = " ".join([pathlib.Path(sys.argv[0]).stem] + [word for word in kept if word.split()[0] not in PATHS])
        text = "\n".join([f"`scripts/bench {command}`:", ""] + MARKDOWN)
        pathlib.Path(options["markdown"]).write_text(text.replace("\n\n\n", "\n\n").rstrip() + "\n")


def main(run):
    """Runs a benchmark; a failure is one message and status 1, and nothing is left running."""
    for number in ENDING:
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        sys.exit(run())
    except Failure as failure:
        sys.exit(f"bench: {failure}")
