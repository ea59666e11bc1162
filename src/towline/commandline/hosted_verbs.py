"""Verbs that the agent does not do itself: the `kubectl` of the host does, where the local policy lists them.

No verb here opens a shell or a port, reads or writes files, starts another program, or asks questions.
"""

from __future__ import annotations

from towline.commandline.flags import Flag, Takes
from towline.commandline.verbs import ALL_NAMESPACES, DRY_RUN, NAMESPACE, NO_HEADERS, SELECTOR, STDIN, Verb


def _form(*forms: str) -> Flag:
    return Flag("output", "o", Takes.CHOICE, "another form", forms)


_FORM = _form("json", "yaml", "name")
_OVERWRITE = Flag("overwrite", words="also where there is another value already")
_RECURSIVE = Flag("recursive", words="all fields below it, too")
_LIST = Flag("list", words="all that one may do in the namespace")
_FOR = Flag("for", "", Takes.TEXT, "what: delete, create, condition=NAME[=VALUE] or jsonpath=PATH[=VALUE]; needed")
_GIVE_UP = Flag("timeout", "", Takes.DURATION, "give up after this long; 30s when left out, 0: look once")
_ABOUT = Flag("for", "", Takes.TEXT, "only those about KIND/NAME")
_TYPES = Flag("types", "", Takes.TEXT, "only these, e.g. Warning,Normal")
_GROUP = Flag("api-group", "", Takes.TEXT, "only those of this group")
_NAMESPACED = Flag("namespaced", words="only those of namespaces; =false: only those of the cluster")
_VERSION = Flag("api-version", "", Takes.TEXT, "GROUP/VERSION of the kind")
_SUBRESOURCE = Flag("subresource", "", Takes.TEXT, "a part of the kind, like log")
_PATCH = Flag("patch", "p", Takes.TEXT, "what changes, in JSON; needed")
_TYPE = Flag("type", "", Takes.CHOICE, "how it is merged", ("merge", "strategic"))
_CHANGING = (NAMESPACE, SELECTOR, DRY_RUN, _FORM, _OVERWRITE)


def _hosted(name: str, usage: str, words: str, *flags: Flag, writes: bool = False) -> Verb:
    return Verb(name, usage, words, flags, writes, hosted=True)


HOSTED = (
    _hosted("annotate", "KIND/NAME… KEY=VALUE… KEY-…", "Set and remove annotations.", *_CHANGING, writes=True),
    _hosted(
        "api-resources", "", "List the kinds that the cluster serves.",
        _GROUP, _NAMESPACED, _form("wide", "name"), NO_HEADERS,
    ),
    _hosted("api-versions", "", "List the versions of the API that the cluster serves."),
    _hosted("auth can-i", "VERB KIND[/NAME] | --list", "Tell what one may do oneself.",
            NAMESPACE, ALL_NAMESPACES, _LIST, _SUBRESOURCE),
    _hosted("auth whoami", "", "Tell who one is inside the cluster.", _form("json", "yaml")),
    _hosted("cluster-info", "", "Tell where the cluster's own services are."),
    _hosted("create", "-f -", "Make the objects of the manifest of standard input.",
            NAMESPACE, STDIN, DRY_RUN, _FORM, writes=True),
    _hosted("events", "", "List events, the newest last.", NAMESPACE, ALL_NAMESPACES, _ABOUT, _TYPES, NO_HEADERS),
    _hosted("explain", "KIND[.FIELD…]", "Explain the fields of a kind.", _RECURSIVE, _VERSION),
    _hosted("label", "KIND/NAME… KEY=VALUE… KEY-…", "Set and remove labels.", *_CHANGING, writes=True),
    _hosted("patch", "KIND/NAME -p JSON", "Change fields of an object; not what its containers are.",
            NAMESPACE, DRY_RUN, _FORM, _PATCH, _TYPE, writes=True),
    _hosted("replace", "-f -", "Put the objects of the manifest of standard input in place of those that are there.",
            NAMESPACE, STDIN, DRY_RUN, _FORM, writes=True),
    _hosted("taint", "nodes NAME… KEY[=VALUE]:EFFECT… KEY-…", "Set and remove taints of nodes.",
            SELECTOR, DRY_RUN, _OVERWRITE, writes=True),
    _hosted("version", "", "Tell the versions of kubectl and of the cluster.", _form("json", "yaml")),
    _hosted("wait", "KIND/NAME…", "Wait until something is so with objects.",
            NAMESPACE, ALL_NAMESPACES, SELECTOR, _FOR, _GIVE_UP),
)  # fmt: skip
