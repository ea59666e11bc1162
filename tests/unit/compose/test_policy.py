"""Policy: every refusal, in every syntax, on the file and on the normal form alike."""

import pytest

from towline.compose import document, normal, policy
from towline.compose.policy import Context, Level, Policy, Rule, Violation, for_level, local

FOLDER = "/srv/projects/shop"
CONTEXT = Context(
    folder=FOLDER,
    project="shop",
    protected=("/var/lib/towline-agent", "/srv/projects"),
    foreign=frozenset({"blog_data", "blog_default"}),
    taken_ports={8443: "towline", 9000: "blog"},
    refused_addresses=frozenset({"10.0.0.1"}),
)
RESTRICTED, STANDARD, PRIVILEGED = (for_level(level) for level in Level)
# What a host with a default agent and a project of the standard level allow together.
HOST = policy.stricter(STANDARD, local())


def _check(text: str, rules: Policy = HOST, context: Context = CONTEXT) -> list[Violation]:
    loaded = document.load(text)
    return policy.check(loaded.data, rules, context, loaded)


def _service(body: str, rules: Policy = HOST, context: Context = CONTEXT) -> list[Violation]:
    return _check(f"services:\n  web:\n    image: nginx\n    {body}\n  db:\n    image: pg\n", rules, context)


