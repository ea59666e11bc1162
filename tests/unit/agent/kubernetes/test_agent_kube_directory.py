"""Looking services, pods and endpoints up: watched, remembered, read once."""

import pytest
from tests.support.played_api import Played, PlayedApi, answer, refusal

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.directory import REMEMBER_SECONDS, Directory
from towline.agent.streams.refusal import Refused
from towline.aio.clock import SimulatedClock
from towline.kube import traffic

WEB = "/api/v1/namespaces/shop/services/web"
POD = "/api/v1/namespaces/shop/pods/web-0"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
SERVICE = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.0.0.7"}}


class Play:
    def __init__(self, script: dict[str, list[Played]]) -> None:
        self.clock = SimulatedClock()
        self.server = PlayedApi(script)
        api = Api(self.server.credentials(self.clock), connect=self.server.connect)
        self.directory = Directory(api, clock=self.clock)


async def test_watched_service_costs_no_request():
    play = Play({})
    play.directory.watched["shop/web"] = traffic.Service(spec=traffic.ServiceSpec(cluster_ip="10.0.0.9"))
    assert (await play.directory.service("shop", "web")).spec.cluster_ip == "10.0.0.9"
    assert play.server.dials == 0


async def test_service_that_the_watch_does_not_have_is_read_and_remembered_for_a_while():
    play = Play({WEB: [answer(SERVICE), answer({**SERVICE, "spec": {"clusterIP": "10.0.0.8"}})]})
    for _ in range(3):
        assert (await play.directory.service("shop", "web")).spec.cluster_ip == "10.0.0.7"
    await play.clock.advance(REMEMBER_SECONDS)
    assert (await play.directory.service("shop", "web")).spec.cluster_ip == "10.0.0.8"
    assert play.server.dials == 2


async def test_what_is_forgotten_is_read_anew():
    pod = {"status": {"podIP": "10.1.0.1"}}
    play = Play({POD: [answer(pod), answer({"status": {"podIP": "10.1.0.2"}})]})
    assert (await play.directory.pod("shop", "web-0")).status.pod_ip == "10.1.0.1"
    play.directory.forget()
    assert (await play.directory.pod("shop", "web-0")).status.pod_ip == "10.1.0.2"


async def test_slices_are_those_of_the_service():
    play = Play({SLICES: [answer({"items": [{"endpoints": [{"addresses": ["10.1.0.1"]}]}]})]})
    (found,) = await play.directory.slices("shop", "web")
    assert found.endpoints is not None
    assert play.server.asked(SLICES) == ["labelSelector=kubernetes.io%2Fservice-name%3Dweb"]


async def test_what_is_not_there_is_refused_in_words():
    play = Play({WEB: [refusal(404, "NotFound", 'services "web" not found')]})
    with pytest.raises(Refused, match="there is no service shop/web") as caught:
        await play.directory.service("shop", "web")
    assert caught.value.code == "not_found"


async def test_what_may_not_be_read_is_refused_in_words():
    play = Play({POD: [refusal(403, "Forbidden", "pods is forbidden")]})
    with pytest.raises(Refused, match="may not read the pod shop/web-0: pods is forbidden") as caught:
        await play.directory.pod("shop", "web-0")
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_never_lead_to_another_path(name):
    with pytest.raises(Refused, match="is no name"):
        await Play({}).directory.pod(name, "x")


async def test_slashes_in_names_stay_in_them():
    path = "/api/v1/namespaces/shop/pods/..%2Fsecrets%2Fkey"
    play = Play({path: [answer({})]})
    await play.directory.pod("shop", "../secrets/key")
    assert play.server.requests == [path]
