"""Access tuples: what the server would find, and our own refusals and additions."""

import pytest

from towline.kube.access import AccessTuple, BadPath, BadRequest, derive, first_value

CORE, APPS = b"/api/v1", b"/apis/apps/v1"


def short(access: AccessTuple) -> str:
    """Return a tuple as one line: verb, group/version, kind, namespace, name."""
    group = f"{access.group}/{access.version}"
    return f"{access.verb} {group} {access.kind} {access.namespace or '-'} {access.name or '-'}"


SERVER_CASES = [
    (b"GET", CORE + b"/pods", b"", "list /v1 pods - -"),
    (b"HEAD", CORE + b"/pods", b"", "list /v1 pods - -"),
    (b"GET", CORE + b"/namespaces/a/pods", b"limit=500", "list /v1 pods a -"),
    (b"GET", CORE + b"/namespaces/a/pods/", b"", "list /v1 pods a -"),
    (b"GET", CORE + b"/namespaces/a/pods/p", b"", "get /v1 pods a p"),
    (b"HEAD", CORE + b"/namespaces/a/pods/p", b"", "get /v1 pods a p"),
    (b"GET", CORE + b"/namespaces/a/pods/p/log", b"follow=true", "get /v1 pods/log a p"),
    (b"POST", CORE + b"/namespaces/a/pods", b"", "create /v1 pods a -"),
    (b"PUT", CORE + b"/namespaces/a/pods/p/status", b"", "update /v1 pods/status a p"),
    (b"PATCH", APPS + b"/namespaces/a/deployments/d/scale", b"", "patch apps/v1 deployments/scale a d"),
    (b"DELETE", CORE + b"/namespaces/a/pods/p", b"", "delete /v1 pods a p"),
    (b"DELETE", CORE + b"/namespaces/a/pods", b"", "deletecollection /v1 pods a -"),
    (b"DELETE", CORE + b"/nodes", b"fieldSelector=metadata.name%3Dn", "deletecollection /v1 nodes - -"),
    (b"GET", CORE + b"/namespaces", b"", "list /v1 namespaces - -"),
    (b"POST", CORE + b"/namespaces", b"", "create /v1 namespaces - -"),
    (b"GET", CORE + b"/namespaces/a", b"", "get /v1 namespaces a a"),
    (b"DELETE", CORE + b"/namespaces/a", b"", "delete /v1 namespaces a a"),
    (b"PUT", CORE + b"/namespaces/a/finalize", b"", "update /v1 namespaces/finalize a a"),
    (b"PUT", CORE + b"/namespaces/a/status", b"", "update /v1 namespaces/status a a"),
    (b"GET", CORE + b"/namespaces/a/status/x", b"", "get /v1 namespaces/status a a"),
    (b"GET", CORE + b"/namespaces/status/pods", b"", "list /v1 pods status -"),
    (b"GET", CORE + b"/namespaces/a/services/s:80/proxy/x/y", b"", "get /v1 services/proxy a s:80"),
    (b"POST", CORE + b"/namespaces/a/pods/p/proxy", b"", "create /v1 pods/proxy a p"),
    (b"GET", CORE + b"/nodes/n/proxy/run/a/b/c", b"cmd=id", "get /v1 nodes/proxy - n"),
    (b"GET", b"/apis/metrics.k8s.io/v1beta1/nodes", b"", "list metrics.k8s.io/v1beta1 nodes - -"),
    (b"GET", APPS + b"/deployments", b"", "list apps/v1 deployments - -"),
    (b"GET", b"/apis/g/v/namespaces/a/r/n/s/tail", b"", "get g/v r/s a n"),
    (b"GET", CORE + b"/watch/pods", b"", "watch /v1 pods - -"),
    (b"GET", CORE + b"/watch/namespaces/a/pods/p", b"", "watch /v1 pods a p"),
    (b"GET", CORE + b"/watch/namespaces/a/secrets", b"watch=false", "watch /v1 secrets a -"),
]
"""Also put to a real API server, whose audit log must say the same."""


@pytest.mark.parametrize(("method", "path", "query", "expected"), SERVER_CASES)
def test_tuple_is_what_the_server_derives(method: bytes, path: bytes, query: bytes, expected: str) -> None:
    access = derive(method, path, query)
    assert access.is_resource
    assert short(access) == expected
    assert access.path == path.decode()


WATCH_CASES = [
    (b"watch", "watch"), (b"watch=", "watch"), (b"watch=yes", "watch"), (b"watch=TRUE", "watch"),
    (b"watch=1", "watch"), (b"watch=true", "watch"), (b"limit=1&watch=true", "watch"), (b"%77atch=1", "watch"),
    (b"watch=%74rue", "watch"), (b"watch=true&watch=false", "watch"), (b"watch=+false", "watch"),
    (b"watch=false", "list"), (b"watch=FALSE", "list"), (b"watch=0", "list"), (b"watch=%30", "list"),
    (b"watch=false&watch=true", "list"), (b"Watch=true", "list"), (b"watch=true;x", "list"),
    (b"xwatch=true", "list"),
    (b"watch%zz=true", "list"), (b"watch=%zz&watch=false", "list"), (b"", "list"), (b"labelSelector=watch", "list"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "verb"), WATCH_CASES)
