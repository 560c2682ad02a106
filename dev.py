#!/usr/bin/env python3
"""One command for whoever works on the pack: `python dev.py setup | demo | test | bench | ...`.

Standard library only, Python 3.10 or newer, Linux, macOS and Windows. Everything it makes lies in
`.venv/` (for older hosts `.venv-<version>/`), `.host/` and `.cache/` of this folder; delete them to
start afresh.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devkit import suite
from devkit.alone import alone
from devkit.console import SetupError, call, say, step
from devkit.environment import (
    SHARED,
    install_layer,
    install_lock,
    link_pack,
    make_venv,
    python_of,
    venv_folder,
)
from devkit.front_ends import FRONT_END, NEWEST_FRONT_END, fetch_front_end
from devkit.host_suite import SMOKE, SUITE, HostResult, read_result, write_table
from devkit.hosts import DEFAULT_HOST, HOSTS, OLDEST_HOST, fetch_host, host_folder, host_version
from devkit.pack import ROOT

SCRIPTS = {
    "demo": ("demo/demo.py", "train a concept on the embedded model and draw it in new scenes"),
    "bench": ("benchmarks/bench.py", "time and memory of a training step, ours and the published"),
    "evaluate": ("benchmarks/evaluate.py", "the compared methods on the embedded world, scored"),
    "observations": ("benchmarks/observations.py", "the paper's observations over training, drawn"),
    "evaluate-micro": ("demo/evaluate_micro.py", "does the embedded model follow its prompts"),
    "train-micro": ("demo/train_micro.py", "train the embedded model from nothing"),
    "pictures": ("demo/drawn.py", "which pictures other weights of the embedded model drew"),
    "picture": ("tests/browser/picture.py", "a picture of a workflow as the front end shows it"),
}
REPORTS = ROOT / ".cache" / "hosts"
PYTHON = "ATTNDB_PYTHON"
"""Environment variable of the commands below: the interpreter that suits the host."""


def setup(version: str | None) -> dict[str, str]:
    """Make everything ready for a host; return the environment for the commands that follow."""
    start = time.monotonic()
    environ = dict(os.environ)
    if version is not None:
        environ["ATTNDB_HOST_VERSION"] = version
        environ.pop("COMFYUI_PATH", None)
    environ.pop("PYTHONPATH", None)  # the root on the path would shadow the host's `nodes`
    environ["PYTHONUTF8"] = "1"
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # ComfyUI is imported twenty times over
    host = host_folder(environ)
    with alone():
        folder = _environment(environ, host)
    environ[PYTHON] = str(python_of(folder))
    took = time.monotonic() - start
    say(f"ready in {took:.1f} s: ComfyUI {host_version(host)} in {host}, Python in {folder.name}")
    return environ


def _environment(environ: Mapping[str, str], host: Path) -> Path:
    """The Python environment that suits the host, which is there afterwards."""
    make_venv()
    install_lock()
    link_pack()
    if environ.get("COMFYUI_PATH", "").strip():
        if not (host / "main.py").is_file():
            raise SetupError(f"COMFYUI_PATH is {host}, but there is no main.py in it")
    elif host_version(host) == "unknown":
        wanted = environ.get("ATTNDB_HOST_VERSION") or DEFAULT_HOST
        fetch_host(wanted, host, python_of(SHARED))
    folder = SHARED
    if host_version(host) != DEFAULT_HOST and (host / "requirements.txt").is_file():
        folder = venv_folder(host_version(host))
        install_layer(host_version(host), host)
    return folder


def run_tests(environ: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Lint, format, types, then pytest, whose summary comes last; 0 if all of them pass."""
    chosen = suite.plan(arguments)
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        **({"pyright": ["pyright"]} if chosen.types else {}),
    }
    failed = []
    for name, command in checks.items():
        with step(name):
            if call([environ[PYTHON], "-m", *command], environ) != 0:
                failed.append(name)
    if failed:
        say(f"FAILED: {', '.join(failed)} (pytest follows)")
    command = [environ[PYTHON], "-m", "pytest", *chosen.arguments]
    code = call(command, {**environ, **chosen.environ})
    return code or (1 if failed else 0)


