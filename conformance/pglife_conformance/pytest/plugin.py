"""The pytest plugin: options, which scenarios are about this target, verdicts, the report.

Begin with   pytest_addoption(), then the hooks in the order in which pytest calls them.
Owns         what pytest sees of the suite. Loaded in every pytest run where pglife is installed,
             so at module level it imports pytest and the standard library and nothing else, and
             without scenarios of ours it does nothing.
Leaves out   fixtures (fixtures.py), verdicts and their texts (verdicts.py).
Source       DESIGN sections 2 and 4.
"""

from __future__ import annotations

import pathlib
import random
import shlex
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pglife_conformance.pytest.claims import Claim
    from pglife_conformance.pytest.state import SuiteState
    from pglife_conformance.targets.base import Target

pytest.register_assert_rewrite(
    "pglife_conformance.pytest.fixtures",
    "pglife_conformance.hold.pin",
    "pglife_conformance.pytest.selftest",
)

_PLAYER = "pglife_conformance/scenarios/traces/test_traces.py"
_SCENARIOS = "pglife_conformance/scenarios/"
_LEFT_OUT: pytest.StashKey[dict[str, str]] = pytest.StashKey()
_SHOWN = pytest.StashKey[bool]()
_DEFAULT_TARGET = "bundled"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite."""
    group = parser.getgroup("pglife", "conformance to PostgreSQL's lifecycles")
    group.addoption(
        "--target",
        metavar="TARGET",
        default=_DEFAULT_TARGET,
        help="server under test: bundled, postgres18 or a bin directory (default: %(default)s)",
    )
    group.addoption(
        "--deadline-scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiply all deadlines, for slow machines (default: %(default)s)",
    )
    group.addoption(
        "--pglife-seed",
        type=int,
        default=None,
        metavar="SEED",
        help="seed of whatever is random; printed in the header",
    )
    group.addoption(
        "--pglife-trace",
        action="append",
        default=[],
        metavar="FILE.json",
        help="play this ITF trace against the target, and do nothing else; may be repeated; "
        "`--trace FILE.json` is the same (a --trace without such a file is pdb's)",
    )
    group.addoption(
        "--keep-clusters",
        action="store_true",
        help="keep data directories and logs of the clusters",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """`--trace FILE.json` is ours; pytest has a --trace too, which takes no file."""
    given = early_config.known_args_namespace.file_or_dir
    for place in reversed(range(len(args) - 1)):
        file = args[place + 1]
        if args[place] == "--trace" and file.endswith(".json"):
            args[place : place + 2] = [f"--pglife-trace={file}"]
            if file in given:
                given.remove(file)


def pytest_configure(config: pytest.Config) -> None:
    """Markers, a seed that xdist's workers share, traces that are none refused."""
    config.addinivalue_line("markers", "claim(...): the rules that a scenario is about")
    config.addinivalue_line("markers", "settings(**settings): configuration of its cluster")
    config.addinivalue_line("markers", "unmonitored(reason): why no monitor watches it")
    config.addinivalue_line("markers", "waits_long: it begins first, for others to run meanwhile")
    config.stash[_LEFT_OUT] = {}
    if _is_worker(config):
        config.option.pglife_seed = config.workerinput["pglife_seed"]  # type: ignore[attr-defined]
    elif config.option.pglife_seed is None:
        config.option.pglife_seed = random.SystemRandom().randrange(1 << 31)
    if config.option.target != _DEFAULT_TARGET and not _is_worker(config):
        # Asked for by name: say so at once if it is no use, and in xdist only once.
        _resolve(config)
    if config.option.pglife_trace and not _is_worker(config):
        _check_traces(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give xdist's workers the seed: what one of them prints must replay anywhere."""
    node.workerinput["pglife_seed"] = node.config.option.pglife_seed


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    """With traces only the scenario that plays them, without traces all but that one."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    plays = collection_path.as_posix().endswith(_PLAYER)
    return True if plays != bool(config.option.pglife_trace) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about this version, skip what needs more than the target has.

    What waits for a minute comes first: the other workers play the rest meanwhile.
    """
    if config.option.pglife_trace and not _is_worker(config):
        items[:] = [item for item in items if item.path.as_posix().endswith(_PLAYER)]
        if not items:
            raise pytest.UsageError(
                "--trace: nothing here plays traces; say `pytest conformance/ --trace FILE.json`"
            )
    if not any(item.get_closest_marker("claim") for item in items):
        return
    from pglife_conformance.pytest.claims import claim_of

    try:
        target = _state(config).target
    except pytest.UsageError:
        if _is_worker(config):
            # The controller finds the same when it hears of our collection, and ends the run.
            return
        raise
    kept, left_out = [], []
    for item in items:
        claim = claim_of(item)
        reason = claim.version_reason(target.version.major) if claim is not None else None
        if reason is not None:
            config.stash[_LEFT_OUT][item.nodeid] = reason
            left_out.append(item)
            continue
        if claim is not None:
            _mark(item, claim, target)
        kept.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("waits_long") is None)


