"""The blocks as Prefect's own test suite for blocks wants them, and which settings they stand for."""

import os
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from deployments.blocks import (
    BLOCK_TYPES,
    ChangeResultsService,
    ProcessService,
    ResultsCassandra,
    ServiceBlock,
    results_settings,
)
from tasks.settings import CassandraSettings


@pytest.mark.parametrize("block", BLOCK_TYPES)
class TestBlocksAreAsPrefectWantsThem(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param  # type: ignore[no-any-return]

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """They have none: the browser would fetch it from outside."""
        assert block._logo_url is None


def test_a_cluster_stands_for_the_settings_of_the_same_name() -> None:
    names = set(ResultsCassandra.model_fields)
    assert names <= set(CassandraSettings.model_fields)

    variables = cluster(local_datacenter="dc1").as_environment()

    assert variables["OVERLANDER_CASSANDRA_HOSTS"] == "one,two"
    assert variables["OVERLANDER_CASSANDRA_PASSWORD"] == "open-sesame"
    assert variables["OVERLANDER_CASSANDRA_LOCAL_DATACENTER"] == "dc1"
    assert len(variables) == len(names)


def test_what_was_left_empty_in_the_form_is_not_set() -> None:
    variables = cluster(username="", password="", local_datacenter="").as_environment()

    assert variables["OVERLANDER_CASSANDRA_USERNAME"] is None
    assert variables["OVERLANDER_CASSANDRA_PASSWORD"] is None
    assert variables["OVERLANDER_CASSANDRA_LOCAL_DATACENTER"] is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ResultsCassandra, {"hosts": ["one"], "keyspace": "k", "username": "reader"}),
        (ResultsCassandra, {"hosts": [], "keyspace": "k"}),
        (ProcessService, {"url": "http://wps", "username": "reader"}),
        (ProcessService, {"url": ""}),
        (ChangeResultsService, {"url": ""}),
    ],
)
def test_a_half_filled_block_is_refused(kind: type[ServiceBlock], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**values)


def test_a_password_is_not_in_what_a_block_shows_of_itself() -> None:
    assert "open-sesame" not in f"{cluster()!r} {cluster()} {cluster().model_dump_json()}"


def test_a_cluster_by_name_gives_its_settings_and_leaves_those_of_the_process_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ResultsCassandra, "load", lambda _name: cluster())
    monkeypatch.setenv("OVERLANDER_CASSANDRA_HOSTS", "another")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_REQUEST_TIMEOUT_S", "7")
    before = dict(os.environ)

    named, as_set = results_settings("cluster"), results_settings(None)

    assert (named.hosts, named.keyspace, named.username) == (["one", "two"], "k", "reader")
    assert named.password == SecretStr("open-sesame")
    assert named.request_timeout_s == 7
    assert as_set.hosts == ["another"]
    assert dict(os.environ) == before


def cluster(**changes: Any) -> ResultsCassandra:
    values = {"hosts": ["one", "two"], "keyspace": "k", "username": "reader", "password": SecretStr("open-sesame")}
    return ResultsCassandra(**values | changes)
