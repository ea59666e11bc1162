"""The rules of `towline.compose` against the real Compose: it must read, run and label what they foretell."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.testbed.images import docker

from towline.compose import argv, containers, document, environment, hostfiles, interpolation, layout, normal, overrides
from towline.compose import policy as rules
from towline.compose.names import ProjectName
from towline.compose.project import Parsed
from towline.compose.resume import resume
from towline.compose.revision import Revision

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_engine")]

TEXT = """services:
  web:
    image: towline-test/web:1
    user: "65534"
    stop_grace_period: 0s
    environment: {PW: "${DB_PASSWORD}", V: "${V}"}
    secrets: [key]
    volumes: ["./app.conf:/app.conf:ro"]
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate:
    image: towline-test/base:1
    command: ["sh", "-c", "echo run >> /data/runs"]
    volumes: ["runs:/data"]
volumes: {runs: }
"""
VALUES = {"DB_PASSWORD": 'se\'cret$x\\ "and" ${more}', "key": "file secret"}
POLICY = rules.stricter(rules.for_level(rules.Level.STANDARD), rules.local())


@dataclass
class Host:
    """A project's folder on this host, written as the rules say, and the means to run Compose in it."""

    folder: Path
    revision: Revision
    parsed: Parsed
    dialect: argv.Dialect

    @property
    def compose(self) -> argv.Compose:
        files = hostfiles.compose_files(layout.COMPOSE_FILE, self.override())
        return argv.Compose(
            self.dialect, ProjectName(self.revision.project), str(self.folder), files, (layout.ENV_FILE,)
        )

    def override(self, pins: dict[str, str] | None = None) -> str:
        return overrides.render(
            self.parsed.project,
            folder=str(self.folder),
            pins=pins,
            secrets=self.revision.secrets,
            versions=self.revision.secrets,
            files=self.revision.files,
        )

    def write(self, pins: dict[str, str] | None = None) -> None:
        rendered = hostfiles.render(
            self.revision,
            secret_values=VALUES,
            interpolated=self.parsed.variables(),
            override=self.override(pins),
        )
        for file in rendered:
            path = self.folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)

    def run(self, arguments: list[str]) -> str:
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, *command: str) -> str:
        return docker("exec", f"{self.revision.project}-web-1", *command)

    def label(self, service: str, label: str) -> str:
        return docker(
            "inspect", "-f", f'{{{{index .Config.Labels "{label}"}}}}', f"{self.revision.project}-{service}-1"
        )


@pytest.fixture
def dialect() -> argv.Dialect:
    for probe in argv.PROBES:
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
        if (found := argv.detect(probe, done.stdout)) is not None:
            return found
    pytest.fail("no Compose")


@pytest.fixture
def host(tmp_path: Path, dialect: argv.Dialect) -> Iterator[Host]:
    folder = tmp_path / "project"
    folder.mkdir(mode=layout.FOLDER_MODE)
    (folder / "app.conf").write_text("x=1\n")
    revision = Revision(
        f"rules-{secrets.token_hex(4)}",
        TEXT,
        "V='a b'\n",
        secrets={"DB_PASSWORD": "1", "key": "1"},
        files={"app.conf": "aa"},
    )
    made = Host(folder, revision, revision.parse(str(folder)), dialect)
    made.write()
    yield made
    subprocess.run(made.compose.down(volumes=True), capture_output=True, check=True)


def test_compose_accepts_what_was_written_and_policy_accepts_what_compose_prints(host: Host) -> None:
    assert host.parsed.problems == ()
    printed = normal.from_config(json.loads(host.run(host.compose.config())))
    context = rules.Context(folder=str(host.folder), project=host.revision.project)
    assert rules.check(printed, POLICY, context) == []
    assert printed["services"]["web"]["environment"] == {"PW": VALUES["DB_PASSWORD"], "V": "a b"}


def test_containers_see_secrets_as_any_user_and_plain_compose_works_in_the_folder(host: Host) -> None:
    host.run(host.compose.up())
    assert host.inside("cat", "/run/secrets/key") == VALUES["key"]
    assert host.inside("sh", "-c", 'printf %s "$PW"') == VALUES["DB_PASSWORD"]
    assert "web" in host.run(["docker", "compose", "ps", "--all", "--services"])


def test_containers_carry_the_hash_that_config_foretells(host: Host) -> None:
    hashes = containers.config_hashes(host.run(host.compose.config_hashes()))
    host.run(host.compose.up())
    assert {name: host.label(name, containers.LABEL_CONFIG_HASH) for name in ("web", "migrate")} == hashes


