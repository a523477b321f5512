"""`overlander deploy`: make a Prefect server know Overlander's deployments, blocks and automations."""

from typing import Annotated

import typer

from flows.cli import console, options


def deploy(
    notify: Annotated[
        str | None,
        typer.Option(
            help="Notification block told when a campaign needs a person: slack-webhook/operators. Without it, "
            "the one named before."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Register deployments, block types and automations. Run it again at any time."""
    from flows.cli.run import use_prefect_api

    use_prefect_api(console.say)
    from deployments.automations import NOTIFIES
    from deployments.register import register

    done = register(console.say, notify)
    if json:
        console.give({"deployments": done.deployments, "automations": done.automations})
        return
    console.show_facts("Registered", {"deployments": ", ".join(done.deployments)})
    console.show_facts("Automations", dict.fromkeys(done.automations, "on, unless somebody switched it off"))
    if NOTIFIES not in done.automations:
        console.say("Nobody is notified: `overlander deploy --notify TYPE/NAME` names a notification block.")