REFUSED_IN_A_SERVICE: list[tuple[Rule, str]] = [
    (Rule.LEVEL, "privileged: true"),
    (Rule.LEVEL, "privileged: 'yes'"),
    (Rule.LEVEL, "privileged: 'ON'"),
    (Rule.LEVEL, "privileged: 1"),
    (Rule.LEVEL, "use_api_socket: true"),
    (Rule.LEVEL, "cgroup_parent: /x"),
    (Rule.LEVEL, "devices: ['/dev/sda:/dev/sda']"),
    (Rule.LEVEL, "devices: [{source: /dev/sda, target: /dev/sda}]"),
    (Rule.LEVEL, "device_cgroup_rules: ['c 1:3 mr']"),
    (Rule.LEVEL, "gpus: all"),
    (Rule.LEVEL, "gpus: [{driver: nvidia}]"),
    (Rule.LEVEL, "runtime: nvidia"),
    (Rule.LEVEL, "userns_mode: host"),
    (Rule.LEVEL, "credential_spec: {file: x.json}"),
    (Rule.LEVEL, "models: [llm]"),
    (Rule.LEVEL, "cpu_rt_runtime: 400ms"),
    (Rule.PROVIDER, "provider: {type: sh}"),
    (Rule.UNKNOWN_KEY, "enviroment: {A: b}"),
    (Rule.UNKNOWN_KEY, "brand_new_key: 1"),
    (Rule.CAPABILITY, "cap_add: [SYS_ADMIN]"),
    (Rule.CAPABILITY, "cap_add: [cap_sys_admin]"),
    (Rule.CAPABILITY, "cap_add: [ALL]"),
    (Rule.CAPABILITY, "cap_add: [NET_ADMIN]"),
    (Rule.HOST_NETWORK, "network_mode: host"),
    (Rule.NAMESPACE, "network_mode: container:other"),
    (Rule.NAMESPACE, "network_mode: service:elsewhere"),
    (Rule.NAMESPACE, "network_mode: macvlan0"),
    (Rule.NAMESPACE, "pid: host"),
    (Rule.NAMESPACE, "pid: container:x"),
    (Rule.NAMESPACE, "ipc: host"),
    (Rule.NAMESPACE, "ipc: container:x"),
    (Rule.NAMESPACE, "uts: host"),
    (Rule.NAMESPACE, "cgroup: host"),
    (Rule.NAMESPACE, "volumes_from: ['container:other']"),
    (Rule.NAMESPACE, "volumes_from: ['elsewhere:ro']"),
    (Rule.SECURITY_OPTION, "security_opt: ['seccomp:unconfined']"),
    (Rule.SECURITY_OPTION, "security_opt: ['seccomp=unconfined']"),
    (Rule.SECURITY_OPTION, "security_opt: ['apparmor=unconfined']"),
    (Rule.SECURITY_OPTION, "security_opt: ['label:disable']"),
    (Rule.SECURITY_OPTION, "security_opt: ['label=type:spc_t']"),
    (Rule.SECURITY_OPTION, "security_opt: ['no-new-privileges:false']"),
    (Rule.SECURITY_OPTION, "security_opt: ['systempaths=unconfined']"),
    (Rule.SYSCTL, "sysctls: {kernel.core_pattern: x}"),
    (Rule.SYSCTL, "sysctls: ['vm.swappiness=1']"),
    (Rule.DEVICE, "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}"),
    (Rule.UNKNOWN_KEY, "deploy: {resources: {limits: {gpus: 1}}}"),
    (Rule.UNKNOWN_KEY, "deploy: {secret_feature: 1}"),
    (Rule.OWN_PATH, "volumes: ['/:/host']"),
    (Rule.SYSTEM_PATH, "volumes: ['/etc:/x:ro']"),
    (Rule.SYSTEM_PATH, "volumes: ['/etc/passwd:/x:ro']"),
    (Rule.SYSTEM_PATH, "volumes: ['/proc:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['/sys:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['/dev:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['/var/lib/docker:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['//etc:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['/srv/../etc:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['../../../etc:/x']"),
    (Rule.SYSTEM_PATH, "volumes: [{type: bind, source: /etc, target: /x}]"),
    (Rule.SYSTEM_PATH, "volumes: [{type: bind, source: ../../../etc, target: /x, read_only: true}]"),
    (Rule.OWN_PATH, "volumes: ['/var:/x']"),
    (Rule.SOCKET, "volumes: ['/var/run/docker.sock:/var/run/docker.sock']"),
    (Rule.SOCKET, "volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']"),
    (Rule.SOCKET, "volumes: [{type: bind, source: /opt/app/control.sock, target: /x}]"),
    (Rule.SOCKET, "volumes: ['./x.sock:/x']"),
    (Rule.OWN_PATH, "volumes: ['/var/lib/towline-agent:/x']"),
    (Rule.OWN_PATH, "volumes: ['/var/lib/towline-agent/identity.json:/x:ro']"),
    (Rule.OWN_PATH, "volumes: ['/var/lib:/x']"),
    (Rule.OWN_PATH, "volumes: ['../blog:/x']"),
    (Rule.OWN_PATH, "volumes: ['..:/x']"),
    (Rule.BIND, "volumes: ['/data:/x']"),
    (Rule.BIND, "volumes: ['/data:/x:ro']"),
    (Rule.BIND, "volumes: ['~/x:/x']"),
    (Rule.BIND, "volumes: [{type: bind, source: '~', target: /x}]"),
    (Rule.BIND, "volumes: [{type: npipe, source: x, target: /x}]"),
    (Rule.BIND, "volumes: [{type: cluster, source: x, target: /x}]"),
    (Rule.SHAPE, "volumes: ['C:\\\\x:/x']"),
    (Rule.SHAPE, "volumes: [{type: bind, target: /x}]"),
    (Rule.SHAPE, "volumes: ['d:/data']"),
    (Rule.SHAPE, "volumes: ['a:b:c:d']"),
    (Rule.SHAPE, "volumes: [5]"),
    (Rule.SHAPE, "volumes: ./x:/x"),
    (Rule.PROJECT_FILES, "volumes: ['.:/app']"),
    (Rule.PROJECT_FILES, "volumes: ['./compose.yaml:/x']"),
    (Rule.PROJECT_FILES, "volumes: ['./.env:/x']"),
    (Rule.PROJECT_FILES, "volumes: ['./.towline:/x:ro']"),
    (Rule.PROJECT_FILES, "volumes: ['./.towline/secrets/a:/x']"),
    (Rule.PROPAGATION, "volumes: ['./data:/x:rshared']"),
    (Rule.PROPAGATION, "volumes: [{type: bind, source: ./data, target: /x, bind: {propagation: shared}}]"),
    (Rule.UNKNOWN_KEY, "volumes: [{type: bind, source: ./data, target: /x, option: y}]"),
    (Rule.OUTSIDE_FILE, "env_file: ../../etc/shadow"),
    (Rule.OUTSIDE_FILE, "env_file: [/etc/shadow]"),
    (Rule.OUTSIDE_FILE, "env_file: [{path: ../x, required: false}]"),
    (Rule.OUTSIDE_FILE, "label_file: ../x"),
    (Rule.OUTSIDE_FILE, "extends: {service: a, file: ../x.yaml}"),
    (Rule.REMOTE, "extends: {service: a, file: 'https://example.org/x.yaml'}"),
    (Rule.OUTSIDE_FILE, "build: .."),
    (Rule.OUTSIDE_FILE, "build: {context: /}"),
    (Rule.OUTSIDE_FILE, "build: {context: ., dockerfile: ../Dockerfile}"),
    (Rule.OUTSIDE_FILE, "build: {context: ., additional_contexts: {x: /etc}}"),
    (Rule.OUTSIDE_FILE, "build: {context: ., additional_contexts: ['x=../y']}"),
    (Rule.REMOTE, "build: 'https://github.com/a/b.git'"),
    (Rule.REMOTE, "build: 'git@github.com:a/b.git'"),
    (Rule.REMOTE, "build: github.com/a/b"),
    (Rule.REMOTE, "build: {context: 'ssh://git@h/x'}"),
    (Rule.REMOTE, "build: {context: ., additional_contexts: {x: 'oci-layout:///etc'}}"),
    (Rule.HOST_NETWORK, "build: {context: ., network: host}"),
    (Rule.LEVEL, "build: {context: ., ssh: [default]}"),
    (Rule.LEVEL, "build: {context: ., privileged: true}"),
    (Rule.LEVEL, "build: {context: ., entitlements: [security.insecure]}"),
    (Rule.BUILD, "build: {context: ., cache_to: ['type=local,dest=/etc']}"),
    (Rule.UNKNOWN_KEY, "build: {context: ., contexts: x}"),
    (Rule.IMAGE, "image: Nginx"),
    (Rule.IMAGE, "image: registry@evil"),
    (Rule.IMAGE, "pull_policy: every_5m"),
    (Rule.IMAGE, "volumes: [{type: image, source: 'BAD IMAGE', target: /x}]"),
    (Rule.PORT, "ports: ['0:80']"),
    (Rule.PORT, "ports: ['70000:80']"),
    (Rule.PORT, "ports: ['80:70000']"),
    (Rule.PORT, "ports: ['1-65535:1-65535']"),
    (Rule.PORT, "ports: ['8000-8010:80-81']"),
    (Rule.PORT, "ports: ['10.0.0.1:8080:80']"),
    (Rule.PORT, "ports: ['host:8080:80']"),
    (Rule.PORT, "ports: ['8443:80']"),
    (Rule.PORT, "ports: ['8990-9010:90-110']"),
    (Rule.PORT, "ports: ['80:80/icmp']"),
    (Rule.PORT, "ports: [{target: 0}]"),
    (Rule.PORT, "ports: [{target: 80, published: '99999'}]"),
    (Rule.PORT, "ports: [{target: 80, published: '8080', host_ip: 10.0.0.1}]"),
    (Rule.PORT, "ports: [{target: 80, hidden: 1}]"),
    (Rule.PORT, "ports: ['-5:80']"),
    (Rule.PORT, "ports: ['٣:80']"),
    (Rule.LABEL, "labels: {towline.route: x}"),
    (Rule.LABEL, "labels: {towline.routes.main.host: x}"),
    (Rule.LABEL, "labels: ['towline.route=x']"),
    (Rule.LABEL, "labels: {com.docker.compose.project: blog}"),
    (Rule.LABEL, "labels: ['com.docker.compose.project=blog']"),
    (Rule.LABEL, "annotations: {towline.x: y}"),
    (Rule.LABEL, "deploy: {labels: {towline.x: y}}"),
    (Rule.LABEL, "build: {context: ., labels: {towline.x: y}}"),
    (Rule.LABEL, "build: {context: ., labels: ['towline.x=y']}"),
    (Rule.LOGGING, "logging: {driver: syslog, options: {syslog-address: 'tcp://evil:514'}}"),
    (Rule.LOGGING, "logging: {driver: fluentd}"),
    (Rule.LEVEL, "post_start: [{command: x, privileged: true}]"),
    (Rule.LEVEL, "networks: {default: {driver_opts: {com.docker.network.endpoint.sysctls: x}}}"),
    (Rule.UNKNOWN_KEY, "secrets: [{source: a, path: /x}]"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "body"), REFUSED_IN_A_SERVICE)
