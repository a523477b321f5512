"""`overlander sandbox`: what it says of the parts that run."""

import json
from pathlib import Path

from deployments.sandbox import pywps
from tests.flows.desk import Desk


def test_status_tells_other_programs_where_the_wps_is_and_what_it_began(
    tmp_path: Path, wps_sandbox: pywps.Wps
) -> None:
    found = json.loads(Desk(tmp_path).run("sandbox", "status", "--json").out)
    assert found["wps_url"] == wps_sandbox.url
    assert found["wps_executions"] == str(wps_sandbox.executions)


def test_status_tells_a_person_of_a_wps_that_runs_alone(tmp_path: Path, wps_sandbox: pywps.Wps) -> None:
    said = Desk(tmp_path).run("sandbox", "status").err
    assert wps_sandbox.url in said
    assert "not up" not in said