def test_an_interrupted_up_goes_on_without_a_second_migration(host: Host) -> None:
    host.run(host.compose.up())
    docker("stop", "-t", "0", f"{host.revision.project}-web-1")
    present = [
        containers.Container(
            id=service,
            service=service,
            state="exited",
            config_hash=host.label(service, containers.LABEL_CONFIG_HASH),
            started_in_this_run=True,
            exit_code=0,
        )
        for service in ("migrate",)
    ]
    hashes = containers.config_hashes(host.run(host.compose.config_hashes()))
    left = resume(host.parsed.project.active(), present, hashes)
    host.run(host.compose.up(left.services, no_deps=left.no_deps))
    volume = f"{host.revision.project}_runs"
    assert docker("run", "--rm", "-v", f"{volume}:/data", "towline-test/base:1", "cat", "/data/runs") == "run"
    assert host.inside("true") == ""


def test_a_pinned_image_runs_and_an_unpinned_one_is_not_made_anew(host: Host) -> None:
    host.run(host.compose.up())
    before = docker("inspect", "-f", "{{.Id}}", f"{host.revision.project}-web-1")
    image = docker("image", "inspect", "-f", "{{.Id}}", "towline-test/web:1")
    host.write(overrides.pins_needed({"web": image}, {"web": image}))
    host.run(host.compose.up(["web"], no_deps=True))
    assert docker("inspect", "-f", "{{.Id}}", f"{host.revision.project}-web-1") == before
    host.write({"web": image})
    host.run(host.compose.up(["web"], no_deps=True))
    assert docker("inspect", "-f", "{{.Config.Image}}", f"{host.revision.project}-web-1") == image


EXPRESSIONS = [
    "$A-b", "${A}b", "${N:-d}", "${E:-d}", "${E-d}", "${N-d}", "${A:+s}", "${E:+s}", "${E+s}", "${N+s}", "${A:?m}",
    "${E?m}", "${N:-${M:-${A}}}", "${N:-{}}", "$$A $${A} $$$$", "${N:-$(id)}", "$(id) $1 100$ $", "${A}${A}", "$A$E$A",
    "x${N:-}y", "${N:-a:-b}", "${A:-${N:-x}}-${A}", "{${A}}", "${S}",
]  # fmt: skip
NUMBERS = [
    "no", "yes", "0777", "0o17", "0x1F", "1.5", "1e3", "12:30:45", "true", "False", "~", "-3", "'1'", "1_000", ".5",
    "0b11", "1.0", "100000000000000000000", "1e30", ".inf", "08", "123456.5", "1234567.5", "0.0001", "0.00001",
    "2001-99-01",
]  # fmt: skip


def _printed(folder: Path, dialect: argv.Dialect, values: list[str], env: dict[str, str]) -> dict[str, str]:
    rows = [f"      K{number}: {value}" for number, value in enumerate(values)]
    (folder / "compose.yaml").write_text("\n".join(["services:", "  web:", "    image: a", "    environment:", *rows]))
    (folder / ".env").write_text(environment.render(env))
    compose = argv.Compose(dialect, ProjectName("rules"), str(folder), env_files=(".env",))
    done = subprocess.run(compose.config(), capture_output=True, text=True, check=True)
    found: dict[str, str] = normal.from_config(json.loads(done.stdout))["services"]["web"]["environment"]
    return found


def test_expressions_have_the_values_that_compose_gives_them(tmp_path: Path, dialect: argv.Dialect) -> None:
    env = {"A": "x", "E": "", "S": "$A ${A} $$ 'q' \"d\" \\ # end"}
    printed = _printed(tmp_path, dialect, [f"'{expression}'" for expression in EXPRESSIONS], env)
    ours, problems = interpolation.interpolate(document.load((tmp_path / "compose.yaml").read_text()), env)
    assert not [problem for problem in problems if problem.is_error]
    assert ours["services"]["web"]["environment"] == printed


def test_scalars_become_the_texts_that_compose_makes_of_them(tmp_path: Path, dialect: argv.Dialect) -> None:
    printed = _printed(tmp_path, dialect, NUMBERS, {})
    loaded = document.load((tmp_path / "compose.yaml").read_text()).data["services"]["web"]["environment"]
    ours = {name: None if value is None else normal.scalar_text(value) for name, value in loaded.items()}
    assert {name: ours[name] for name in printed} == printed