def test_first_value_of_watch_decides_between_list_and_watch(query: bytes, verb: str) -> None:
    assert derive(b"GET", CORE + b"/namespaces/a/secrets", query).verb == verb


def test_watch_on_a_named_object_is_still_a_get() -> None:
    assert derive(b"GET", CORE + b"/namespaces/a/pods/p", b"watch=true").verb == "get"


SELECTOR_CASES = [
    (b"fieldSelector=metadata.name=p", "p"), (b"fieldSelector=metadata.name%3Dp", "p"),
    (b"fieldSelector=metadata.name%3D%3Dp", "p"),
    (b"fieldSelector=status.phase%3DRunning%2Cmetadata.name%3Dp", "p"),
    (b"watch=1&fieldSelector=metadata.name%3Dp", "p"), (b"fieldSelector=metadata.name%3Dp&fieldSelector=x", "p"),
    (b"field%53elector=metadata.name%3Dp", "p"),
    (b"fieldSelector=metadata.name!%3Dp", ""), (b"fieldSelector=metadata.namespace%3Dp", ""),
    (b"fieldSelector=metadata.name%3Dp,broken", ""), (b"fieldSelector=metadata.name%3Da%2Fb", ""),
    (b"fieldSelector=metadata.name%3D..", ""), (b"fieldSelector=metadata.name%3D", ""),
    (b"fieldSelector=x&fieldSelector=metadata.name%3Dp", ""), (b"fieldSelector=metadata.name%3Dp;", ""),
    (b"fieldSelector=metadata.name%3Da%5C%2Cb", "a,b"), (b"fieldSelector=metadata.name%3Da%5Cb", ""),
]  # fmt: skip


@pytest.mark.parametrize(("query", "name"), SELECTOR_CASES)
def test_field_selector_on_the_name_names_the_object(query: bytes, name: str) -> None:
    assert derive(b"GET", CORE + b"/namespaces/a/pods", query).name == name


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD"])
@pytest.mark.parametrize("subresource", [b"exec", b"attach", b"portforward"])
def test_exec_family_is_always_a_create(method: bytes, subresource: bytes) -> None:
    access = derive(method, CORE + b"/namespaces/a/pods/p/" + subresource, b"command=sh&watch=true")
    assert (access.verb, access.is_exec_family, access.is_upgrade_verb) == ("create", True, True)


@pytest.mark.parametrize(
    ("method", "path", "verb"),
    [
        (b"GET", b"/", "get"), (b"GET", b"/version", "get"), (b"HEAD", b"/healthz", "head"), (b"GET", b"/api", "get"),
        (b"GET", b"/api/v1", "get"), (b"GET", b"/api/v1/", "get"), (b"GET", b"/apis/apps/v1", "get"),
        (b"POST", b"/apis/apps", "post"), (b"GET", b"/API/v1/pods", "get"),
        (b"GET", b"/apix/v1/namespaces/a/pods", "get"),
        (b"OPTIONS", b"/metrics", "options"), (b"GET", b"/logs/a/b/c", "get"), (b"DELETE", b"/debug/pprof", "delete"),
    ],
)  # fmt: skip
def test_other_paths_are_not_about_resources(method: bytes, path: bytes, verb: str) -> None:
    assert derive(method, path, b"watch=true") == AccessTuple(verb, path=path.decode(), is_resource=False)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        (b"GET", CORE + b"/proxy/nodes/n", "old_proxy"),
        (b"GET", CORE + b"/proxy/namespaces/a/pods/p/x", "old_proxy"),
        (b"GET", CORE + b"/proxy", "old_proxy"),
        (b"GET", CORE + b"/watch", "watch_of_nothing"),
        (b"GET", APPS + b"/watch/", "watch_of_nothing"),
        (b"DELETE", CORE + b"/watch/pods", "bad_method"),
        (b"OPTIONS", CORE + b"/pods", "bad_method"),
        (b"TRACE", CORE + b"/namespaces/a/pods/p/exec", "bad_method"),
        (b"get", CORE + b"/pods", "bad_method"),
        (b"CONNECT", CORE + b"/nodes/n/proxy", "bad_method"),
        (b"", CORE + b"/pods", "bad_method"),
    ],
)
def test_request_without_a_verb_that_we_serve_is_refused(method: bytes, path: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        derive(method, path, b"")
    assert caught.value.code == code


def test_path_that_is_not_utf8_is_refused_here_too() -> None:
    with pytest.raises(BadPath):
        derive(b"GET", b"/api/v1/pods/\xff", b"")


def test_tuple_tells_what_is_a_proxy() -> None:
    node = derive(b"GET", CORE + b"/nodes/n/proxy/pods", b"")
    plain = derive(b"GET", CORE + b"/nodes/n", b"")
    assert (node.is_proxy, node.is_upgrade_verb, node.kind) == (True, True, "nodes/proxy")
    assert (plain.is_proxy, plain.is_upgrade_verb, plain.kind) == (False, False, "nodes")


def test_parameters_are_read_as_the_server_reads_them() -> None:
    query = b"command=sh;id&container=a+b&container=c&%63ommand=%6cs&x=%zz"
    assert first_value(query, b"container") == b"a b"
    assert first_value(query, b"command") == b"ls"
    assert first_value(query, b"x") is None
