"""The verdict: does the model explain what was seen?

Begin with   Monitor: record now, judge when the scenario has ended.
Owns         what each stimulus and each observation means to the model, and how a verdict reads.
Leaves out   liveness: a server that does nothing is always explained, until it is looked at.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pglife_conformance.events import (
    FAST,
    Answer,
    AnswerKind,
    CancelQuery,
    Connect,
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
from pglife_conformance.monitor.labels import Label, UnknownDeath, label_of
from pglife_conformance.monitor.projection import readings_of
from pglife_conformance.monitor.states import Tracker
from pglife_conformance.monitor.steps import ADMITTED, PENDING, Element, Facts, TooMany
from pglife_conformance.observation.kinds import Kind
from pglife_conformance.observation.processes import Child
from pglife_spec.meanings.python.program import Program
from pglife_spec.postgres.state import EXIT, LIFE, STATE
from pglife_spec.postgres.words import SINGLETONS
from pglife_spec.postgres.words import Kind as ModelKind

_DEADLY = frozenset(
    {
        signal.SIGKILL,
        signal.SIGABRT,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGQUIT,
    }
)
_TOO_MANY = "sorry, too many clients already"
_TERMINABLE = {
    ModelKind.BG_WRITER: {signal.SIGTERM},
    ModelKind.WAL_WRITER: {signal.SIGTERM, signal.SIGINT},
    ModelKind.AUTOVAC_LAUNCHER: {signal.SIGTERM},
    ModelKind.BG_WORKER: {signal.SIGTERM, signal.SIGINT},
}


class Impossible(AssertionError):
    """The server did what the model forbids."""


class Monitor:
    """A recorder that judges afterwards.

    Args:
        repairs: names of the repairs that the target declares.
        kept_in: a directory for the model's compiled code, which other runs then find there.
    """

    def __init__(
        self, repairs: Callable[[], Iterable[str]] = tuple, kept_in: Path | None = None
    ) -> None:
        self._repairs = repairs
        self._kept_in = kept_in
        self._events: list[Stimulus | Observation] = []
        self.open_because: str | None = None
        """Why the verdict is open from some moment on; None while everything is judged."""
        self.looks = 0
        self._tracker: Tracker | None = None
        self._latest: Tracker | None = None
        self._elements: set[Element] = set()
        self._heard: set[int] = set()
        self._spoken = False
        self._log_lags = False

    def stimulus(self, stimulus: Stimulus) -> None:
        """Record what is about to be done."""
        self._events.append(stimulus)

    def look(self, observation: Observation) -> None:
        """Note what has been seen."""
        self._events.append(observation)

    def judge(self) -> None:
        """Go through everything that was noted.

        Raises:
            Impossible: if there comes a moment that nothing explains.
        """
        events, self._events = self._events, []
        try:
            for event in events:
                if isinstance(event, Observation):
                    self._see(event)
                else:
                    self._do(event)
        except OutOfScope as reason:
            self.open_because = str(reason)
        except TooMany:
            self.open_because = "too many explanations to follow"
        except UnknownDeath as name:
            self.open_because = f"the model does not tell of the death of a {name}"

    def explanations(self) -> tuple[Program, set[int]]:
        """The model of the last start, and its states that explain all that was judged so far.

        Raises:
            TooMany: if there are more than can be followed.
        """
        live = self._latest
        if live is None:
            raise AssertionError("nothing was started")
        return live.program, {element.state for element in live.closure(self._elements)}

    # What was done.

    def _do(self, stimulus: Stimulus) -> None:
        match stimulus:
            case LimitForks(since_start=True):
                raise OutOfScope("a limit of processes before the first fork")
            case Start():
                self._start(stimulus)
            case _ if self._tracker is None:
                pass
            case ShutdownRequest(mode):
                self._request(mode, now=True)
            case ReloadRequest(settings):
                self._reload(settings)
            case SignalChild(child, number):
                self._signal_child(child, number)
            case SignalPostmaster(number):
                self._signal_postmaster(number)
            case Connect(client):
                self._connect(client)
            case CancelQuery():
                self._connect(-1)
            case RunPgCtl(args):
                self._pg_ctl(args)
            case LimitForks(room):
                self._fork_limit(room)
            case WriteFile(path):
                raise OutOfScope(f"a change of {path}")
            case _:
                pass

    def _start(self, start: Start) -> None:
        if start.settings.get("restore_command"):
            raise OutOfScope("archive recovery")
        binding = Binding.of(start.version, start.settings, self._repairs())
        program = binding.program(self._kept_in)
        visible = {"log", "pmstate"} if binding.version >= 18 else {"log"}
        self._tracker = self._latest = Tracker(program, frozenset(visible))
        self._spoken = False
        self._log_lags = binding.config.params["logging_collector"] is True
        self._elements = {Element(state) for state in program.initial}
        self._readings = readings_of(program)

    def _live(self) -> Tracker:
        assert self._tracker is not None
        return self._tracker

    def _request(self, mode: ShutdownMode, *, now: bool) -> None:
        action = f"operator_requests_shutdown({mode}shutdown)"
        move = self._live().apply if now else None
        if move is not None:
            self._elements = move(self._elements, action)
        else:
            self._elements = self._live().grant(self._elements, [action])

    def _fork_limit(self, room: int | None) -> None:
        """From some moment on every fork fails, or none does."""
        if room:
            raise OutOfScope(f"a limit that lets {room} children live")
        action = "fork_begins_to_fail" if room == 0 else "fork_works_again"
        self._elements = self._live().grant(self._elements, [action])

    def _reload(self, settings: Mapping[str, str]) -> None:
        if settings:
            raise OutOfScope(f"a reload that changes {', '.join(settings)}")
        self._elements = self._live().apply(self._elements, "operator_requests_reload")

    def _signal_postmaster(self, number_: signal.Signals) -> None:
        if number_ in _DEADLY:
            raise OutOfScope(f"{number_.name} to the postmaster")

    def _connect(self, client: int) -> None:
        live = self._live()
        self._elements = {
            Element(e.state, e.promised, (*e.clients, (client, PENDING)), e.tokens)
            for e in live.closure(self._elements)
        }

    def _pg_ctl(self, args: tuple[str, ...]) -> None:
        command = args[0] if args else ""
        if command in ("status",):
            return
        if command == "stop":
            mode = FAST
            for flag, value in itertools.pairwise(args):
                if flag in ("-m", "--mode"):
                    mode = next(m for m in ShutdownMode if m.startswith(value[0]))
            self._request(mode, now=False)
            return
        if command == "reload":
            return
        raise OutOfScope(f"pg_ctl {command}")

    def _signal_child(self, child: Child, number_: signal.Signals) -> None:
        kinds = self._possible_kinds(child)
        if not kinds and child.kind not in BYSTANDERS:
            raise OutOfScope(f"a signal to a {child.kind}")
        actions: list[str] = []
        for kind in kinds:
            actions += self._effects_of(kind, number_)
        if actions:
            self._elements = self._live().grant(self._elements, actions)

    def _possible_kinds(self, child: Child) -> list[ModelKind]:
        if child.kind is Kind.UNKNOWN:
            return list(ModelKind)
        return [MODEL_KIND[child.kind]] if child.kind in MODEL_KIND else []

    def _effects_of(self, kind: ModelKind, number_: signal.Signals) -> list[str]:
        name = kind.name.lower()
        families = self._live().families
        if number_ in _DEADLY:
            if kind in SINGLETONS:
                return [f"child_crashes({name})"]
            return [a for a in families["one_of_many_crashes"] if f"({name}," in a]
        if kind in _TERMINABLE and number_ in _TERMINABLE[kind]:
            return [f"background_process_is_terminated({name})"]
        if kind is ModelKind.CHECKPOINTER:
            stray = {signal.SIGINT: "sigint", signal.SIGUSR2: "sigusr2"}
            return [f"checkpointer_gets_stray_{stray[number_]}"] if number_ in stray else []
        if kind is ModelKind.IO_WORKER and number_ in (signal.SIGINT, signal.SIGUSR2):
            return ["io_worker_is_terminated"]
        if kind is ModelKind.STARTUP and number_ == signal.SIGTERM:
            return ["startup_fails"]
        return []

    # What was seen.

    def _see(self, seen: Observation) -> None:
        if self._tracker is None:
            return
        for child in seen.kids:
            modelled = child.kind in MODEL_KIND or child.kind is Kind.UNKNOWN
            if not modelled and child.kind not in BYSTANDERS:
                raise OutOfScope(f"a {child.kind}")
        if seen.exit_code is not None and seen.exit_code not in self._readings.ended:
            raise OutOfScope(f"a postmaster that ended with {seen.exit_code}")
        lines = tuple(label for record in seen.log if (label := label_of(record)) is not None)
        self.looks += 1
        self._spoken = self._spoken or any(label not in _SAID_BY_ANYBODY for label in lines)
        if not self._spoken and (lines or seen.exit_code is not None):
            raise OutOfScope("a postmaster that ended before its first child")
        before = self._elements
        after = self._live().after_look(before, lines, self._facts(seen))
        if seen.answer is not None:
            after = self._answered(after, seen.answer)
        if not after:
            raise Impossible(self._explain(before, lines, seen))
        self._elements = after
        if seen.exit_code is not None:
            self._tracker = None

    def _facts(self, seen: Observation) -> Facts:
        if self._log_lags:
            # Lines go through the logger, and may come later than what they tell of.
            return Facts(lambda _state: True, lambda _before, _after: True)
        if seen.exit_code is not None:
            ended = self._readings.ended[seen.exit_code]
            return Facts(ended, lambda _before, after: ended(after))
        counts = dict.fromkeys(ModelKind, 0)
        unknown = 0
        for child in seen.kids:
            if child.kind is Kind.UNKNOWN:
                unknown += 1
            elif child.kind in MODEL_KIND:
                counts[MODEL_KIND[child.kind]] += 1
        titled = tuple(counts[kind] for kind in ModelKind)
        readings = self._readings

        def exactly(state: int) -> bool:
            return readings.agrees(state, titled, unknown)

        def midway(before: int, after: int) -> bool:
            return exactly(after) or readings.agrees_midway(before, after, titled)

        return Facts(exactly, midway)

    def _answered(self, elements: set[Element], answer: Answer) -> set[Element]:
        """What a client hears must be what was decided when it was accepted (INV-77)."""
        if answer.client in self._heard or answer.kind is AnswerKind.ONE_BYTE:
            return elements
        allowed: Callable[[str], bool]
        if answer.kind is AnswerKind.READY:
            allowed = ADMITTED.__eq__
        elif answer.kind is AnswerKind.ERROR and answer.sqlstate == "57P03":
            allowed = answer.message.__eq__
        elif answer.kind is AnswerKind.ERROR and answer.message == _TOO_MANY:
            allowed = {ADMITTED, _TOO_MANY}.__contains__
        elif answer.kind is AnswerKind.ERROR:
            allowed = ADMITTED.__eq__
        else:
            return elements
        self._heard.add(answer.client)
        kept = set()
        for element in self._live().closure(elements):
            for client, decided in element.clients:
                if client == answer.client and allowed(decided):
                    rest = tuple(c for c in element.clients if c[0] != client)
                    kept.add(Element(element.state, element.promised, rest, element.tokens))
        known = any(c == answer.client for e in elements for c, _ in e.clients)
        return kept if known else elements

    # How a verdict reads.

    def _explain(self, before: set[Element], lines: tuple[Label, ...], seen: Observation) -> str:
        program = self._live().program
        show = [STATE, EXIT, *LIFE.values()]
        shown = [program.evaluate(var) for var in show]
        wanted = [program.evaluate(program.machine.variable(n)) for n in _ALSO_SHOWN]
        text = ["the model does not explain what was seen"]
        text.append("  explained until (some of the candidates)")
        for element in sorted(before, key=lambda e: e.state)[:4]:
            values = [
                f"{n}={_plain(f(element.state))}" for n, f in zip(_ALSO_SHOWN, wanted, strict=True)
            ]
            lives = [
                f"{var.name}={_plain(f(element.state))}" for var, f in zip(show, shown, strict=True)
            ]
            text.append(f"    {' '.join(lives[:2] + values)}")
            text.append(f"      {' '.join(lives[2:])} clients={element.clients}")
            if element.promised:
                text.append(f"      next lines must be {element.promised}")
        text.append(f"  then seen: {' | '.join(' '.join(line) for line in lines) or 'no new line'}")
        text += [f"    child {child}" for child in seen.kids]
        text.append(f"    exit code {seen.exit_code}; pid file {seen.pid_file}")
        if seen.answer is not None:
            text.append(f"    a client heard {seen.answer}")
        text += self._guards(before, lines)
        return "\n".join(text)

    def _guards(self, before: set[Element], lines: tuple[Label, ...]) -> list[str]:
        """For steps that would leave the first line: which guard was false."""
        program = self._live().program
        if not lines or not before:
            return []
        element = min(before, key=lambda e: e.state)
        text: list[str] = []
        for action in program.machine.actions:
            mentions = any(part in repr(action.effects) for part in lines[0][1:2])
            why = program.why_not(action, element.state) if mentions else None
            if why is not None:
                text.append(f"    {action.name} [{', '.join(action.rules[:3])}]: not {why}")
        return ["  steps that leave such a line, and the guard that was false", *text[:8]]


#: A postmaster that fails before it forks anybody says this too (SH-11).
_SAID_BY_ANYBODY = (("log", "database system is shut down"),)

_ALSO_SHOWN = (
    "Shutdown",
    "FatalError",
    "AbortStartTime",
    "connsAllowed",
    "StartupStatus",
    "pending_request",
    "reaping",
    "control",
    "RECOVERY_STARTED",
    "XLOG_IS_SHUTDOWN",
)


def _plain(value: object) -> str:
    return getattr(value, "name", None) or str(value)