def test_a_service_that_reaches_too_far_is_refused_with_key_and_line(rule: Rule, body: str) -> None:
    text = f"services:\n  web:\n    {body}\n" + ("" if "image:" in body else "    image: nginx\n")
    found = _check(text + "  db: {image: pg}\n")
    assert rule in {violation.rule for violation in found}, found
    assert all(violation.line == 3 and violation.fix and violation.key_path for violation in found)


@pytest.mark.parametrize(("rule", "body"), REFUSED_IN_A_SERVICE)
def test_what_is_merged_in_is_refused_too(rule: Rule, body: str) -> None:
    text = f"x-hidden: &hidden\n  {body}\nservices:\n  web:\n    <<: *hidden\n  db: {{image: pg}}\n"
    assert rule in {violation.rule for violation in _check(text)}


@pytest.mark.parametrize(("rule", "body"), REFUSED_IN_A_SERVICE)
def test_the_file_and_its_normal_form_are_judged_alike(rule: Rule, body: str) -> None:
    loaded = document.load(f"services:\n  web:\n    {body}\n  db: {{image: pg}}\n")
    normalised = normal.normalise(loaded.data, lambda path, message: None)
    if rule is not Rule.SHAPE:  # what has no shape is gone in the normal form, and `config` refuses it before
        assert rule in {violation.rule for violation in policy.check(normalised, HOST, CONTEXT)}


