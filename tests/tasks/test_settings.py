"""Settings come from where a user put them, secrets stay secret, and a mistake is told in one paragraph."""

import traceback
from pathlib import Path

import pytest

from tasks.errors import BadInput
from tasks.settings import as_variables, is_url, load_settings

PASSWORD = "hunter2-and-more"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test: a folder without an overlander.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_the_file(folder: Path, text: str) -> None:
    (folder / "overlander.toml").write_text(text)


def refusal() -> BadInput:
    """What a user is told of settings that cannot be meant."""
    with pytest.raises(BadInput) as refused:
        load_settings()
    assert refused.value.exit_status == 2
    assert "\n" not in str(refused.value)
    return refused.value


def test_what_is_set_nowhere_has_its_default() -> None:
    settings = load_settings()
    assert (settings.cassandra.port, settings.cassandra.consistency, settings.algorithm) == (9042, "QUORUM", None)


def test_the_file_in_the_working_directory_beats_the_default(folder: Path) -> None:
    in_the_file(folder, 'algorithm = "lcmap-pyccd:2017.08.18"\n[cassandra]\nport = 9142\n')
    settings = load_settings()
    assert (settings.algorithm, settings.cassandra.port) == ("lcmap-pyccd:2017.08.18", 9142)


def test_the_environment_beats_the_file_name_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_file(folder, 'out = "/file"\n[cassandra]\nport = 9142\nkeyspace = "file"\nhosts = ["file"]\n')
    monkeypatch.setenv("OVERLANDER_CASSANDRA_PORT", "9242")
    monkeypatch.setenv("OVERLANDER_OUT", "/environment")
    settings = load_settings()
    assert (settings.out, settings.cassandra.port) == (Path("/environment"), 9242)
    assert (settings.cassandra.keyspace, settings.cassandra.hosts) == ("file", ["file"])


@pytest.mark.parametrize("text", ["one,two", " one , two ,", "one,,two"])
def test_hosts_are_separated_by_commas(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_HOSTS", text)
    assert load_settings().cassandra.hosts == ["one", "two"]
    monkeypatch.delenv("OVERLANDER_CASSANDRA_HOSTS")
    in_the_file(folder, f'[cassandra]\nhosts = "{text}"\n')
    assert load_settings().cassandra.hosts == ["one", "two"]


def test_a_name_of_several_words_is_found_below_cassandra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_TLS_CHECK_HOSTNAME", "false")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_REQUEST_TIMEOUT_S", "2.5")
    settings = load_settings().cassandra
    assert (settings.tls_check_hostname, settings.request_timeout_s) == (False, 2.5)


def test_the_ledger_is_in_the_users_state_folder_unless_it_is_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_STATE_FOLDER", str(folder / "state"))
    assert load_settings().ledger_place == str(folder / "state" / "ledger.sqlite")
    monkeypatch.setenv("OVERLANDER_LEDGER", str(folder / "mine.sqlite"))
    assert load_settings().ledger_place == str(folder / "mine.sqlite")


def test_a_ledger_that_would_be_lost_with_the_workers_disk_is_refused_and_one_on_postgres_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_DISK_OUTLIVES_WORKER", "false")
    monkeypatch.setenv("OVERLANDER_LEDGER", str(folder / "mine.sqlite"))
    with pytest.raises(BadInput, match="would be lost with this worker's disk"):
        _ = load_settings().ledger_place
    monkeypatch.setenv("OVERLANDER_LEDGER", "postgresql://someone@db/overlander")
    assert load_settings().ledger_place == "postgresql://someone@db/overlander"


def test_a_ledger_on_postgres_may_name_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_LEDGER", "postgresql+psycopg://someone@db/overlander")

    settings = load_settings()

    assert is_url(settings.ledger_place)
    assert as_variables(settings)["OVERLANDER_LEDGER"] == "postgresql+psycopg://someone@db/overlander"


def test_a_ledger_at_any_other_address_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_LEDGER", f"mysql://someone:{PASSWORD}@db/overlander")

    with pytest.raises(BadInput, match="postgresql://user@host/database") as refused:
        load_settings()

    assert PASSWORD not in str(refused.value)


