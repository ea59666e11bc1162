"""The commands that are run straight and through Towline: `read` only looks, stories of `write` go on in a namespace.

Which kubectl runs a command is drawn from the seed, so that every version meets every kind of command over time.
"""

from __future__ import annotations

import json
import random
import shlex

from tests.support import kubernetes_objects as objects
from tests.support.differential import Command
from tests.testbed.kubectl import NEWEST, VERSIONS

SEED = 20261121
ROLES = ("viewer", "operator", "deployer", "admin")
GROUPS = tuple(f"towline:role:{role}" for role in ROLES)
AGES = ("ages",)
OBJECT = ("uids", "times", "resource versions", "addresses", "generated names")
DESCRIBED = ("ages", "addresses", "generated names", "uids", "times")
HOME = "-n k8-read"


def read(text: str, *may_differ: str, code: int = 0, asks: bool = True, only: str = "") -> Command:
    return Command(tuple(shlex.split(text.replace("HOME", HOME))), may_differ, code=code, asks=asks, only=only)


def write(text: str, *may_differ: str, stdin: str | None = None, code: int = 0) -> Command:
    return Command(("-n", "NS", *shlex.split(text)), may_differ, stdin=stdin, code=code)


def helm(text: str, *may_differ: str) -> Command:
    return Command(("-n", "NS", *shlex.split(text)), may_differ, program="helm")


