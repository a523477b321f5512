"""The documents keep up with the code."""

from pathlib import Path

from tasks.settings import CassandraSettings, Settings

DOCS = Path(__file__).parent.parent / "docs"


def test_every_setting_is_in_the_table_of_settings_with_its_meaning() -> None:
    table = (DOCS / "settings.md").read_text()
    for prefix, model in (("OVERLANDER_", Settings), ("OVERLANDER_CASSANDRA_", CassandraSettings)):
        for name, field in model.model_fields.items():
            if name != "cassandra":
                assert f"| `{prefix}{name.upper()}` |" in table
                assert f"| {field.description} |" in table
