"""An agent in a pod is struck in every way while clients work through it: no wrong answer, and nothing is left behind.

`make soak` cuts the line for ten minutes and stops etcd for one; the short form does the same in seconds. Both print
their seed, which `TOWLINE_CHAOS_SEED` gives back. The cluster is one of their own, in a network of its own.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.kubernetes_load import Load
from tests.support.kubernetes_strikes import CLUSTER, NAMESPACE, PATIENCE, Held, SoakBed, shown
from tests.support.product import wait_for
from tests.testbed import debian, kubectl, paths
from tests.testbed.isolation import own_network
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.docker, pytest.mark.root]

CUTS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "600"))
"""Seconds for which the line is cut at random moments in the long form."""
SEED = int(os.environ.get("TOWLINE_CHAOS_SEED", "20261"))
OWN = "soak-"
"""What the cluster of a run is called, before the number of its process."""
CALM_TIMEOUT = 30.0
"""Seconds after the last client has gone until nothing of its work is left, kept connections included."""
STEADY_SECONDS = 6.0
"""Longer than an idle connection to an agent is kept."""
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """How long everything goes on, in seconds, and how much either process may have grown at the end."""

    warm_up: float
    etcd: float
    cuts: float
    between_cuts: tuple[float, float]
    longest_cut: float
    growth: int
    more_descriptors: int = 4
    more_tasks: int = 4
    is_short: bool = False
    """Whoever holds little enough at the end need not be watched further."""


SHORT = Plan(warm_up=2, etcd=2, cuts=5, between_cuts=(0.2, 1), longest_cut=0.8, growth=48 * MEBIBYTE, is_short=True)
LONG = Plan(warm_up=30, etcd=60, cuts=CUTS, between_cuts=(1, 10), longest_cut=9, growth=32 * MEBIBYTE)


def remove_left_clusters() -> None:
    """Take away what killed runs have left; runs that go on have clusters of other names."""
    for state in paths.state("").glob(f"kubernetes-{OWN}*"):
        name = state.name.removeprefix("kubernetes-")
        if not Path(f"/proc/{name.removeprefix(OWN)}").exists():
            Cluster(name).down(timeout=PATIENCE)


@pytest.fixture
def bed(base_images: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoakBed]:
    debian.ensure(debian.KUBERNETES_PACKAGES)
    clients = kubectl.ensure()
    with own_network():
        remove_left_clusters()
        cluster = Cluster(f"{OWN}{os.getpid()}")
        try:
            with ThreadPoolExecutor(1) as beside:
                built = beside.submit(SoakBed.build)
                cluster.up(with_node=True)
                built.result()
            with SoakBed(tmp_path_factory.mktemp("soak"), cluster, clients, namespace=NAMESPACE) as made:
                made.bring_up()
                yield made
        finally:
            cluster.down(timeout=PATIENCE)


class Soak:
    """One run of a plan."""

    def __init__(self, bed: SoakBed, plan: Plan) -> None:
        self.bed, self.plan = bed, plan
        self.draw = random.Random(SEED)
        self.load = Load(bed.user("ada", "admin", bound_to="cluster-admin"), CLUSTER, "soak-load", SEED)
        self.began = time.monotonic()
        self.found: dict[str, float] = {}

    def say(self, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", flush=True)

    def run(self) -> None:
        """Warm up, strike everything, cut the line for long, and compare."""
        bed, load = self.bed, self.load
        load.prepare()
        with load:
            time.sleep(self.plan.warm_up)
            self.strike("pod deleted", bed.delete_pod)
            load.tally.api_is_troubled = True
            self.strike("API server restarted", bed.restart_api)
            self.strike(f"etcd stopped for {self.plan.etcd:.0f} s", lambda: bed.stop_etcd(self.plan.etcd))
            load.tally.api_is_troubled = False
            time.sleep(self.plan.warm_up)
        before = self.calm()
        with load:
            self.strike("token rotated", bed.rotate_token)
            self.cut_for_long()
        after = self.calm(lambda held: self.plan.is_short and not self.grown(before, held))
        self.say(f"{load.tally}")
        assert load.tally.wrong == []
        kinds = ("write", "events", "list", "exact", "exec in", "exec out", "log", "follow")
        assert not [kind for kind in kinds if not load.tally.done[kind]], "a part of the load did nothing"
        assert "task failed" not in (bed.folder / "server.log").read_text()
        assert "task failed" not in bed.directly("logs", "-n", NAMESPACE, "deployment/towline-agent")
        assert not self.grown(before, after)

    def strike(self, what: str, strike: object) -> None:
        assert callable(strike)
        strike()
        self.say(f"{what}; served again after {self.bed.wait_until_served():.1f} s")

    def cut_for_long(self) -> None:
        """At random moments; once in the middle the token is rotated again."""
        end = time.monotonic() + self.plan.cuts
        rotation = time.monotonic() + self.plan.cuts / 2
        done: list[str] = []
        while time.monotonic() < end:
            time.sleep(self.draw.uniform(*self.plan.between_cuts))
            done.append(self.bed.strike_line(self.draw, self.plan.longest_cut))
            if rotation and time.monotonic() > rotation:
                rotation = 0.0
                self.strike("token rotated", self.bed.rotate_token)
            if len(done) % 10 == 0:
                self.say(f"{len(done)} strikes at the line; {shown(self.bed.sample())}")
        self.say(f"{len(done)} strikes at the line; served again after {self.bed.wait_until_served():.1f} s")

    def calm(self, is_enough: Callable[[dict[str, Held]], bool] = lambda _: False) -> dict[str, Held]:
        """Wait until nothing that clients did is left. Returns: what both processes hold."""
        bed = self.bed
        bed.wait_until_served()
        self.say("every client has gone")
        wait_for(self.has_no_streams, "every stream to have ended", CALM_TIMEOUT)
        self.say("every stream has ended")
        held = settled(bed, is_enough)
        self.say(f"calm: {shown(held)}")
        return held

    def has_no_streams(self) -> bool:
        found = self.bed.open_streams()
        if found != self.found:
            self.say(f"open: {found}")
        self.found = found
        return not found

    def grown(self, before: dict[str, Held], after: dict[str, Held]) -> list[str]:
        """Tell who holds more than they may."""
        plan = self.plan
        return [
            f"{name}: {before[name]}, then {held}"
            for name, held in after.items()
            if held.memory - before[name].memory > plan.growth
            or held.descriptors - before[name].descriptors > plan.more_descriptors
            or held.tasks - before[name].tasks > plan.more_tasks
        ]


def settled(bed: SoakBed, is_enough: Callable[[dict[str, Held]], bool]) -> dict[str, Held]:
    """Sample until neither descriptors nor tasks have become fewer than ever for a while, or it is enough."""
    fewest = bed.sample()
    since = time.monotonic()
    while time.monotonic() - since < STEADY_SECONDS and not is_enough(fewest):
        time.sleep(0.5)
        now = bed.sample()
        if any(now[name].is_less(fewest[name]) for name in now):
            since = time.monotonic()
        fewest = {name: now[name].and_fewest(fewest[name]) for name in now}
    return fewest


@pytest.mark.timeout(300)
def test_a_struck_pod_gives_no_wrong_answer_and_leaves_nothing_behind(bed: SoakBed) -> None:
    print(f"seed {SEED}")
    Soak(bed, SHORT).run()


@pytest.mark.soak
def test_ten_minutes_of_cuts_give_no_wrong_answer_and_leave_nothing_behind(bed: SoakBed) -> None:
    print(f"seed {SEED}")
    Soak(bed, LONG).run()