def _mark(item: pytest.Item, claim: Claim, target: Target) -> None:
    from pglife_conformance.base.needs import NEEDS

    missing = claim.missing_needs(target.capabilities)
    if missing:
        told = (f"{need}: {NEEDS[need].reason} ({NEEDS[need].reference})" for need in missing)
        item.add_marker(pytest.mark.skip(reason=f"target lacks {'; '.join(told)}"))
    for defect in claim.defects:
        if defect.holds_on(target):
            item.add_marker(pytest.mark.xfail(reason=defect.reference, strict=True))


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    """The header: target, version, seed, needs not met."""
    if _is_worker(config) or not any(item.get_closest_marker("claim") for item in items):
        return []
    return _header(config, _state(config).target)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """The same under xdist, where the controller collects nothing itself."""
    config = node.config
    if _SHOWN in config.stash or not any(_SCENARIOS in name for name in ids):
        return
    config.stash[_SHOWN] = True
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for line in _header(config, _resolve(config)):
        reporter.write_line(line)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """End the whole run when a worker of xdist has found the target unfit."""
    if hasattr(report, "node") and report.when == "setup" and report.failed:
        told = str(report.longrepr)
        if told.startswith("self-test of target"):
            pytest.exit(told, returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over from a worker what it has left out."""
    output = getattr(node, "workeroutput", None) or {}
    left_out: dict[str, str] = output.get("pglife_left_out", {})
    known: dict[str, str] = node.config.stash[_LEFT_OUT]
    known.update(left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the verdict, and under a failure what was expected, seen, and how to replay it."""
    report = yield
    if item.get_closest_marker("claim") is None:
        return report
    from pglife_conformance.pytest.claims import claim_of
    from pglife_conformance.reports.verdicts import (
        Verdict,
        claim_sentence,
        failure_text,
        leave_open,
        verdict_of,
    )

    claim = claim_of(item)
    if claim is None or (report.when != "call" and report.passed):
        return report
    problem = call.excinfo.value if call.excinfo is not None else None
    verdict = verdict_of(report, problem)
    report.pglife_verdict = str(verdict)  # type: ignore[attr-defined]
    if verdict is Verdict.INCONCLUSIVE:
        leave_open(report, problem)
    if report.failed:
        evidence = [cluster.watcher.evidence() for cluster in _state(item.config).clusters_of(item)]
        text = failure_text(item.name, claim, problem, _replay(item), evidence)
        report.sections.append((f"claim: {claim_sentence(item)}", text))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Verdict counts, and what was left out with its reasons."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    if (
        not any(hasattr(report, "pglife_verdict") for report in reports)
        and not (config.stash[_LEFT_OUT])
    ):
        return
    from pglife_conformance.reports.verdicts import summary_lines

    terminalreporter.section("pglife")
    for line in summary_lines(reports, config.stash[_LEFT_OUT]):
        terminalreporter.write_line(line)
    for told in (
        dict(report.user_properties).get("trace") for report in reports if _is_test(report)
    ):
        if told is not None:
            terminalreporter.write_line(str(told))
    state = _state_if_any(config)
    if state is not None and state.keep_clusters:
        terminalreporter.write_line(f"clusters kept in {state.run.place}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what is left of this run; after Ctrl-C pytest itself tears down just before us."""
    config = session.config
    output = getattr(config, "workeroutput", None)
    if output is not None:
        left_out = config.stash[_LEFT_OUT]
        output["pglife_left_out"] = dict(left_out)
    state = _state_if_any(config)
    if state is not None:
        state.run.end(keep=state.keep_clusters)


# Helpers. Everything of ours is imported where it is first needed.


def _state(config: pytest.Config) -> SuiteState:
    from pglife_conformance.pytest.state import begin

    existing = _state_if_any(config)
    return existing if existing is not None else begin(config, _resolve(config))


def _state_if_any(config: pytest.Config) -> SuiteState | None:
    import sys

    module = sys.modules.get("pglife_conformance.pytest.state")
    return config.stash.get(module.STATE_KEY, None) if module is not None else None


def _resolve(config: pytest.Config) -> Target:
    from pglife_conformance.base.failures import UnusableTarget
    from pglife_conformance.targets import resolve_target

    try:
        return resolve_target(config.option.target)
    except UnusableTarget as problem:
        raise pytest.UsageError(str(problem)) from None


def _is_test(report: object) -> bool:
    return isinstance(report, pytest.TestReport) and report.when == "call"


def _check_traces(config: pytest.Config) -> None:
    """Each must be a run of the model; the workers of xdist find them wherever they work."""
    from pglife_conformance.play.script import UnfitTrace, read_script

    config.option.pglife_trace = [
        str((config.invocation_params.dir / name).resolve()) for name in config.option.pglife_trace
    ]
    for name in config.option.pglife_trace:
        try:
            read_script(pathlib.Path(name))
        except UnfitTrace as problem:
            raise pytest.UsageError(f"--trace: {problem}") from None


def _header(config: pytest.Config, target: Target) -> list[str]:
    from pglife_conformance.base.needs import Need

    unmet = [need for need in Need if need not in target.capabilities]
    return [
        f"pglife: target {target.name} ({target.version}), seed {config.option.pglife_seed}",
        f"pglife: needs not met: {', '.join(unmet) or 'none'}",
    ]


def _replay(item: pytest.Item) -> str:
    option = item.config.option
    words = ["pytest", item.nodeid, "--target", option.target]
    for name in option.pglife_trace:
        words += ["--trace", name]
    words += ["--pglife-seed", str(option.pglife_seed)]
    if option.deadline_scale != 1.0:
        words += ["--deadline-scale", str(option.deadline_scale)]
    return shlex.join(words)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
