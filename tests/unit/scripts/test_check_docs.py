"""The documentation check sees names in code marks only, and reads every kind of settings object."""

import dataclasses

import msgspec
import pydantic
from scripts import check_docs


def test_name_in_a_sentence_documents_nothing() -> None:
    known = check_docs.documented(["an error with `error_code` happens"])
    assert check_docs.undocumented(["error", "error_code"], known) == ["error"]


def test_name_inside_a_longer_piece_of_code_counts() -> None:
    known = check_docs.documented(["set `TOWLINE_SERVER_LISTEN=0.0.0.0:8443` in `server.env`"])
    assert "TOWLINE_SERVER_LISTEN" in known


def test_part_of_a_name_does_not_count() -> None:
    assert check_docs.undocumented(["job"], check_docs.documented(["`job_result`"])) == ["job"]


def test_fields_are_read_from_every_kind_of_settings() -> None:
    class Model(pydantic.BaseModel):
        listen: str

    class Struct(msgspec.Struct):
        listen: str

    @dataclasses.dataclass
    class Data:
        listen: str

    for kind in (Model, Struct, Data):
        assert check_docs.field_names(kind) == ["listen"]


def test_module_that_does_not_exist_is_passed_over() -> None:
    assert check_docs.module("towline.nowhere.settings") is None