REFUSED_AT_THE_TOP: list[tuple[Rule, str]] = [
    (Rule.UNKNOWN_KEY, "serices: {}"),
    (Rule.LEVEL, "models: {llm: {model: x}}"),
    (Rule.OUTSIDE_FILE, "include: ['../x.yaml']"),
    (Rule.OUTSIDE_FILE, "include: [{path: [a.yaml, /etc/x.yaml]}]"),
    (Rule.OUTSIDE_FILE, "include: [{path: a.yaml, env_file: ../x}]"),
    (Rule.OUTSIDE_FILE, "include: [{path: a.yaml, project_directory: ..}]"),
    (Rule.REMOTE, "include: ['oci://registry/x:1']"),
    (Rule.REMOTE, "include: ['https://github.com/a/b.git']"),
    (Rule.REMOTE, "include: [{path: 'git@github.com:a/b.git'}]"),
    (Rule.SHAPE, "include: x.yaml"),
    (Rule.SYSTEM_PATH, "volumes: {x: {driver_opts: {type: none, o: bind, device: /etc}}}"),
    (Rule.SYSTEM_PATH, "volumes: {x: {driver: local, driver_opts: {type: none, o: 'ro,bind', device: /etc}}}"),
    (Rule.OWN_PATH, "volumes: {x: {driver_opts: {o: rbind, device: /}}}"),
    (Rule.SOCKET, "volumes: {x: {driver_opts: {type: none, o: bind, device: /var/run/docker.sock}}}"),
    (Rule.BIND, "volumes: {x: {driver_opts: {type: none, o: bind, device: /data}}}"),
    (Rule.SHAPE, "volumes: {x: {driver_opts: {type: none, o: bind}}}"),
    (Rule.DRIVER_OPTION, "volumes: {x: {driver_opts: {type: ext4, device: /dev/sda1}}}"),
    (Rule.DRIVER_OPTION, "volumes: {x: {driver_opts: {type: overlay, o: 'lowerdir=/etc', device: overlay}}}"),
    (Rule.DRIVER_OPTION, "volumes: {x: {driver_opts: {type: none, o: remount, device: /etc}}}"),
    (Rule.DRIVER, "volumes: {x: {driver: sshfs}}"),
    (Rule.FOREIGN, "volumes: {x: {external: true, name: blog_data}}"),
    (Rule.FOREIGN, "volumes: {blog_data: {external: true}}"),
    (Rule.FOREIGN, "volumes: {x: {name: blog_data}}"),
    (Rule.FOREIGN, "volumes: {x: {external: {name: blog_data}}}"),
    (Rule.UNKNOWN_KEY, "volumes: {x: {mode: y}}"),
    (Rule.LABEL, "volumes: {x: {labels: {com.docker.compose.volume: y}}}"),
    (Rule.LABEL, "networks: {x: {labels: ['towline.x=y']}}"),
    (Rule.HOST_NETWORK, "networks: {default: {name: host, external: true}}"),
    (Rule.HOST_NETWORK, "networks: {host: {external: true}}"),
    (Rule.HOST_NETWORK, "networks: {x: {driver: host}}"),
    (Rule.HOST_NETWORK, "networks: {x: {external: {name: host}}}"),
    (Rule.DRIVER, "networks: {x: {driver: macvlan, driver_opts: {parent: eth0}}}"),
    (Rule.DRIVER, "networks: {x: {driver: ipvlan}}"),
    (Rule.DRIVER, "networks: {x: {ipam: {driver: custom}}}"),
    (Rule.DRIVER_OPTION, "networks: {x: {driver_opts: {parent: eth0}}}"),
    (Rule.FOREIGN, "networks: {x: {external: true, name: blog_default}}"),
    (Rule.OUTSIDE_FILE, "secrets: {x: {file: /etc/shadow}}"),
    (Rule.OUTSIDE_FILE, "secrets: {x: {file: ../other/secret}}"),
    (Rule.EXTERNAL, "secrets: {x: {external: true}}"),
    (Rule.UNKNOWN_KEY, "secrets: {x: {file: a, template_driver: golang}}"),
    (Rule.OUTSIDE_FILE, "configs: {x: {file: /etc/shadow}}"),
    (Rule.EXTERNAL, "configs: {x: {external: true}}"),
    (Rule.SHAPE, "networks: [a]"),
    (Rule.SHAPE, "volumes: {x: text}"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "section"), REFUSED_AT_THE_TOP)
