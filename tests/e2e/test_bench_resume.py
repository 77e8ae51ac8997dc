"""`scripts/bench resume` at a small size: it measures, judges, and keeps its bars."""
import json

import harness
from harness import SOURCE, Case, run


class BenchTest(Case):
    def test_a_short_run_loses_nothing_and_tells_what_it_measured(self):
        figures = self.directory / "figures.json"
        done = run("/usr/bin/python3", SOURCE / "tests" / "bench" / "resume.py", "--part", "faults", "--only", "trunkline",
                   "--sessions", "200", "--messages-per-second", "400", "--seconds", "14", "--json", figures, timeout=150)
        found = json.loads(figures.read_text())["faults"]["trunkline"]
        self.assertEqual((found["sessions"], found["lost"], sum(found["wrong"].values())), (220, 0, 0), done.stdout)
        self.assertGreaterEqual(found["hit"], found["faults"])
        self.assertEqual(found["faults"], 6)
        self.assertGreater(found["totals"]["edge-stopped"]["resumed"], 0)
        self.assertEqual(found["totals"]["edge-stopped"]["trunk_lost"], 0)
        self.assertTrue(all(found["pauses_ms"][kind] for kind, count in found["kinds"].items() if count), done.stdout)


if __name__ == "__main__":
    harness.main()
