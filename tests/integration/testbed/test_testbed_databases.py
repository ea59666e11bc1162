"""The database matrix hands out empty databases of both kinds."""

import sqlite3

import pytest
from tests.testbed import postgres


def test_each_database_of_the_matrix_is_empty_and_usable(database_url: str, request: pytest.FixtureRequest) -> None:
    statement = "CREATE TABLE probe (id integer); INSERT INTO probe VALUES (7);"
    if database_url.startswith("sqlite:///"):
        connection = sqlite3.connect(database_url.removeprefix("sqlite:///"))
        connection.executescript(statement)
        assert connection.execute("SELECT id FROM probe").fetchall() == [(7,)]
        connection.close()
    else:
        server: postgres.Server = request.getfixturevalue("postgres_server")
        name = database_url.rpartition("/")[2]
        postgres.execute(server, statement, name)
        assert postgres.execute(server, "SELECT id FROM probe;", name) == "7"
        assert "INSERT INTO public.probe VALUES (7)" in postgres.dump(server, name)


@pytest.mark.postgres
def test_server_refuses_a_wrong_password(postgres_server: postgres.Server) -> None:
    stranger = postgres.Server(postgres_server.port, "guessed")
    with pytest.raises(RuntimeError, match="password authentication failed"):
        postgres.execute(stranger, "SELECT 1;")


@pytest.mark.postgres
def test_server_does_not_show_its_password(postgres_server: postgres.Server) -> None:
    assert postgres_server.password not in repr(postgres_server)