def test_a_section_that_reaches_too_far_is_refused_with_its_line(rule: Rule, section: str) -> None:
    found = _check(f"services: {{web: {{image: nginx}}}}\n{section}\n")
    assert [violation.rule for violation in found].count(rule) >= 1, found
    assert all(violation.line == 2 for violation in found)


ALLOWED = """
name: shop
services:
  web:
    image: registry.example/acme/web:1.2
    container_name: shop-web
    command: ["serve"]
    environment: {A: "1", B: null}
    env_file: [web.env, {path: local.env, required: false}]
    labels: ["com.example.team=web"]
    ports: ["8080:80", "127.0.0.1:5353:53/udp", "9100-9102:9100-9102", 3000, {target: 81, published: "8081"}]
    volumes:
      - data:/data
      - ./conf:/etc/nginx:ro
      - ./uploads:/uploads
      - .:/app:ro
      - /etc/localtime:/etc/localtime:ro
      - ./.towline/secrets/tls:/tls:ro
      - /anonymous
      - {type: tmpfs, target: /scratch, tmpfs: {size: 1000000}}
      - {type: volume, source: data, target: /more, volume: {subpath: x}}
    networks: {default: {aliases: [www]}, shared: {}}
    depends_on: {db: {condition: service_healthy}}
    healthcheck: {test: ["CMD", "true"], interval: 5s}
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE, CAP_CHOWN]
    security_opt: ["no-new-privileges:true"]
    sysctls: {net.core.somaxconn: 1024}
    logging: {driver: json-file, options: {max-size: 10m}}
    restart: unless-stopped
    privileged: false
    devices: []
    pid: service:db
    ipc: shareable
    post_start: [{command: [x], user: root}]
    deploy: {replicas: 2, resources: {limits: {memory: 1g}, reservations: {cpus: "0.5"}}}
    secrets: [key, {source: key, target: k, mode: 0400}]
    configs: [{source: app, target: /app.conf}]
    x-note: mine
  db:
    build: {context: ./db, dockerfile: Dockerfile.prod, args: {V: 1}, additional_contexts: {web: "service:web"}}
    volumes_from: [web]
    network_mode: none
volumes:
  data:
  nfs: {driver_opts: {type: nfs, o: "addr=10.1.1.1,rw", device: ":/export"}}
  memory: {driver_opts: {type: tmpfs, device: tmpfs, o: size=10m}}
  mine: {driver_opts: {type: none, o: bind, device: ./uploads}}
  theirs: {external: true, name: shared_data}
networks:
  shared: {external: true}
  default: {driver: bridge, driver_opts: {com.docker.network.driver.mtu: "1400"}}
secrets:
  key: {file: ./key.txt}
configs:
  app: {content: "x=1"}
x-anything: {privileged: true}
"""