def test_a_password_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_USERNAME", "operator")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_PASSWORD", PASSWORD)
    settings = load_settings()
    assert settings.cassandra.password is not None
    assert settings.cassandra.password.get_secret_value() == PASSWORD
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "operator" in text
        assert PASSWORD not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "ninety"), ("PORT", "0"), ("CONSISTENCY", "quorum!"), ("PASSWROD", PASSWORD), ("TLS", PASSWORD)],
)
def test_a_password_is_in_no_text_that_tells_of_a_wrong_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_USERNAME", "operator")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_PASSWORD", PASSWORD)
    monkeypatch.setenv(f"OVERLANDER_CASSANDRA_{name}", value)
    refused = refusal()
    assert f"cassandra_{name.lower()}" in str(refused)
    assert PASSWORD not in "".join(traceback.format_exception(refused))


def test_a_password_in_the_file_is_refused_though_the_environment_has_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_PASSWORD", "another")
    in_the_file(folder, f'[cassandra]\nusername = "operator"\npassword = "{PASSWORD}"\n')
    refused = refusal()
    assert "set OVERLANDER_CASSANDRA_PASSWORD instead" in str(refused)
    assert PASSWORD not in "".join(traceback.format_exception(refused))


@pytest.mark.parametrize("service", ["CASSANDRA", "WPS"])
def test_a_user_name_without_a_password_is_refused(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"OVERLANDER_{service}_USERNAME", "operator")
    assert f"OVERLANDER_{service}_PASSWORD" in str(refusal())


def test_the_password_of_the_wps_is_taken_from_the_environment_and_never_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERLANDER_WPS_USERNAME", "operator")
    monkeypatch.setenv("OVERLANDER_WPS_PASSWORD", PASSWORD)
    settings = load_settings()
    assert settings.wps_password is not None
    assert settings.wps_password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(settings) + settings.model_dump_json()


def test_the_password_of_the_wps_in_the_file_is_refused(folder: Path) -> None:
    in_the_file(folder, f'wps_username = "operator"\nwps_password = "{PASSWORD}"\n')
    refused = refusal()
    assert "set OVERLANDER_WPS_PASSWORD instead" in str(refused)
    assert PASSWORD not in "".join(traceback.format_exception(refused))


@pytest.mark.parametrize(
    "text", ["s3.example.org,cdn.example.org:8443", " s3.example.org , cdn.example.org:8443,"]
)
def test_allowed_hosts_are_separated_by_commas(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["s3.example.org", "cdn.example.org:8443"]
    monkeypatch.setenv("OVERLANDER_WPS_ALLOWED_HOSTS", text)
    assert load_settings().wps_allowed_hosts == listed
    monkeypatch.delenv("OVERLANDER_WPS_ALLOWED_HOSTS")
    in_the_file(folder, f"wps_allowed_hosts = {listed}\n")
    assert load_settings().wps_allowed_hosts == listed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('algoritm = "x"\n', "algoritm"),
        ("[cassandra]\nhots = []\n", "cassandra_hots"),
        ('[cassandra]\nport = "many"\n', "cassandra_port"),
        ("export_processes = 0\n", "export_processes"),
        ("cassandra = 9042\n", "cassandra"),
        ('cassandra = "password"\n', "cassandra"),
        ("[cassandra\n", "overlander.toml cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_one_paragraph_that_names_it(text: str, told: str, folder: Path) -> None:
    in_the_file(folder, text)
    refused = str(refusal())
    assert told in refused
    assert "overlander.toml" in refused
    assert "holds a password" not in refused


def test_an_unknown_name_below_cassandra_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_HOTS", "one")
    assert "cassandra_hots" in str(refusal())


def test_a_value_of_the_environment_that_cannot_be_read_is_not_blamed_on_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA", "127.0.0.1")
    refused = str(refusal())
    assert "OVERLANDER_CASSANDRA" in refused
    assert "overlander.toml cannot be read" not in refused


def test_a_file_that_is_not_text_is_one_paragraph(folder: Path) -> None:
    (folder / "overlander.toml").write_bytes(b"\xff\xfe")
    assert "overlander.toml cannot be read" in str(refusal())


def test_settings_travel_to_another_process_as_variables_with_absolute_paths(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("OVERLANDER_CASSANDRA_HOSTS", "one,two")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_USERNAME", "reader")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_PASSWORD", "open-sesame")
    monkeypatch.setenv("OVERLANDER_CASSANDRA_TLS", "true")
    monkeypatch.setenv("OVERLANDER_LEDGER", "kept/ledger.sqlite")
    before = load_settings()

    for name, value in as_variables(before).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")

    after = load_settings()
    assert after.cassandra == before.cassandra
    assert after.ledger == str(folder / "kept" / "ledger.sqlite")
    assert after.out == folder / "overlander-results"
    assert "OVERLANDER_SERVICE_URL" not in as_variables(before)
