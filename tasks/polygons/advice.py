"""What a person can do about units that are not done, by the class of what went wrong."""

ADVICE = {
    "BadGeometry": "Mend the polygon in the source, or say --repair; then run again.",
    "BadInput": "Correct the polygon or the process's description, then run again with --retry failed.",
    "NoApplicableCode": "The service hides its reason. If few polygons fail, look at their size and shape; "
    "if many, ask the service's operators. --retry failed sends them again.",
    "ProcessFailed": "Look at the polygon's size and shape; --retry failed sends it again.",
    "FileSizeExceeded": "Say --precision 5 for fewer digits, --split-multipolygons, or simplify the polygon.",
    "InvalidParameterValue": "Compare the process's inputs with what the service describes: overlander doctor.",
    "MissingParameterValue": "Compare the process's inputs with what the service describes: overlander doctor.",
    "Uncertain": "See at the service whether the job is at work; then --retry uncertain sends it again.",
    "Interrupted": "See at the service whether the job is at work; then --retry uncertain sends it again.",
    "AcceptedLimit": "Is the service at work? The next run looks once more; --retry given_up sends it again.",
    "RunningLimit": "Its process may be dead. The next run looks once more; --retry given_up sends it again.",
    "TotalLimit": "The next run looks once more; --retry given_up sends it again.",
    "NoProgress": "The next run looks once more; --retry given_up sends it again.",
    "LocationRefused": "Allow that host with OVERLANDER_WPS_ALLOWED_HOSTS if it is the service's, then run again.",
    "NoStatusLocation": "The service does not say where to ask: try --sync.",
    "Dismissed": "Somebody stopped the job at the service; --retry failed sends it again.",
}
"""By error class; classes that a service makes up have none."""