def test_an_ordinary_project_is_allowed_at_the_standard_level() -> None:
    assert _check(ALLOWED) == []


def test_the_normal_form_of_an_ordinary_project_is_allowed_too() -> None:
    normalised = normal.normalise(document.load(ALLOWED).data, lambda path, message: None)
    assert policy.check(normalised, HOST, CONTEXT) == []
    assert normal.normalise(normalised, lambda path, message: None) == normalised


RESTRICTED_TOO = [
    (Rule.LEVEL, "container_name: x"),
    (Rule.LEVEL, "pid: service:db"),
    (Rule.LEVEL, "sysctls: {net.core.somaxconn: 1}"),
    (Rule.LEVEL, "volumes_from: [db]"),
    (Rule.CAPABILITY, "cap_add: [CHOWN]"),
    (Rule.PORT, "ports: ['80:80']"),
    (Rule.BIND, "volumes: ['/data:/x']"),
    (Rule.SYSTEM_PATH, "volumes: ['/etc/localtime:/etc/localtime:ro']"),
    (Rule.SECURITY_OPTION, "security_opt: ['label=level:s0:c1']"),
    (Rule.LEVEL, "build: {context: ., tags: [other]}"),
]


@pytest.mark.parametrize(("rule", "body"), RESTRICTED_TOO)
def test_the_restricted_level_refuses_more(rule: Rule, body: str) -> None:
    assert rule in {violation.rule for violation in _service(body, RESTRICTED)}
    assert _service(body, STANDARD) == []


@pytest.mark.parametrize(
    "section",
    [
        "volumes: {x: {external: true}}",
        "volumes: {x: {name: other}}",
        "networks: {x: {external: true}}",
        "networks: {x: {name: other}}",
    ],
)
def test_the_restricted_level_keeps_to_what_the_project_makes(section: str) -> None:
    text = f"services: {{web: {{image: nginx}}}}\n{section}\n"
    assert [violation.rule for violation in _check(text, RESTRICTED)] == [Rule.EXTERNAL]
    assert _check(text) == []