READS = [
    read("version -o json"),
    read("cluster-info", "server"),
    read("api-versions"),
    read("api-resources"),
    read("api-resources --namespaced=false -o wide"),
    read("api-resources --api-group=apps -o name"),
    read("explain pod.spec"),
    read("explain deployment.spec.strategy --recursive"),
    read("explain widgets.spec"),
    read("explain nothing", code=1),
    read("get namespace k8-read", *AGES),
    read("get namespace k8-read -o yaml"),
    read("get nodes", *AGES),
    read("get nodes -o wide", *AGES),
    read("get nodes -o jsonpath={.items[*].status.nodeInfo.kubeletVersion}"),
    read("HOME get pods", *AGES),
    read("HOME get pods -o wide", *AGES),
    read("HOME get pods -o name"),
    read("HOME get pods -o yaml"),
    read("HOME get pods -o json"),
    read("HOME get pod talker -o jsonpath={.spec.containers[*].name}"),
    read("HOME get pods -o custom-columns=NAME:.metadata.name,IP:.status.podIP"),
    read("HOME get pods -o go-template={{range.items}}{{.metadata.name}}{{end}}"),
    read("HOME get pods --sort-by=.metadata.name -o name"),
    read("HOME get pods --show-labels", *AGES),
    read("HOME get pods -L app", *AGES),
    read("HOME get pods --no-headers", *AGES),
    read("HOME get pods -l app=talker", *AGES),
    read("HOME get pods -l 'app in (web, talker)' -o name"),
    read("HOME get pods --field-selector=metadata.name=talker -o name"),
    read("HOME get pods --field-selector=status.phase=Pending -o name"),
    read("HOME get pods -l app=none"),
    read("HOME get pods -l 'app=='", *AGES),
    read("HOME get pods -l '!!'", code=1),
    read("HOME get pods --chunk-size=1 -o name"),
    read("HOME get pod missing", code=1),
    read("HOME get pod missing --ignore-not-found"),
    read("HOME get nonsense", code=1),
    read("HOME get all", *AGES),
    read("HOME get deploy,sts,ds,job,cronjob", *AGES),
    read("HOME get deployment web -o yaml"),
    read("HOME get svc,ingress,netpol,pdb", *AGES),
    read("HOME get endpointslices -l kubernetes.io/service-name=web -o wide", *AGES),
    read("HOME get configmaps -o name"),
    read("HOME get configmap config-0 -o json"),
    read("HOME get secrets", *AGES),
    read("HOME get secret hidden -o jsonpath={.data.password}"),
    read("HOME get sa,role,rolebinding", *AGES),
    read("HOME get quota,limits", *AGES),
    read("HOME get widgets", *AGES),
    read("HOME get wd small -o yaml"),
    read("HOME get widgets.v1.towline.test large -o jsonpath={.spec.size}"),
    read("HOME get replicasets -l app=web", *AGES),
    read("HOME get deployment web --subresource=status -o jsonpath={.status.replicas}"),
    read("HOME get deployment web --subresource=scale -o yaml", only=NEWEST),
    read("HOME get events --field-selector=involvedObject.name=talker -o name", "order"),
    read("HOME get pods -w --request-timeout=2s", *AGES, "order"),
    read("get crd widgets.towline.test -o name"),
    read("get crd widgets.towline.test -o jsonpath={.spec.names.plural}"),
    read("get clusterroles view -o yaml"),
    read("get clusterrole edit -o jsonpath={.rules[0].resources}"),
    read("get apiservices v1. -o wide", *AGES),
    read("get --raw /version", only=NEWEST),
    read("get --raw /healthz", only=NEWEST),
    read("get --raw '/readyz?verbose'", only=NEWEST, code=0),
    read("get --raw /api", "addresses", only=NEWEST),
    read("get --raw /apis/apps/v1", only=NEWEST),
    read("get --raw '/api/v1/namespaces/k8-read/configmaps?limit=1'", "resource versions", only=NEWEST),
    read("get --raw /nowhere", only=NEWEST, code=1),
    read("get --raw /api/v1/namespaces/k8-read/services/web:http/proxy/etc/passwd", only=NEWEST),
    read("get --raw /api/v1/namespaces/k8-read/pods/talker:8080/proxy/etc/passwd", only=NEWEST),
    read("get --raw /openapi/v3/apis/towline.test/v1", only=NEWEST),
    read("HOME describe pod talker", *DESCRIBED),
    read("HOME describe deployment web", *DESCRIBED),
    read("HOME describe svc web", *DESCRIBED),
    read("HOME describe secret hidden"),
    read("HOME describe configmap config-1"),
    read("HOME describe widget small", *DESCRIBED),
    read("HOME describe quota quota"),
    read("describe namespace k8-read", *DESCRIBED),
    read("HOME logs talker -c main"),
    read("HOME logs talker -c aside --timestamps"),
    read("HOME logs talker --all-containers --prefix", "order"),
    read("HOME logs talker -c main --tail=1"),
    read("HOME logs talker -c main --previous", code=1),
    read("HOME logs talker -c missing", code=1),
    read("HOME logs job/once"),
    read("HOME logs -l app=talker -c main --tail=-1"),
    read("HOME exec talker -c main -- echo hello"),
    read("HOME exec talker -c main -- sh -c 'echo out; echo err >&2; exit 7'", code=7),
    read("HOME exec talker -c main -- missing-program", "container ids", code=1),
    read("HOME exec talker -c aside -- cat /etc/hosts"),
    read("HOME exec missing -- true", code=1),
    read("HOME exec deploy/web -- echo hello"),
    read("HOME rollout status deployment/web"),
    read("HOME rollout history deployment/web"),
    read("HOME wait --for=condition=ready pod/talker --timeout=20s"),
    read("HOME wait --for=condition=ready pod/missing --timeout=1s", code=1),
    read("HOME wait --for=delete pod/missing --timeout=5s"),
    read("HOME auth can-i create pods"),
    read("HOME auth can-i '*' '*' --all-namespaces"),
    read("auth can-i list nodes"),
    read("HOME auth can-i --list", "order"),
    read("auth whoami", "request ids", only=NEWEST),
    read("HOME top pods", code=1),
    read("HOME create -f /nowhere.yaml", code=1, asks=False),
    read("HOME port-forward talker nonsense", code=1, asks=False),
    read("HOME get pods --server-print=false", *AGES),
    read("HOME events --for=pod/missing"),
    read("HOME get configmap config-0 config-2 -o name"),
    read("HOME get configmap config-0 missing -o name", code=1),
    read("config view -o jsonpath={.contexts[0].name}", asks=False),
]  # fmt: skip

REFUSED = [
    read("get nodes", code=1),
    read("HOME get secrets", code=1),
    read("HOME delete pod talker", code=1),
    read("HOME create configmap mine --from-literal=a=b", code=1),
    read("HOME exec talker -c main -- true", code=1),
    read("HOME auth can-i delete pods", code=1),
    read("HOME scale deployment web --replicas=3", code=1),
    read("HOME label pod talker x=y", code=1),
]

CONFIG = json.dumps(objects.named("ConfigMap", "one", data={"key": "first"}))
CHANGED = json.dumps(objects.named("ConfigMap", "one", data={"key": "second"}))
SERVER_SIDE = json.dumps(objects.named("ConfigMap", "served", data={"key": "first"}))
SERVER_SIDE_2 = json.dumps(objects.named("ConfigMap", "served", data={"key": "other"}))
BROKEN = json.dumps(objects.named("ConfigMap", "one", data={"key": 5}))
UNKNOWN = json.dumps(objects.named("ConfigMap", "two", dataa={"key": "x"}))
WEB = json.dumps(objects.workload("Deployment", "web", replicas=1))
TOOL = json.dumps(objects.pod("tool"))
WIDGET = json.dumps(objects.named("Widget", "mine", version="towline.test/v1", spec={"size": 3}))
SMALL = json.dumps(objects.named("Widget", "bad", version="towline.test/v1", spec={"size": 0}))

