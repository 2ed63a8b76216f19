"""The verdict: does the model explain what was seen?

Begin with Monitor: it records while a scenario runs, and judges when the scenario has ended.
"""

import itertools
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pglife_conformance.base.ids import ClientNumber
from pglife_conformance.events import (
    FAST,
    Answer,
    AnswerKind,
    CancelQuery,
    Connect,
    LetOthersConnect,
    LimitForks,
    Observation,
    ReloadRequest,
    RunPgCtl,
    ShutdownMode,
    ShutdownRequest,
    SignalChild,
    SignalPostmaster,
    Start,
    Stimulus,
    WriteFile,
)
from pglife_conformance.monitor.binding import BYSTANDERS, MODEL_KIND, Binding, OutOfScope
from pglife_conformance.monitor.steps import (
    ADMITTED,
    PENDING,
    Candidate,
    Snapshot,
    TooManyCandidates,
)
from pglife_conformance.monitor.tracker import ANYTHING, Tracker
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_spec import Action, Program, outside
from pglife_spec import Kind as ModelKind

_TOO_MANY = "sorry, too many clients already"
_CANCEL_CONNECTION = ClientNumber(-1)
"""The number of a client that only cancels a query."""
_EXIT_CODES = frozenset(outside.EXIT_CODES.values())


class Impossible(AssertionError):
    """The server did what the model forbids."""


