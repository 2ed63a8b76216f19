"""The pytest plugin: options, which scenarios are about this target, verdicts, the report.

The hooks stand in the order in which pytest calls them. Every pytest run of an environment with
pglife loads this module, so that it imports pytest and the standard library alone and does nothing
where there are no scenarios of ours.
"""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pglife_conformance.pytest import options

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


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite, under their long names."""
    options.register(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Read our short names, when all plugins and conftests have registered their options."""
    options.forget_short_values(early_config.known_args_namespace.file_or_dir, args)
    yield
    options.read_short_names(parser, args)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and refuse options that are of no use before any work is done."""
    config.addinivalue_line("markers", "claim(...): the rules that a scenario is about")
    config.addinivalue_line("markers", "settings(**settings): configuration of its cluster")
    config.addinivalue_line("markers", "unmonitored(reason): why no monitor watches it")
    config.addinivalue_line("markers", "waits_long: it begins first, and others run meanwhile")
    config.stash[_LEFT_OUT] = {}
    if _is_worker(config):
        return
    options.check_scale(config)
    if config.option.pglife_target != options.DEFAULT_TARGET or config.option.pglife_repaired:
        # Named on the command line: refused at once, and under xdist once.
        _resolve(config)
    if config.option.pglife_trace:
        _check_traces(config)


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    """With traces only the scenario that plays them, without traces all but that one."""
    if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    plays = collection_path.as_posix().endswith(_PLAYER)
    return True if plays != bool(config.option.pglife_trace) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not about this release, skip what needs more than the target has.

    Called last, so that nothing is reported that -k or -m has not selected. The scenarios that wait
    for a minute come first, and the other workers run the rest meanwhile.
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
            # The controller finds the same after our collection, and ends the run.
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
    from pglife_conformance.reports.verdicts import LACKS

    missing = claim.missing_needs(target.capabilities)
    if missing:
        item.add_marker(pytest.mark.skip(reason=f"{LACKS}{', '.join(missing)}"))


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    """The header: target, release, needs not met."""
    if _is_worker(config) or not any(item.get_closest_marker("claim") for item in items):
        return []
    return _header(config, _state(config).target)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """Print the header under xdist, where the controller collects nothing itself."""
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
        reason = str(report.longrepr)
        if reason.startswith("self-test of target"):
            pytest.exit(reason, returncode=pytest.ExitCode.USAGE_ERROR)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over from a worker what it has left out."""
    output = getattr(node, "workeroutput", None) or {}
    left_out: dict[str, str] = output.get("pglife_left_out", {})
    known: dict[str, str] = node.config.stash[_LEFT_OUT]
    known.update(left_out)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Ask the monitors, and make an XFAIL of a known defect's own symptom."""
    if item.get_closest_marker("claim") is None:
        return (yield)
    from pglife_conformance.pytest.outcome import conclude_failure, conclude_pass

    __tracebackhide__ = True
    problem: Exception | None = None
    result: object = None
    try:
        result = yield
    except Exception as caught:
        problem = caught
    if problem is not None:
        conclude_failure(item, problem)
        raise problem
    conclude_pass(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the verdict, and under a failure what was expected, seen, and how to replay it."""
    report = yield
    if item.get_closest_marker("claim") is None:
        return report
    from pglife_conformance.pytest.claims import claim_of
    from pglife_conformance.pytest.state import first_line
    from pglife_conformance.reports.verdicts import Verdict, leave_open, verdict_of

    claim = claim_of(item)
    if claim is None or (report.when != "call" and report.passed):
        return report
    problem = call.excinfo.value if call.excinfo is not None else None
    verdict = verdict_of(report, problem)
    report.pglife_verdict = str(verdict)  # type: ignore[attr-defined]
    if problem is not None and verdict is Verdict.INCONCLUSIVE:
        leave_open(report, first_line(problem))
    if problem is not None and report.failed:
        report.sections.append(_failure_section(item, claim, problem))
    return report


def _where_to_look(claim: Claim) -> str:
    action = [f"spec action {claim.spec[0].family}"] if claim.spec else []
    return "; ".join([*action, claim.source])


def _failure_section(item: pytest.Item, claim: Claim, problem: BaseException) -> tuple[str, str]:
    from pglife_conformance.pytest.outcome import unlike_known_defects
    from pglife_conformance.reports.verdicts import claim_sentence, failure_text

    text = failure_text(
        item.name,
        claim.rules,
        problem,
        _where_to_look(claim),
        shlex.join(["pytest", item.nodeid, *options.words_of(item.config)]),
        unlike_known_defects(item, problem),
        [cluster.watcher.evidence() for cluster in _state(item.config).clusters_of(item)],
    )
    return f"claim: {claim_sentence(item)}", text


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was left out with its reasons, and what a played trace says of itself."""
    reports = _reports(terminalreporter)
    if not _is_report_wanted(config, reports):
        return
    from pglife_conformance.reports.verdicts import summary_lines

    names = "s" in terminalreporter.reportchars
    traces = [dict(r.user_properties).get("trace") for r in reports if _is_test(r)]
    left_out: dict[str, str] = config.stash[_LEFT_OUT]
    lines = summary_lines(reports, left_out, names=names)
    lines += [str(line) for line in traces if line is not None]
    state = _state_if_any(config)
    if state is not None and state.keep_clusters:
        lines.append(f"clusters kept in {state.run.place}")
    if lines:
        terminalreporter.section("pglife")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """End what is left of this run; the counts of verdicts are the last line of all."""
    config = session.config
    output = getattr(config, "workeroutput", None)
    if output is not None:
        left_out: dict[str, str] = config.stash[_LEFT_OUT]
        output["pglife_left_out"] = dict(left_out)
    result = yield
    state = _state_if_any(config)
    if state is not None:
        state.run.end(keep=state.keep_clusters)
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    reports = _reports(reporter) if reporter is not None else []
    if _is_report_wanted(config, reports):
        from pglife_conformance.reports.verdicts import verdict_line

        reporter.write_line(verdict_line(reports))
    return result


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
    from pglife_conformance.pytest.state import chosen_target

    try:
        return chosen_target(config)
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
    lines = [
        f"pglife: target {target.name} ({target.version})",
        f"pglife: needs not met: {', '.join(unmet) or 'none'}",
    ]
    if target.about_rules is not None:
        lines.append(f"pglife: {target.about_rules}")
    taken = [option for option in options.OPTIONS if option.is_taken(config)]
    lines += [
        f"pglife: {option.short} is another plugin's here, ours is {option.long}"
        for option in taken
    ]
    return lines


def _reports(reporter: Any) -> list[Any]:
    return [report for group in reporter.stats.values() for report in group]


def _is_report_wanted(config: pytest.Config, reports: list[Any]) -> bool:
    """Whether scenarios of ours have run, or some of those selected are not of this release."""
    if _is_worker(config) or config.option.collectonly:
        return False
    return bool(config.stash[_LEFT_OUT]) or any(hasattr(r, "pglife_verdict") for r in reports)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
