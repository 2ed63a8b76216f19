"""The command line on the toy machine: output, exit status, bad input."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from toy import ACTIONS, GONE, PATIENT, PROPERTIES, SMALL, TOY, clients, fatal, pm

import pglife_spec
from pglife_spec.cli import main, prove, subject
from pglife_spec.explore import search
from pglife_spec.graphs import LifeView, signal_graph
from pglife_spec.lang.expr import BOOL, INT, Param
from pglife_spec.prove.report import Obligation, ProofReport, Status

PATIENT_TOY = replace(PATIENT, name="tiny-15")
SMALL_TOY = replace(SMALL, name="tiny-18")


@pytest.fixture
def pglife(monkeypatch, capsys):
    """Runs the command line in this process: exit status, output, complaints."""

    def run(*args, machine=TOY, configs=(PATIENT_TOY, SMALL_TOY)):
        about = subject.Subject(
            machine,
            {c.name: c for c in configs},
            GONE,
            mutants=(),
            views=lambda release: {"parent": LifeView(pm, "The parent", stimuli=("shut_down",))},
            to_draw=lambda config, view: config,
            signals=signal_graph,
        )
        monkeypatch.setattr(subject, "load", lambda: about)
        monkeypatch.setattr(sys, "argv", ["pglife", *args])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_a_good_configuration_explores_with_status_0(pglife):
    status, out, _ = pglife("explore")
    assert status == 0
    assert "26 states, 46 steps, depth 6" in out
    assert "2 claims hold" in out
    assert "holds" in out


def test_a_lasso_is_shown_and_written_with_status_1(pglife, tmp_path):
    status, out, _ = pglife("explore", "-V", "15", "--traces", str(tmp_path))
    assert status == 1
    assert "at rest in state 5 for ever" in out
    written = json.loads((tmp_path / "shutdown_ends.itf.json").read_text())
    assert written["loop"] == 5


def test_a_declared_failure_is_no_error_unless_it_is_repaired(pglife):
    params = (*TOY.params, replace(TOY.params[1], name="repair.tell_clients"))
    prop = replace(PROPERTIES[0], exception="clients may stay")
    declared = replace(TOY, params=params, properties=(prop,))
    for repaired, expected in ((False, 0), (True, 1)):
        values = {**PATIENT.params, "repair.tell_clients": repaired}
        config = replace(PATIENT, name="tiny-15", params=values)
        status, out, _ = pglife("explore", "-V", "15", machine=declared, configs=[config])
        assert status == expected
        assert ("fails, as declared" in out) == (not repaired)


def test_a_violation_is_shown_with_status_1(pglife, tmp_path):
    early = replace(ACTIONS[-1], guards=ACTIONS[-1].guards[:1])
    broken = TOY.with_actions([*ACTIONS[:-1], early])
    status, out, _ = pglife("explore", "--no-liveness", "--traces", str(tmp_path), machine=broken)
    assert status == 1
    assert "violated gone_means_alone" in out
    assert "operator" in out
    assert (tmp_path / "gone_means_alone.itf.json").exists()


def test_a_simulated_trace_replays(pglife, tmp_path):
    path = tmp_path / "walk.itf.json"
    status, out, _ = pglife("simulate", "--seed", "4", "--steps", "9", "-o", str(path))
    assert status == 0
    assert "random walk, seed 4" in out
    status, out, _ = pglife("replay", str(path))
    assert status == 0
    assert "explained: all" in out


def test_an_impossible_trace_is_explained_with_status_1(pglife, tmp_path):
    path = tmp_path / "walk.itf.json"
    pglife("simulate", "-o", str(path))
    path.write_text(path.read_text().replace('"start_up"', '"leave"', 1))
    status, out, _ = pglife("replay", str(path))
    assert status == 1
    assert "impossible at state 1: leave is impossible: pm.state = STOP is false" in out


def test_a_trace_brings_its_own_parameters(pglife, tmp_path):
    path = tmp_path / "walk.itf.json"
    pglife("simulate", "-c", "tiny-15", "-o", str(path))
    path.write_text(path.read_text().replace('"tiny-15"', '"elsewhere"'))
    status, out, _ = pglife("replay", str(path))
    assert status == 0
    assert "explained" in out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["explore", "-c", "huge"], "no configuration 'huge'; there are: tiny-15, tiny-18"),
        (["replay", "/nowhere/trace"], "cannot read /nowhere/trace: No such file or directory"),
        (["simulate", "--weight", "connect=much"], "--weight takes FAMILY=NUMBER"),
        (["simulate", "--weight", "walrus=1"], "no action or family named 'walrus'"),
        (["simulate", "--weight", "conect=1"], "no action or family named 'conect'; nearest: con"),
        (["prove", "--fix", "depth=1"], "--fix takes NAME=VALUE: 'depth=1'; there are: max_conn"),
        (["explore", "--set", "pateint=true"], "--set takes NAME=VALUE: 'pateint=true'; nearest"),
        (["explore", "--bound", "clients=-1"], "clients takes a whole number: '-1'"),
        (["explore", "--claim", "limit"], "no claim or property 'limit'; nearest: limit_is_kept"),
        (["explore", "--check", "clientz = 1"], "'clientz = 1', column 1: no variable or param"),
        (["explore", "--until", "pm.state ="], "'pm.state =', column 11: expected a name or a n"),
        (["prove", "--fix", "patient=2"], "patient takes true or false: '2'"),
        (["prove", "--fix", "max_connections=-2"], "max_connections takes a whole number: '-2'"),
        (["graph", "walrus"], "no picture 'walrus'; there are: parent"),
        (["simulate", "-o", "/nowhere/x"], "/nowhere/x: the folder /nowhere does not exist"),
        (["graph", "-o", "/nowhere/x"], "/nowhere/x: the folder /nowhere does not exist"),
        (["report", "-o", "/"], "/ is a folder; expected a file to write"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_clear_line_with_status_2(pglife, args, says):
    status, _, err = pglife(*args)
    assert status == 2
    assert err.startswith(f"pglife: {says}")
    assert err.count("\n") == 1


def test_a_report_is_written_in_the_format_of_its_name(pglife, tmp_path):
    for name, begins in (
        ("r.html", "<!doctype html>"),
        ("r.md", "# What"),
        ("r.txt", "The machine"),
    ):
        path = tmp_path / name
        args = ("report", "--no-proof", "--no-pictures", "-c", "tiny-18", "-o", str(path))
        status, out, _ = pglife(*args)
        assert status == 0
        assert path.read_text().startswith(begins)
        assert f"wrote {path}" in out


def test_a_report_with_something_wrong_has_status_1(pglife):
    status, out, _ = pglife("report", "--no-proof", "-c", "tiny-15")
    assert status == 1
    assert "FAILS after 5 steps" in out


@pytest.mark.parametrize(("status_", "code"), [(Status.PROVED, 0), (Status.UNKNOWN, 1)])
def test_only_a_whole_proof_has_status_0(pglife, monkeypatch, status_, code):
    asked = []

    def proved(machine, pins, mine, keep):
        asked.extend(pins)
        cells = [Obligation(c.name, "leave", status_, 0.1) for c in machine.claims]
        made = ProofReport(machine.name, pins[0], obligations=cells)
        made.summarize([c.name for c in machine.claims])
        return [made]

    monkeypatch.setattr(prove, "prove_all", proved)
    status, out, _ = pglife("prove", "--fix", "patient=true", "--fix", "max_connections=3")
    assert status == code
    assert asked == [{"patient": True, "max_connections": 3}]
    assert f"{status_.value}" in out
    assert "limit_is_kept" in out


def test_the_command_runs_on_the_real_model():
    root = str(Path(pglife_spec.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-m", "pglife_spec.cli.main", "configs"],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "tiny-18" in ran.stdout
    assert "z3" not in ran.stderr


def test_the_prover_runs_behind_the_command(pglife):
    status, out, err = pglife("prove")
    assert (status, err) == (0, "proving 2 claims\n")
    assert "every configuration" in out
    assert "proved" in out


def test_without_a_command_the_help_is_printed_with_status_0(pglife):
    status, out, err = pglife()
    assert (status, err) == (0, "")
    assert "Exit status:" in out


def test_the_version_is_printed(pglife):
    status, out, _ = pglife("--version")
    assert status == 0
    assert re.fullmatch(r"pglife \d+\.\d+\.\d+\n", out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(monkeypatch, pglife, shell):
    """The script that a shell loads asks the command itself, which answers with its commands."""
    monkeypatch.setenv("_PGLIFE_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", "pglife ex")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "pglife ex")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    status, out, _ = pglife()
    assert status == 0
    assert "explore" in out


@pytest.mark.parametrize("command", ["explore", "prove", "simulate", "replay", "graph", "report"])
def test_the_help_of_a_command_has_examples_and_readable_metavars(pglife, command):
    status, out, _ = pglife(command, "--help")
    assert status == 0
    assert f"Examples:\n    pglife {command}" in out
    assert "Exit status:" in out
    assert not re.search(r"^  -.*<(bool|path|list|str)", out, re.MULTILINE)


def test_an_incomplete_search_says_so_and_has_a_status_of_its_own(pglife):
    status, out, _ = pglife("explore", "--limit", "5")
    assert status == 3
    assert "not all: stopped at the limit" in out
    assert "open: not all states seen  shutdown_ends" in out
    assert "holds  shutdown_ends" not in out


def test_a_limit_of_memory_stops_the_search_with_status_3(pglife):
    status, out, _ = pglife("explore", "--max-memory", "1K")
    assert status == 3
    assert "not all: out of the memory it may take" in out
    status, _, said = pglife("explore", "--max-memory", "much")
    assert status == 2
    assert "expected a number of bytes" in said


def test_ctrl_c_prints_what_was_covered_with_status_130(pglife, monkeypatch):
    def interrupted(*_, **options):
        options["progress"] = lambda seen: signal.raise_signal(signal.SIGINT)
        return search.explore(*_, **options)

    monkeypatch.setattr("pglife_spec.cli.explore.explore", interrupted)
    status, out, _ = pglife("explore")
    assert status == 130
    assert "not all: interrupted" in out
    assert "actions never taken" in out


def test_a_question_changes_parameters_and_bounds(pglife):
    status, out, _ = pglife("explore", "--set", "max_connections=1", "--bound", "clients=3")
    assert status == 0
    assert "tiny-18 with max_connections=1, clients=3  18 states" in out


def test_only_what_is_asked_is_checked(pglife):
    _, out, _ = pglife("explore", "--claim", "limit_is_kept")
    assert "1 claims hold" in out
    assert "shutdown_ends" not in out
    _, out, _ = pglife("explore", "--claim", "shutdown_ends")
    assert "claims hold" not in out
    assert "holds  shutdown_ends" in out


@pytest.mark.parametrize(
    ("check", "code"), [("clients <= 2", 0), ("writer = DEAD -> clients = 0", 1)]
)
def test_a_condition_of_the_user_is_checked(pglife, tmp_path, check, code):
    status, out, _ = pglife("explore", "--check", check, "--traces", str(tmp_path))
    assert status == code
    assert (f"violated {check}" in out) == bool(code)
    assert len(list(tmp_path.iterdir())) == code


def test_the_shortest_way_to_a_state_is_printed(pglife):
    status, out, _ = pglife("explore", "--until", "clients = 2")
    assert status == 0
    assert "until clients = 2  (3 steps)" in out
    status, out, _ = pglife("explore", "--until", "clients = 2 and pm.state = GONE")
    assert status == 1
    assert "in none of 26 states: clients = 2 and pm.state = GONE" in out
    status, out, _ = pglife("explore", "--until", "pm.state = GONE", "--limit", "3")
    assert status == 3
    assert "seen before the search stopped" in out


def test_conditions_that_never_decide_are_listed(pglife):
    idle = replace(ACTIONS[-1], guards=(*ACTIONS[-1].guards, clients <= 9))
    _, out, _ = pglife("explore", "--coverage", machine=TOY.with_actions([*ACTIONS[:-1], idle]))
    assert "    leave: clients <= 9" in out[out.index("never false:") : out.index("false only")]
    assert "start_up: writer = ABSENT" in out


def test_of_several_walks_the_shortest_that_arrives_is_printed(pglife, tmp_path):
    path = tmp_path / "walk.itf.json"
    args = ("--count", "30", "--without", "fault", "--until", "pm.state = GONE", "--coverage")
    status, out, _ = pglife("simulate", *args, "-o", str(path))
    assert status == 0
    reached = re.search(r"(\d+) of 30 runs reach pm.state = GONE", out)
    assert reached is not None
    assert 0 < int(reached[1]) <= 30
    assert re.search(r"^ +0  writer_ends\[crash\]$", out, re.MULTILINE)
    assert len(json.loads(path.read_text())["states"]) == 6
    status, out, _ = pglife("simulate", "--until", "clients = 1 and pm.state = GONE")
    assert status == 1
    assert "0 of 1 runs reach" in out


def test_a_bound_that_cuts_a_step_of_the_server_is_an_error(pglife):
    more = replace(ACTIONS[3], name="more", guards=(clients >= 1,))
    more = replace(more, effects=(clients.becomes(clients + 1),))
    status, out, _ = pglife("explore", "--no-liveness", machine=TOY.with_actions([*ACTIONS, more]))
    assert status == 1
    assert "cut, although the server takes them: more" in out
    assert "a bound cuts more  (3 steps)" in out


def test_a_long_list_is_whole_on_request(pglife):
    idle = [replace(ACTIONS[0], name=f"idle_{at:02}") for at in range(20)]
    machine = TOY.with_actions([*ACTIONS, *(replace(a, guards=(*a.guards, fatal)) for a in idle)])
    _, cut, _ = pglife("explore", machine=machine)
    assert "idle_11 and 8 more (--whole lists all)" in " ".join(cut.split())
    _, whole, _ = pglife("explore", "--whole", machine=machine)
    assert " more" not in whole
    assert "idle_19" in whole


def test_a_trace_folds_between_words_and_starts_with_what_is_there(pglife, monkeypatch):
    long = replace(ACTIONS[0], name="a_parent_that_starts_up_with_long_words(immediateshutdown)")
    for width in (70, 90, 140):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(subject, "console", lambda: Console(highlight=False))
        _, out, _ = pglife("simulate", machine=TOY.with_actions([long, *ACTIONS[1:]]))
        words = set(re.findall(r"[a-z]+", out))
        assert set(re.findall(r"[a-z]+", long.name)) <= words
    start = out[out.index("start ") : out.index("immediateshutdown")]
    assert "pm.state = START " in start
    assert "writer = ABSENT" in start, "no other variable has its sort"
    assert "clients = 0" not in start


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["graph", "parent"], "exploring small-18\ndrawing\n"),
        (["report", "--no-proof", "--no-pictures"], "collecting\n"),
    ],
    ids=["graph", "report"],
)
def test_a_command_that_is_piped_says_what_it_does(pglife, args, says):
    _, _, err = pglife(*args, configs=GRAPHED)
    assert err == says


RELEASED = replace(TOY, params=(*TOY.params, Param("version", INT)))


def of_release(config, version):
    return replace(config, params={**config.params, "version": version})


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["explore", "-c", "tiny-15", "-V", "18"],
            "configuration 'tiny-15' is of 15: it does not go with -V 18",
        ),
        (["replay", "TRACE", "-V", "15"], "this trace is of 18: it does not go with -V 15"),
        (
            ["replay", "TRACE", "-c", "tiny-15"],
            "this trace is of 18, configuration 'tiny-15' of 15",
        ),
    ],
    ids=["configuration", "trace", "trace and configuration"],
)
def test_two_releases_in_one_command_are_refused(pglife, tmp_path, args, says):
    path = tmp_path / "walk.itf.json"
    asked = {
        "machine": RELEASED,
        "configs": [of_release(PATIENT_TOY, 15), of_release(SMALL_TOY, 18)],
    }
    assert pglife("simulate", "-o", str(path), **asked)[0] == 0
    status, _, err = pglife(*(str(path) if a == "TRACE" else a for a in args), **asked)
    assert status == 2
    assert err == f"pglife: {says}\n"


def test_configurations_show_what_differs(pglife):
    params = (*TOY.params, Param("repair.tell_clients", BOOL))
    configs = [
        replace(c, name=f"tiny-{n}", params={**c.params, "repair.tell_clients": n == "repaired"})
        for c, n in ((SMALL, "real"), (SMALL, "repaired"))
    ]
    _, out, _ = pglife("configs", machine=replace(TOY, params=params), configs=configs)
    assert [line.rstrip() for line in out.splitlines()] == [
        "tiny-real",
        "tiny-repaired",
        f"{'':20} all findings repaired",
        f"{'all others have':20} max_connections = 2, patient = false, no finding repaired, "
        "clients up to 2",
    ]


@pytest.mark.parametrize(
    ("args", "begins"),
    [
        (["parent"], "<svg "),
        (["parent", "-f", "mermaid"], "---\ntitle: "),
        (["parent", "-f", "dot"], "digraph "),
        (["parent", "-f", "graphml"], "<graphml "),
        (["states", "-c", "tiny-18", "-f", "json"], '{"directed": true'),
        (["signals", "-f", "json"], '{"directed": true'),
    ],
    ids=" ".join,
)
def test_a_graph_is_printed_in_each_format(pglife, args, begins):
    status, out, _ = pglife("graph", *args, configs=GRAPHED)
    assert status == 0
    assert out.startswith(begins)


GRAPHED = (SMALL_TOY, replace(SMALL, name="small-18"))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["states"], "states is written with -f graphml or -f json"),
        (["signals", "-f", "json", "--trace", "x"], "--trace goes with postmaster or a kind"),
        (["parent", "-c", "tiny-18"], "-c goes with states"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_graph_refuses_what_does_not_go_together(pglife, args, says):
    status, _, err = pglife("graph", *args, configs=GRAPHED)
    assert status == 2
    assert err.startswith(f"pglife: {says}")


def test_a_graph_of_traces_counts_the_ways_that_they_take(pglife, tmp_path):
    path = tmp_path / "walk.itf.json"
    pglife("simulate", "--weight", "shut_down=5", "-o", str(path), configs=GRAPHED)
    status, out, err = pglife("graph", "parent", "--trace", str(path), configs=GRAPHED)
    assert status == 0
    assert err.endswith("\nthe traces take 3 of 4 ways\n")
    assert out.startswith("<svg ")


@pytest.mark.parametrize(
    ("args", "module", "modules_of_ours", "says"),
    [
        (["graph", "parent"], "fast_sugiyama", "draw.svg draw.layout", "pglife[draw]"),
        (["report", "--no-proof"], "jinja2", "report.render", "pglife[report]"),
    ],
    ids=["draw", "report"],
)
def test_a_missing_extra_is_one_line(pglife, monkeypatch, args, module, modules_of_ours, says):
    for name in modules_of_ours.split():
        monkeypatch.delitem(sys.modules, f"pglife_spec.{name}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = pglife(*args, configs=GRAPHED)
    assert status == 2
    assert err == f"pglife: {module} is missing: pip install '{says}'\n"