def test_the_restricted_level_accepts_the_names_that_compose_makes() -> None:
    text = "services: {web: {image: a}}\nvolumes: {x: {name: shop_x}}\nnetworks: {default: {name: shop_default}}\n"
    assert _check(text, RESTRICTED) == []


def test_the_restricted_level_allows_shared_storage_to_nobody() -> None:
    text = "services: {web: {image: a}}\nvolumes: {x: {driver_opts: {type: nfs, o: addr=h, device: ':/x'}}}\n"
    assert [violation.rule for violation in _check(text, RESTRICTED)] == [Rule.DRIVER_OPTION]


STILL_REFUSED_AT_PRIVILEGED = {
    Rule.PROVIDER, Rule.UNKNOWN_KEY, Rule.OWN_PATH, Rule.PROJECT_FILES, Rule.OUTSIDE_FILE, Rule.REMOTE, Rule.IMAGE,
    Rule.PORT, Rule.LABEL, Rule.SHAPE, Rule.BUILD,
}  # fmt: skip


@pytest.mark.parametrize(("rule", "body"), REFUSED_IN_A_SERVICE)
def test_the_privileged_level_still_protects_us_and_the_bundle(rule: Rule, body: str) -> None:
    if body.startswith("volumes: ['./x.sock") or "npipe" in body or "cluster" in body:
        return  # a socket of its own making, and mount types that do not exist here, stay refused at every level
    found = {violation.rule for violation in _service(body, PRIVILEGED)} if "image:" not in body else {rule}
    if body.startswith("build") and rule is Rule.LABEL:
        assert found == {Rule.LABEL}
    elif rule in STILL_REFUSED_AT_PRIVILEGED:
        assert rule in found
    else:
        assert rule not in found


def test_a_link_is_judged_by_where_it_really_leads() -> None:
    real = Context(
        folder=FOLDER, project="shop", real_paths={f"{FOLDER}/data": "/etc", f"{FOLDER}/e.env": "/etc/shadow"}
    )
    assert [each.rule for each in _service("volumes: ['./data:/x']", HOST, real)] == [Rule.SYSTEM_PATH]
    assert "leads to '/etc'" in _service("volumes: ['./data:/x']", HOST, real)[0].message
    assert [each.rule for each in _service("env_file: e.env", HOST, real)] == [Rule.OUTSIDE_FILE]


def test_no_value_of_a_variable_appears_in_a_violation() -> None:
    found = _service("environment: {PASSWORD: hunter2}\n    privileged: true\n    labels: {towline.x: hunter2}")
    assert found
    assert "hunter2" not in str(found)


def test_around_the_agents_folder_a_privileged_project_may_only_read() -> None:
    assert _service("volumes: ['/:/host:ro']", PRIVILEGED) == []
    assert [each.rule for each in _service("volumes: ['/:/host']", PRIVILEGED)] == [Rule.OWN_PATH]
    assert [each.rule for each in _service("volumes: ['/var/lib/towline-agent:/x:ro']", PRIVILEGED)] == [Rule.OWN_PATH]


def test_our_own_label_is_allowed() -> None:
    assert _service("labels: {towline.files: abc}") == []


def test_a_label_may_ask_for_a_public_name() -> None:
    assert _service("labels: {towline.route.main.host: shop.example.com}") == []
    assert _service("labels: ['towline.route.main.port=80']") == []


def test_a_violation_reads_as_a_sentence() -> None:
    found = _service("cap_add: [SYS_ADMIN]")
    assert str(found[0]) == (
        "line 4: services.web.cap_add[0]: the capability 'SYS_ADMIN' is not granted (remove it, or ask for it)"
    )
