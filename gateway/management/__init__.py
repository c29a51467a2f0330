"""The management commands of Portway."""

# Options that every Django command takes and that say nothing to who runs a gateway: kept out of its --help.
NOT_OURS: set[str] = {
    "--version",
    "--verbosity",
    "--settings",
    "--pythonpath",
    "--traceback",
    "--no-color",
    "--force-color",
    "--skip-checks",
}
