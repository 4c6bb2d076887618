"""The command line. Each command imports what it needs when it runs, so that `sokuji --help` answers at once."""

from __future__ import annotations

import importlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sokuji import __version__
from sokuji.errors import FeatureError, SokujiError, SqlError
from sokuji.roles.base import ROLES, Role

PROJECT = click.option(
    "-p",
    "--project",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default="this folder",
    help="The project's folder.",
)


class _Commands(click.Group):
    """Shows an error that sokuji raised on purpose as its message. Any other error is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SokujiError as error:
            click.secho(f"error: {error.pretty() if isinstance(error, SqlError) else error}", fg="red", err=True)
            sys.exit(1)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and end the process. With queries that are still ending the rest of Python's exit is left out: it would complain of them."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            calls = sys.modules.get("sokuji.sql.duckdb.native_calls")  # not imported: most commands run no query
            if calls is not None and calls.is_any_under_way():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - in the order of use, not of the alphabet
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Real-time machine learning on user events."""


@main.command()
@click.option("--live", is_flag=True, help="A shop's visitors instead: features, rules and decisions on a dashboard, until Ctrl-C.")
@click.option("--rate", type=click.FloatRange(1, 20_000), default=200, show_default=True, help="With --live: events a second, on average.")
@click.option("--seconds", type=click.FloatRange(1), help="With --live: end after this long.")
@click.option("--exit", "exit_", is_flag=True, help="End when the work is done instead of serving until Ctrl-C; with --live after 30 s.")
@click.option("--json", "json_", is_flag=True, help="Print the results as one line of JSON at the end.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=".sokuji-demo", show_default=True, help="Where the demo's project is made."
)
def demo(*, live: bool, rate: float, seconds: float | None, exit_: bool, json_: bool, folder: Path) -> None:
    """From 69,659 tracked purchases to customer segments, on this machine."""
    if live:
        from sokuji.demo.live import run as run_live

        run_live(folder, rate=rate, seconds=seconds or (30.0 if exit_ else None), print_json=json_)
        return
    from sokuji.demo.run import run

    run(folder, serve=not exit_, print_json=json_)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Make a project in FOLDER."""
    from sokuji.project.create import create

    write_key = create(folder)
    click.echo(
        f"Made a project in {folder}. Start it with:\n\n  sokuji up {folder}\n\nSend an event:\n\n"
        f"  curl localhost:8080/v1/track -u {write_key}: -d "
        '\'{"event": "buy", "anonymousId": "v1", "properties": {"revenue": 30}}\'\n\nAnd ask for it:\n\n'
        f"  sokuji sql -p {folder} 'SELECT event_name, revenue FROM main.events'"
    )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def up(folder: Path) -> None:
    """Run every role of the project in FOLDER, each as a process of its own, until Ctrl-C."""
    from sokuji.roles.up import run_all

    run_all(folder)


@main.command()
@click.option("--dry-run", is_flag=True, help="Check, and say what would change; change nothing.")
@click.option("--json", "json_", is_flag=True, help="Print what changed as one line of JSON.")
@click.option("--rebuild", is_flag=True, help="Rebuild all features from the lake, for example after a DELETE or ALTER TABLE of events.")
@PROJECT
def apply(*, dry_run: bool, json_: bool, rebuild: bool, project: Path) -> None:
    """Make the platform match the project's files: check them, train the models that changed, restart the roles whose files changed."""
    from sokuji.platform import Platform
    from sokuji.roles.up import changed_roles, is_running, rebuilt, reload

    with Platform.open(project) as platform:
        for doubt in platform.check():
            click.echo(f"{click.style('warning', fg='yellow')} {doubt}", err=True)
        if not dry_run:
            platform.keep_results_views()
        changes = platform.changes()
        for path, digest in changes.items():
            models = path.startswith("models/") and digest is not None
            if not json_:
                click.echo(f"{path}: {'gone' if digest is None else 'changed'}{', running it' if models and not dry_run else ''}")
            if not dry_run:
                platform.apply(path, digest)
    up = is_running(project)
    restarted = changed_roles(project) if up else []
    if not dry_run:
        if rebuild or "analyze" in restarted:
            with Platform.open(project) as platform:
                platform.prepare(rebuild=rebuild)  # its state, while the one that runs goes on
        if rebuild:
            rebuilt(project)
            restarted = changed_roles(project) if up else []
        if restarted:
            reload(project)
    if json_:
        click.echo(json.dumps({"changed": list(changes), "running": up, "restarted": restarted, "dry_run": dry_run}))
    elif restarted:
        click.echo(f"{'would restart' if dry_run else 'restarted'}: {', '.join(restarted)}")
    else:
        click.echo("the platform runs as the files say" if up else "the platform does not run; `sokuji up` starts it as the files say")