class Monitor:
    """A recorder that judges afterwards.

    Args:
        repairs: names of the repairs that the target declares.
        store: a directory for the model's compiled code, where other processes find it.
    """

    def __init__(
        self, repairs: Callable[[], Iterable[str]] = tuple, store: Path | None = None
    ) -> None:
        self._repairs = repairs
        self._store = store
        self._events: list[Stimulus | Observation] = []
        self.open_because: str | None = None
        """Why the verdict is open from some moment on; None while everything is judged."""
        self.looks = 0
        self._tracker: Tracker | None = None
        self._latest: Tracker | None = None
        self._candidates: set[Candidate] = set()
        self._answered: set[int] = set()
        self._has_forked = False
        self._log_lags = False

    def stimulus(self, stimulus: Stimulus) -> None:
        """Record what is about to be done."""
        self._events.append(stimulus)

    def look(self, observation: Observation) -> None:
        """Record what was seen."""
        self._events.append(observation)

    def judge(self) -> None:
        """Judge everything that was recorded since the last call.

        Raises:
            Impossible: at the first observation that no candidate explains.
        """
        events, self._events = self._events, []
        try:
            for event in events:
                if isinstance(event, Observation):
                    self._observe(event)
                else:
                    self._stimulate(event)
        except OutOfScope as reason:
            self.open_because = str(reason)
        except TooManyCandidates:
            self.open_because = "too many candidates to follow"
        except outside.UnknownChildError as name:
            self.open_because = f"the model has no child that the log calls {name}"

    def explanations(self) -> tuple[Program, set[int]]:
        """The model of the last start, and its states that explain everything judged so far.

        Raises:
            TooManyCandidates: if there are more than can be followed.
        """
        latest = self._latest
        if latest is None:
            raise AssertionError("no server was started")
        return latest.program, {c.state for c in latest.closure(self._candidates)}

    # Stimuli.

    def _stimulate(self, stimulus: Stimulus) -> None:
        match stimulus:
            case LimitForks(since_start=True):
                raise OutOfScope("a limit of processes before the first fork")
            case WriteFile("standby.signal"):
                raise OutOfScope("a standby")
            case LetOthersConnect():
                raise OutOfScope("clients that are not the suite's")
            case Start():
                self._start(stimulus)
            case _ if self._tracker is None:
                pass
            case ShutdownRequest(mode):
                action = outside.shutdown_request(mode)
                self._candidates = self._running().request(self._candidates, action)
            case ReloadRequest(settings):
                self._reload(settings)
            case SignalChild(child, number):
                self._signal_child(child, number)
            case SignalPostmaster(number):
                if number in outside.FATAL_SIGNALS:
                    raise OutOfScope(f"{number.name} to the postmaster")
            case Connect(client):
                self._connect(client)
            case CancelQuery():
                self._connect(_CANCEL_CONNECTION)
            case RunPgCtl(args):
                self._pg_ctl(args)
            case LimitForks(room):
                self._limit_forks(room)
            case WriteFile(path):
                raise OutOfScope(f"a change of {path}")
            case _:
                pass

    def _start(self, start: Start) -> None:
        if start.settings.get("restore_command"):
            raise OutOfScope("archive recovery")
        binding = Binding.of(start.version, start.settings, self._repairs())
        program = binding.program(self._store)
        self._tracker = self._latest = Tracker(program, outside.line_kinds(binding.version))
        self._has_forked = False
        self._log_lags = binding.config.params["logging_collector"] is True
        self._candidates = {Candidate(state) for state in program.initial}

    def _running(self) -> Tracker:
        assert self._tracker is not None
        return self._tracker

    def _apply(self, action: Action) -> None:
        self._candidates = self._running().apply(self._candidates, action)

    def _allow(self, actions: Iterable[Action]) -> None:
        self._candidates = self._running().allow(self._candidates, actions)

    def _limit_forks(self, room: int | None) -> None:
        """From some moment on every fork fails, or none does."""
        if room:
            raise OutOfScope(f"a limit of {room} children")
        self._allow([outside.FORK_FAILS if room == 0 else outside.FORK_WORKS])

    def _reload(self, settings: Mapping[str, str]) -> None:
        if settings:
            raise OutOfScope(f"a reload that changes {', '.join(settings)}")
        self._apply(outside.RELOAD)

    def _connect(self, client: ClientNumber) -> None:
        self._candidates = {
            c._replace(clients=(*c.clients, (client, PENDING)))
            for c in self._running().closure(self._candidates)
        }

    def _pg_ctl(self, args: tuple[str, ...]) -> None:
        match args[:1]:
            case ("status",) | ("reload",):
                return
            case ("stop",):
                mode = FAST
                for flag, value in itertools.pairwise(args):
                    if flag in ("-m", "--mode"):
                        mode = next(m for m in ShutdownMode if m.startswith(value[0]))
                self._allow([outside.shutdown_request(mode)])
            case _:
                raise OutOfScope(f"pg_ctl {' '.join(args[:1])}")

    def _signal_child(self, child: Child, number: signal.Signals) -> None:
        if child.kind is Kind.UNKNOWN:
            kinds = list(ModelKind)
        elif child.kind in MODEL_KIND:
            kinds = [MODEL_KIND[child.kind]]
        elif child.kind in BYSTANDERS and number not in outside.FATAL_SIGNALS:
            return
        else:
            raise OutOfScope(f"a signal to a {child.kind}")
        actions = [a for kind in kinds for a in outside.signal_to_child(kind, number)]
        if actions:
            self._allow(actions)

    # Observations.

    def _observe(self, seen: Observation) -> None:
        if self._tracker is None:
            return
        for child in seen.kids:
            modelled = child.kind in MODEL_KIND or child.kind is Kind.UNKNOWN
            if not modelled and child.kind not in BYSTANDERS:
                raise OutOfScope(f"a {child.kind}")
        if seen.exit_code is not None and seen.exit_code not in _EXIT_CODES:
            raise OutOfScope(f"a postmaster that exited with {seen.exit_code}")
        records = (outside.line_of(record.level, record.message) for record in seen.log)
        lines = tuple(line for line in records if line is not None)
        self.looks += 1
        self._has_forked = self._has_forked or any(line != _LAST_LINE for line in lines)
        if not self._has_forked and (lines or seen.exit_code is not None):
            raise OutOfScope("a postmaster that exited before its first child")
        before = self._candidates
        after = self._tracker.after_look(before, lines, self._snapshot(seen))
        if seen.answer is not None:
            after = self._with_answer(after, seen.answer)
        if not after:
            raise Impossible(self._explain(before, lines, seen))
        self._candidates = after
        if seen.exit_code is not None:
            self._tracker = None

    def _snapshot(self, seen: Observation) -> Snapshot:
        tracker = self._running()
        if self._log_lags:
            # Lines pass through the logger: they may come later than what they report.
            return ANYTHING
        if seen.exit_code is not None:
            return tracker.exited(seen.exit_code)
        counts = dict.fromkeys(ModelKind, 0)
        untitled = 0
        for child in seen.kids:
            if child.kind is Kind.UNKNOWN:
                untitled += 1
            elif child.kind in MODEL_KIND:
                counts[MODEL_KIND[child.kind]] += 1
        return tracker.children(tuple(counts.values()), untitled)

    def _with_answer(self, candidates: set[Candidate], answer: Answer) -> set[Candidate]:
        """A client's first answer must be what was decided when it was accepted (INV-77)."""
        if answer.client in self._answered:
            return candidates
        allowed: Callable[[str], bool]
        match answer:
            case Answer(kind=AnswerKind.ERROR, sqlstate="57P03"):
                allowed = answer.message.__eq__
            case Answer(kind=AnswerKind.ERROR, message=message) if message == _TOO_MANY:
                allowed = {ADMITTED, _TOO_MANY}.__contains__
            case Answer(kind=AnswerKind.READY | AnswerKind.ERROR):
                allowed = ADMITTED.__eq__
            case _:
                return candidates
        self._answered.add(answer.client)
        kept = set()
        for candidate in self._running().closure(candidates):
            for client, decided in candidate.clients:
                if client == answer.client and allowed(decided):
                    rest = tuple(c for c in candidate.clients if c[0] != client)
                    kept.add(candidate._replace(clients=rest))
        known = any(c == answer.client for e in candidates for c, _ in e.clients)
        return kept if known else candidates

    # The text of a verdict.

    def _explain(
        self, before: set[Candidate], lines: tuple[outside.Line, ...], seen: Observation
    ) -> str:
        tracker = self._running()
        text = ["the model does not explain what was seen"]
        text.append("  explained until (some of the candidates)")
        for candidate in sorted(before, key=lambda c: c.state)[:4]:
            postmaster, children = tracker.view.describe(candidate.state)
            text.append(f"    {postmaster}")
            text.append(f"      {children} clients={candidate.clients}")
            if candidate.next_lines:
                text.append(f"      next lines must be {candidate.next_lines}")
        text.append(f"  then seen: {' | '.join(' '.join(line) for line in lines) or 'no new line'}")
        text += [f"    child {child}" for child in seen.kids]
        text.append(f"    exit code {seen.exit_code}; pid file {seen.pid_file}")
        if seen.answer is not None:
            text.append(f"    a client received {seen.answer}")
        if lines and before:
            text += self._guards(min(before, key=lambda c: c.state).state, lines[0])
        return "\n".join(text)

    def _guards(self, state: int, line: outside.Line) -> list[str]:
        """For steps that write such a line: which guard was false."""
        program = self._running().program
        text: list[str] = []
        for action in program.machine.actions:
            mentions = any(part in repr(action.effects) for part in line[1:2])
            why = program.why_not(action, state) if mentions else None
            if why is not None:
                text.append(f"    {action.name} [{', '.join(action.rules[:3])}]: not {why}")
        return ["  steps that write such a line, and the guard that was false", *text[:8]]


_LAST_LINE = ("log", "database system is shut down")
"""A postmaster that fails before its first fork writes this line too (SH-11)."""