WRITES: dict[str, list[Command]] = {
    "configmaps": [
        write("create configmap made --from-literal=a=b --from-literal=c=d"),
        write("create configmap made --from-literal=a=b", code=1),
        write("create -f -", stdin=CONFIG),
        write("create -f -", stdin=CONFIG, code=1),
        write("get configmap one -o yaml", *OBJECT),
        write("diff -f -", "times", stdin=CONFIG, code=0),
        write("apply -f -", stdin=CHANGED),
        write("apply -f -", stdin=CHANGED),
        write("apply -f - --dry-run=server", stdin=CONFIG),
        write("apply -f - --dry-run=client", stdin=CONFIG),
        write("replace -f -", stdin=CONFIG),
        write("apply -f -", stdin=BROKEN, code=1),
        write("create -f -", stdin=UNKNOWN, code=1),
        write("label configmap one colour=red"),
        write("label configmap one colour=blue", code=1),
        write("label configmap one colour=blue --overwrite"),
        write("annotate configmap one note=written"),
        write("patch configmap one --type=merge -p '{\"data\":{\"merged\":\"yes\"}}'"),
        write("patch configmap one --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/merged\"}]'"),
        write("patch configmap one --type=strategic -p '{\"data\":{\"strategic\":\"yes\"}}'"),
        write("patch configmap one --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/none\"}]'", code=1),
        write("get configmaps -o name"),
        write("delete configmap made one"),
        write("delete configmap made", code=1),
        write("delete configmap made --ignore-not-found"),
    ],
    "server side": [
        write("apply --server-side -f -", stdin=SERVER_SIDE),
        write("apply --server-side -f - --field-manager=other", stdin=SERVER_SIDE_2, code=1),
        write("apply --server-side -f - --field-manager=other --force-conflicts", stdin=SERVER_SIDE_2),
        write("get configmap served -o jsonpath={.data.key}"),
        write("delete configmap served --wait=false"),
    ],
    "workloads": [
        write("apply -f -", stdin=WEB),
        write("rollout status deployment/web --timeout=60s", "waiting"),
        write("get deployment web", *AGES),
        write("scale deployment web --replicas=2"),
        write("scale deployment web --replicas=1 --current-replicas=7", code=1),
        write("set env deployment/web COLOUR=red"),
        write("set image deployment/web main=localhost/busybox:1"),
        write("rollout pause deployment/web"),
        write("rollout resume deployment/web"),
        write("autoscale deployment web --min=1 --max=2"),
        write("expose deployment web --port=80 --target-port=8080"),
        write("get service web -o jsonpath={.spec.ports[0].targetPort}"),
        write("rollout history deployment/web", *AGES),
        write("delete deployment/web service/web hpa/web --now", "order"),
    ],
    "pods": [
        write("create -f -", stdin=TOOL),
        write("wait --for=condition=ready pod/tool --timeout=60s"),
        write("get pod tool", *AGES),
        write("exec tool -- sh -c 'echo x > /tmp/file; cat /tmp/file'"),
        write("exec -i tool -- cat", stdin="through standard input\n"),
        write("exec -i tool -- wc -c", stdin="x" * 100_000),
        write("label pod tool tier=back"),
        write("delete pod tool --grace-period=0 --force"),
    ],
    "others": [
        write("create secret generic hidden --from-literal=password=x"),
        write("create serviceaccount robot"),
        write("create role reader --verb=get,list --resource=pods"),
        write("create rolebinding reader --role=reader --serviceaccount=NS:robot"),
        write("create quota small --hard=pods=7"),
        write("create job batch --image=localhost/busybox:1 -- true"),
        write("create -f -", stdin=WIDGET),
        write("create -f -", stdin=SMALL, code=1),
        write("get widgets", *AGES),
        write("patch widget mine --type=merge -p '{\"spec\":{\"size\":4}}'"),
        write("delete widget mine"),
        write("delete configmaps --all", "order"),
        write("get pods --field-selector=spec.nodeName=nowhere"),
    ],
}  # fmt: skip
SINGLES = [*((command, True) for command in READS), *((command, False) for command in REFUSED)]
DRAWN = random.Random(SEED)
VERSION_OF = [DRAWN.choice(VERSIONS) for _ in SINGLES]