def _command(role: Role) -> click.Command:
    @click.command(role.name, help=role.summary)
    @PROJECT
    def run(project: Path) -> None:
        role.start(project)

    return run


for _role in ROLES:
    main.add_command(_command(_role))


@main.command()
@click.argument("statement", required=False)
@click.option("-f", "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Run the statements of a file.")
@click.option("--format", "format_", type=click.Choice(["table", "csv", "json", "jsonl"]), default="table", show_default=True)
@PROJECT
def sql(statement: str | None, file: Path | None, format_: str, project: Path) -> None:
    """Run GoogleSQL: STATEMENT, a file, or an interactive shell."""
    from sokuji.platform import Platform
    from sokuji.sql.printing import run_text

    if statement is not None and file is not None:
        raise click.UsageError("give a statement or --file, not both")
    text = file.read_text() if file is not None else statement
    with Platform.open(project) as platform:
        if text is None:
            from sokuji.sql.shell import run_shell

            run_shell(platform.engine)
        else:
            run_text(platform.engine, text, format_)


@main.group()
def features() -> None:
    """The features that the project declares."""


@features.command()
@PROJECT
def describe(project: Path) -> None:
    """List them with windows, hops, bytes a profile and error bounds."""
    from rich.console import Console
    from rich.table import Table

    from sokuji.config import FEATURES_FILE
    from sokuji.features.describe import Described
    from sokuji.features.describe import describe as described
    from sokuji.features.kernel.layout import layout
    from sokuji.features.load import load

    views = load(project / FEATURES_FILE)
    if not views:
        raise FeatureError(
            f'{project / FEATURES_FILE} declares no view; write view("shopper", entity="visitor", buys=events("buy").count())'
        )
    shown = Table()
    for field in Described._fields:
        shown.add_column(field, overflow="fold")  # a name that is cut off is none
    for view in views:
        for row in described(view):
            shown.add_row(*map(str, row))
    console = Console()
    console.print(shown)
    for view in views:
        console.print(f"{view.name}: {layout(view).width} bytes a {view.entity}")


@features.command()
@click.option("--visitor", "visitor_id", help="The id of a visitor (`anonymousId`).")
@click.option("--user", "user_id", help="The id of a user, in place of a visitor's.")
@click.option("--dataset", default="main", show_default=True)
@PROJECT
def get(*, visitor_id: str | None, user_id: str | None, dataset: str, project: Path) -> None:
    """Print one profile's features as they are now, as JSON; the platform must be running."""
    from sokuji.platform import Platform

    if (visitor_id is None) == (user_id is None):
        raise click.UsageError("give one of --visitor and --user")
    with Platform.open(project) as platform:
        values = platform.online_features(visitor_id, user_id=user_id, dataset=dataset)
    click.echo(json.dumps(values, default=str, ensure_ascii=False))


@features.command()
@click.option("--sample", type=click.FloatRange(0, 1), help="The share of the profiles; analyze.served_sample if not given.")
@click.option("--json", "json_", is_flag=True, help="Print the counts as one line of JSON.")
@PROJECT
def verify(*, sample: float | None, json_: bool, project: Path) -> None:
    """Compare what was served with what the events in the lake say; exit with 1 if they differ."""
    from sokuji.platform import Platform

    with Platform.open(project) as platform:
        verification = platform.verify_features(sample)
    if json_:
        click.echo(json.dumps(verification.json()))
    else:
        click.echo(f"{verification.rows:,} rows of {verification.features} features: {verification.mismatches:,} mismatches, ", nl=False)
        click.echo(f"{verification.missing:,} events that were not served, {verification.extra:,} served that the lake does not have")
        for example in verification.examples:
            click.echo(f"  {example}")
        for sentence in verification.outdated:
            click.echo(f"  {sentence}; `sokuji apply --rebuild` rebuilds the features")
        if not verification.rows:
            click.echo("what is served is kept for a sample of the visitors, at each checkpoint: analyze.served_sample in sokuji.toml")
    if verification.mismatches or verification.missing or verification.extra or verification.outdated:
        sys.exit(1)


