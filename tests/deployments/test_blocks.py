"""The blocks as Prefect's own test suite for blocks wants them, and which settings they stand for."""

from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from deployments.blocks import BLOCK_TYPES, ChangeResultsService, ProcessService, ResultsCassandra, ServiceBlock
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


def cluster(**changes: Any) -> ResultsCassandra:
    values = {"hosts": ["one", "two"], "keyspace": "k", "username": "reader", "password": SecretStr("open-sesame")}
    return ResultsCassandra(**values | changes)
