"""The closed list: every verb with its flags, and the flags and verbs that are refused with their reason.

`docs/reference/commands.md` is made from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from towline.commandline.flags import Flag, Takes
from towline.commandline.hosted_verbs import HOSTED
from towline.commandline.plan import Level
from towline.commandline.verbs import (
    ALL_NAMESPACES,
    DRY_RUN,
    FIELDS,
    NAMESPACE,
    NO_HEADERS,
    SELECTOR,
    STDIN,
    TIMEOUT,
    Verb,
)

_TEXT, _NUMBER, _DURATION, _CHOICE = Takes.TEXT, Takes.NUMBER, Takes.DURATION, Takes.CHOICE

OUTPUTS = ("json", "yaml", "wide", "name")
"""Forms that `get` prints besides its table; `jsonpath=…` and `custom-columns=…` are read apart."""


# -- kubectl -----------------------------------------------------------------------------------

_DELETE = (
    NAMESPACE,
    SELECTOR,
    FIELDS,
    STDIN,
    DRY_RUN,
    TIMEOUT,
    Flag("all", words="all objects of the kinds, in the namespace"),
    Flag("cascade", "", _CHOICE, "what becomes of dependents", ("background", "foreground", "orphan"), "background"),
    Flag("grace-period", "", _NUMBER, "seconds that pods have to end"),
    Flag("now", words="as --grace-period=1"),
    Flag("force", words="with --grace-period=0: at once, without waiting for the node"),
    Flag("ignore-not-found", words="what is gone already is no error"),
    Flag("wait", words="wait until they are gone (the default)"),
)
_DRAIN = (
    Flag("ignore-daemonsets", words="go on though pods of daemon sets stay"),
    Flag("delete-emptydir-data", words="evict pods that lose what is in an emptyDir"),
    Flag("force", words="evict pods that no controller makes anew"),
    Flag("grace-period", "", _NUMBER, "seconds that pods have to end; -1: their own"),
    Flag("pod-selector", "", _TEXT, "labels of the pods to evict"),
    TIMEOUT,
    DRY_RUN,
)
_LOGS = (
    NAMESPACE,
    SELECTOR,
    Flag("follow", "f", words="go on with what is written later"),
    Flag("container", "c", _TEXT, "the container; needed where a pod has several and no default"),
    Flag("all-containers", words="all containers of the pods"),
    Flag("tail", "", _NUMBER, "last lines; -1: all, 10 with a selector"),
    Flag("since", "", _DURATION, "only what is younger"),
    Flag("since-time", "", _TEXT, "only what is younger than a moment (RFC 3339)"),
    Flag("previous", "p", words="of the container that ran before"),
    Flag("timestamps", words="with the time of each line"),
    Flag("prefix", words="with pod and container before each line"),
    Flag("limit-bytes", "", _NUMBER, "most bytes of each log"),
)
_ROLLOUT = (NAMESPACE,)

KUBECTL = (
    Verb(
        "get", "KIND[,KIND] [NAME…] | KIND/NAME…", "Show objects as a table of the API server, or whole.",
        (
            NAMESPACE, ALL_NAMESPACES, SELECTOR, FIELDS, NO_HEADERS,
            Flag("output", "o", _TEXT, "json, yaml, wide, name, jsonpath=TEMPLATE or custom-columns=SPEC"),
            Flag("show-labels", words="a column with the labels"),
            Flag("show-kind", words="the kind before each name"),
            Flag("ignore-not-found", words="what is not there is no error"),
            Flag("sort-by", "", _TEXT, "a path to sort by, like .metadata.name"),
            Flag("watch", "w", words="go on with a row for each change, of one kind or one object"),
            Flag("label-columns", "L", _TEXT, "columns with the values of labels", many=True),
        ),
    ),
    Verb(
        "describe", "KIND [NAME…] | KIND/NAME…", "Tell about objects, with their events.",
        (NAMESPACE, ALL_NAMESPACES, SELECTOR, Flag("show-events", words="with events (the default)")),
    ),
    Verb("logs", "POD [CONTAINER] | KIND/NAME", "Show what containers wrote.", _LOGS, level=Level.OPERATE),
    Verb(
        "top", "nodes|pods [NAME]", "Show the use of CPU and memory, where a metrics server tells it.",
        (
            NAMESPACE, ALL_NAMESPACES, SELECTOR, NO_HEADERS,
            Flag("containers", words="container by container"),
            Flag("sort-by", "", _CHOICE, "the column to sort by", ("cpu", "memory")),
        ),
    ),
    Verb(
        "apply", "-f -", "Apply the manifest of standard input on the server's side, as field manager `towline`.",
        (
            NAMESPACE, STDIN, DRY_RUN,
            Flag("server-side", words="always so; taken for those who are used to it"),
            Flag("force-conflicts", words="take fields over from other managers"),
            Flag("output", "o", _CHOICE, "print the names alone", ("name",)),
        ),
        writes=True,
    ),
    Verb("delete", "KIND NAME… | KIND/NAME… | -f -", "Delete objects, and wait until they are gone.", _DELETE, True),
    Verb(
        "scale", "KIND NAME… | KIND/NAME… --replicas N", "Set how many pods a workload has.",
        (
            NAMESPACE, SELECTOR, DRY_RUN,
            Flag("replicas", "", _NUMBER, "how many; needed"),
            Flag("current-replicas", "", _NUMBER, "only where it has so many now"),
        ),
        writes=True,
    ),
    Verb(
        "rollout status", "KIND/NAME…", "Follow a roll-out to its end.",
        (
            *_ROLLOUT, TIMEOUT,
            Flag("watch", "w", words="wait for its end (the default)"),
            Flag("revision", "", _NUMBER, "the revision that must be the one that rolls out"),
        ),
    ),
    Verb(
        "rollout history", "KIND/NAME…", "Show the revisions of a workload.",
        (*_ROLLOUT, Flag("revision", "", _NUMBER, "show the pod template of this one")),
    ),
    Verb("rollout restart", "KIND/NAME…", "Replace the pods of a workload one after the other.", _ROLLOUT, True),
    Verb("rollout pause", "deployment/NAME…", "Hold roll-outs of a deployment back.", _ROLLOUT, True),
    Verb("rollout resume", "deployment/NAME…", "Let roll-outs of a deployment go on.", _ROLLOUT, True),
    Verb(
        "rollout undo", "KIND/NAME…", "Put an earlier revision of a workload back.",
        (*_ROLLOUT, DRY_RUN, Flag("to-revision", "", _NUMBER, "which; the one before when left out")),
        writes=True,
    ),
    Verb("cordon", "NODE…", "Take no new pods on a node.", (SELECTOR, DRY_RUN), True),
    Verb("uncordon", "NODE…", "Take pods on a node again.", (SELECTOR, DRY_RUN), True),
    Verb("drain", "NODE…", "Cordon nodes and evict their pods, within their disruption budgets.", _DRAIN, True),
    *HOSTED,
)  # fmt: skip

_IDENTITY = "a command runs as whoever asks for it, by Towline's roles"
_PLACE = "a command goes to the clusters that were named for it, through their agents"
_FILES = "no files of the host are read or written"
KUBECTL_REFUSED = {
    **dict.fromkeys(("as", "as-group", "as-uid", "as-user-extra", "token", "user", "username", "password"), _IDENTITY),
    **dict.fromkeys(("server", "s", "cluster", "context", "kubeconfig", "tls-server-name"), _PLACE),
    **dict.fromkeys(("client-key", "client-certificate", "certificate-authority"), _PLACE),
    "insecure-skip-tls-verify": _PLACE,
    **dict.fromkeys(("cache-dir", "profile", "profile-output", "kustomize", "k", "template", "log-file"), _FILES),
    "H": "hosts are named by Towline's own --selector",
    "field-manager": "the manager is always `towline`",
    "recursive": _FILES,
    "R": _FILES,
    "disable-eviction": "drain keeps to disruption budgets",
}
_OWN_KUBECTL = "use your own kubectl, by `towline kubeconfig`"
KUBECTL_ELSEWHERE = {
    **dict.fromkeys(("exec", "attach", "port-forward", "proxy", "cp", "edit", "run", "debug"), _OWN_KUBECTL),
    **dict.fromkeys(("config", "plugin", "kustomize", "diff", "expose", "set", "autoscale"), _OWN_KUBECTL),
    "certificate": _OWN_KUBECTL,
}

# -- docker ------------------------------------------------------------------------------------

_FILTER = Flag("filter", "f", _TEXT, "only what fits, like name=web or status=exited", many=True)
_QUIET = Flag("quiet", "q", words="ids alone")
_WHOLE = Flag("no-trunc", words="nothing cut")
_GRACE = Flag("time", "t", _NUMBER, "seconds that a container has to end")
_DOCKER_LOGS = (
    Flag("follow", "f", words="go on with what is written later"),
    Flag("tail", "n", _TEXT, "last lines, or `all`"),
    Flag("since", "", _TEXT, "only what is younger: 5m, or a moment (RFC 3339)"),
    Flag("until", "", _TEXT, "only what is older"),
    Flag("timestamps", "t", words="with the time of each line"),
)
_JSON = Flag("format", "", _CHOICE, "one JSON object a line instead of a table", ("json", "table"))

DOCKER = (
    Verb(
        "ps", "", "List containers.",
        (
            Flag("all", "a", words="those that do not run too"), _FILTER, _QUIET, _WHOLE, _JSON,
            Flag("last", "n", _NUMBER, "the last so many that were made, running or not"),
        ),
    ),
    Verb("images", "[REPOSITORY]", "List images.",
         (Flag("all", "a", words="intermediate ones too"), _QUIET, _WHOLE, _JSON)),
    Verb("logs", "CONTAINER", "Show what a container wrote.", _DOCKER_LOGS, level=Level.OPERATE),
    Verb("inspect", "NAME…", "Show all that the engine knows of containers or images.",
         (Flag("type", "", _CHOICE, "only look for this", ("container", "image")),), level=Level.OPERATE),
    Verb("stats", "--no-stream [CONTAINER…]", "Show the use of CPU and memory once.",
         (Flag("no-stream", words="needed: once, not for ever"), Flag("all", "a", words="those that do not run too"),
          _WHOLE, _JSON)),
    Verb("top", "CONTAINER", "Show the processes of a container.", level=Level.OPERATE),
    Verb("restart", "CONTAINER…", "Stop and start containers.", (_GRACE,), True, Level.OPERATE),
    Verb("start", "CONTAINER…", "Start containers that exist.", (), True, Level.OPERATE),
    Verb("stop", "CONTAINER…", "Stop containers.", (_GRACE,), True, Level.OPERATE),
    Verb("version", "", "Show the version of the engine.", (_JSON,)),
    Verb("info", "", "Show how the engine is set up.", (_JSON,)),
    Verb("system df", "", "Show what takes room on the disk.", (_JSON,)),
)  # fmt: skip

_ENGINE = "a command goes to the engine of the host that was named for it"
DOCKER_REFUSED = {
    **dict.fromkeys(("H", "host", "context", "c", "config"), _ENGINE),
    **dict.fromkeys(("tls", "tlscacert", "tlscert", "tlskey", "tlsverify"), _ENGINE),
    **dict.fromkeys(("env-file", "file", "f", "project-directory"), _FILES),
}
_DEPLOY = "deploy a Compose project instead, with `towline deploy`"
_SHELL = "open a shell with `towline exec`"
DOCKER_ELSEWHERE = {
    **dict.fromkeys(("run", "create", "build", "pull", "load", "import", "up", "buildx", "compose"), _DEPLOY),
    **dict.fromkeys(("exec", "attach", "cp"), _SHELL),
    **dict.fromkeys(("rm", "rmi", "kill", "prune", "volume", "network", "swarm", "login", "push"), "use docker there"),
}

# -- compose -----------------------------------------------------------------------------------

_PROJECT = Flag("project-name", "p", _TEXT, "the project; needed unless the run names one")

COMPOSE = (
    Verb("ps", "[SERVICE…]", "List the containers of a project.",
         (_PROJECT, Flag("all", "a", words="those that do not run too"), _QUIET, _JSON)),
    Verb("images", "[SERVICE…]", "List the images that a project's containers run.", (_PROJECT, _QUIET, _JSON)),
    Verb("logs", "[SERVICE…]", "Show what the containers of a project wrote.",
         (_PROJECT, *_DOCKER_LOGS, Flag("no-log-prefix", words="lines without their container")),
         level=Level.OPERATE),
    Verb("top", "[SERVICE…]", "Show the processes of a project.", (_PROJECT,), level=Level.OPERATE),
    Verb("restart", "[SERVICE…]", "Stop and start the containers of a project.", (_PROJECT, _GRACE), True,
         Level.OPERATE),
    Verb("start", "[SERVICE…]", "Start the containers of a project that exist.", (_PROJECT,), True, Level.OPERATE),
    Verb("stop", "[SERVICE…]", "Stop the containers of a project.", (_PROJECT, _GRACE), True, Level.OPERATE),
)  # fmt: skip
COMPOSE_ELSEWHERE = {
    **dict.fromkeys(("up", "pull", "build", "create", "run", "config", "scale", "down", "rm", "kill"), _DEPLOY),
    **dict.fromkeys(("exec", "attach", "cp"), _SHELL),
}


@dataclass(frozen=True, slots=True)
class Program:
    """All of one program."""

    name: str
    verbs: tuple[Verb, ...]
    refused: dict[str, str]
    """Flags, with the reason."""
    elsewhere: dict[str, str]
    """Verbs of the real program, with what to do instead."""


PROGRAMS = {
    "kubectl": Program("kubectl", KUBECTL, KUBECTL_REFUSED, KUBECTL_ELSEWHERE),
    "docker": Program("docker", DOCKER, DOCKER_REFUSED, DOCKER_ELSEWHERE),
    "compose": Program("compose", COMPOSE, DOCKER_REFUSED, COMPOSE_ELSEWHERE),
}