def run_on_release(title: str, environ: Mapping[str, str], arguments: Sequence[str]) -> HostResult:
    """The tests named, on what `environ` holds."""
    report = REPORTS / f"{title.replace(' ', '-')}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    with step(f"the tests on {title}"):
        command = [environ[PYTHON], "-m", "pytest", f"--junitxml={report}"]
        call([*command, *arguments], environ)
    result = read_result(title, report)
    say(f"{title}: {result.passed} passed, {result.failed} failed")
    return result


def run_host_suites(versions: Sequence[str], arguments: Sequence[str]) -> int:
    """The tests named, or those of the host suite, on several releases; on all of them the results
    go into docs/host.md."""
    tests = arguments or SUITE
    results = [run_on_release(version, setup(version), tests) for version in versions]
    if tuple(arguments) in ((), SMOKE) and list(versions) == list(HOSTS):
        write_table(results, f"python dev.py test --all-hosts{' --smoke' * bool(arguments)}")
        say("the results are in docs/host.md")
    return 0 if all(result.passed and not result.failed for result in results) else 1


def run_on_newest_page(arguments: Sequence[str]) -> int:
    """The tests named, or those in the page, on a front end newer than the host's own."""
    environ = setup(DEFAULT_HOST)
    page = fetch_front_end(NEWEST_FRONT_END, python_of(SHARED))
    title = f"front end {NEWEST_FRONT_END} on ComfyUI {DEFAULT_HOST}"
    tests = arguments or ["tests/browser"]
    result = run_on_release(title, {**environ, FRONT_END: str(page)}, tests)
    return 1 if result.failed else 0  # all are skipped where there is no browser


def run_script(name: str, environ: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the script behind a sub-command."""
    script = ROOT / SCRIPTS[name][0]
    if not script.is_file():
        raise SetupError(f"`dev.py {name}` is not there yet: {SCRIPTS[name][0]} does not exist")
    return call([environ[PYTHON], script, *arguments], environ)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command with its own options, and what is handed on."""
    parser = argparse.ArgumentParser(prog="dev.py", description=str(__doc__).split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    setup_help = "make .venv, install what is pinned, fetch ComfyUI"
    test_help = (
        "setup, lint, types, tests [--quick] [--browser] [--device cuda] [pytest arguments]; --host"
    )
    named = {"setup": setup_help, "test": test_help} | {n: text for n, (_, text) in SCRIPTS.items()}
    for name, text in named.items():
        command = commands.add_parser(
            name, help=text, description=text, add_help=name == "setup", allow_abbrev=False
        )
        command.add_argument(
            "--host",
            choices=list(HOSTS),
            help=f"ComfyUI release to fetch and use (default: COMFYUI_PATH, else {DEFAULT_HOST})",
        )
        if name == "test":
            command.add_argument("--all-hosts", action="store_true")
            command.add_argument("--oldest-host", action="store_true")
            command.add_argument("--smoke", action="store_true")
            command.add_argument("--newest-page", action="store_true")
    if sys.version_info < (3, 10):  # noqa: UP036 (run by whatever Python is there)
        parser.error(f"Python {sys.version.split()[0]} is too old: use Python 3.10 or newer")
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command == "setup" and rest:
        parser.error(f"setup takes no arguments, but was given {' '.join(rest)}")
    return arguments, rest


def main(argv: Sequence[str]) -> int:
    arguments, rest = parse(argv)
    try:
        if arguments.command == "test" and suite.options(rest)[0].device == "cuda":
            return suite.run_on_card(rest, os.environ)  # with what is there: no setup, no network
        if arguments.command == "test":
            tests = [*(SMOKE if arguments.smoke else ()), *rest]
            one = OLDEST_HOST if arguments.oldest_host else arguments.host
            if arguments.newest_page:
                return run_on_newest_page(tests)
            versions = list(HOSTS) if arguments.all_hosts else [one] if one else []
            return run_host_suites(versions, tests) if versions else run_tests(setup(None), tests)
        environ = setup(arguments.host)
        if arguments.command == "setup":
            return 0
        return run_script(arguments.command, environ, rest)
    except SetupError as error:
        say(f"ERROR: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