@main.command()
@PROJECT
def adopt(project: Path) -> None:
    """Go on with a database (meta.db) that was lost, or is an older copy: register the tables and models that it does not know."""
    from sokuji.config import SETTINGS_FILE
    from sokuji.platform import Platform
    from sokuji.roles.up import is_running

    if (project / SETTINGS_FILE).exists() and is_running(project):
        raise SokujiError(f"the platform on {project} runs; stop it first")
    with Platform.open(project) as platform:
        for sentence in platform.adopt():
            click.echo(sentence)


@main.command()
@PROJECT
def models(project: Path) -> None:
    """List the trained models and their versions."""
    from rich.console import Console
    from rich.table import Table

    from sokuji.platform import Platform

    shown = Table("model", "type", "version", "aliases", "serving", "trained")
    with Platform.open(project) as platform:
        for ref in platform.engine.catalog.reserved():
            aliases = platform.models.aliases(ref)
            for version in platform.models.versions(ref):
                names = ", ".join(name for name, number in aliases.items() if number == version.version)
                trained = datetime.fromtimestamp(version.created_at_us / 1e6, UTC).isoformat(sep=" ", timespec="seconds")
                shown.add_row(str(ref), version.signature.model_type, str(version.version), names, version.serving, trained)
        for orphan in platform.models.orphans():
            what = "not known to the database; `sokuji adopt` registers it" if orphan.version is not None else "no model that can be read"
            click.echo(f"{orphan.folder}: {what}", err=True)
    Console().print(shown)


@main.command()
@PROJECT
@click.option("--secret", is_flag=True, help="Also what only your servers may know: server keys, and the secrets of webhooks.")
@click.option("--sign", metavar="USER_ID", help="Instead: the signature of a user's id, to compare with what your server makes of it.")
def keys(project: Path, secret: bool, sign: str | None) -> None:
    """List the sources and their write keys."""
    from sokuji.act.secret import Secret
    from sokuji.config import load
    from sokuji.proof import sign_user

    config = load(project)
    datasets = sorted({source.dataset for source in config.sources.values()})
    if sign is not None:
        server_key = Secret.open(config.data / "secret").server_key
        for dataset in datasets:
            click.echo(f"{dataset}\t{sign_user(server_key(dataset), sign)}")
        return
    for name, source in config.sources.items():
        click.echo(f"{name}\t{source.write_key}\t{source.dataset}.events")
    if secret:
        from sokuji.act.pages.keys import keys as secrets_of
        from sokuji.analyze.compile import Declared

        for key in secrets_of(Secret.open(config.data / "secret"), datasets, Declared.load(project).actions):
            click.echo("\t".join(key))


@main.command()
@PROJECT
def doctor(project: Path) -> None:
    """Check that this machine can run the project."""
    from sokuji.config import SETTINGS_FILE, Config, load
    from sokuji.project.doctor import examine
    from sokuji.roles.up import is_running

    findings = examine(load(project), is_running=is_running(project)) if (project / SETTINGS_FILE).exists() else examine(Config())
    troubles = 0
    for finding in findings:
        mark = click.style("ok  ", fg="green") if not finding.fix else click.style("FAIL", fg="red")
        click.echo(f"{mark} {finding.subject}: {finding.found}" + (f" -> {finding.fix}" if finding.fix else ""))
        troubles += bool(finding.fix)
    if troubles:
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("name", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(name: str | None, arguments: tuple[str, ...]) -> None:
    """Run a benchmark of the source checkout: sokuji bench NAME [OPTIONS]."""
    folder = Path(__file__).parents[2] / "bench"
    modules = [*folder.glob("*.py"), *(path.parent for path in folder.glob("*/__init__.py"))]
    names = sorted(path.stem for path in modules if not path.stem.startswith("_"))
    if not names:
        raise click.ClickException("benchmarks come with the source checkout: clone it and run `sokuji bench` there")
    if name not in names:
        raise click.UsageError(f"sokuji bench NAME, where NAME is one of: {', '.join(names)}")
    sys.argv = [f"sokuji bench {name}", *arguments]
    sys.path.insert(0, str(folder.parent))
    importlib.import_module(f"bench.{name}").main(list(arguments))
