"""SET, RESET and SHOW, within transactions and savepoints.

Begin with Settings. Values and permissions are config/guc.py's.
Source: utils/misc/guc.c: AtEOXact_GUC(), push_old_value(), ReportChangedGUCOptions().
"""

from collections.abc import Callable

from pglife_impl.base.record import Record
from pglife_impl.config.guc import Gucs, Source
from pglife_impl.config.value import Context, Definition, GucError, ValueType
from pglife_impl.protocol import SqlError, SqlState, parameter_status
from pglife_impl.protocol.report import Report, Severity
from pglife_impl.session.transaction import Effect, Happening
from pglife_impl.session.zones import zone_named

# In the order in which 18.6 sends them, which is that of its table of settings.
FIRST_REPORTED = (
    "in_hot_standby",
    "integer_datetimes",
    "TimeZone",
    "IntervalStyle",
    "search_path",
    "is_superuser",
    "application_name",
    "default_transaction_read_only",
    "scram_iterations",
    "DateStyle",
    "standard_conforming_strings",
    "session_authorization",
    "client_encoding",
    "server_version",
    "server_encoding",
)

HIDDEN = (
    Definition("is_superuser", ValueType.BOOL, Context.INTERNAL, "", 0, 0, (), "off"),
    Definition("session_authorization", ValueType.STRING, Context.INTERNAL, "", 0, 0, (), ""),
)
"""Settings that describe the session; SHOW ALL and pg_settings do not list them."""

ENCODINGS = {"utf8": "UTF8", "unicode": "UTF8", "sqlascii": "SQL_ASCII"}


class _Level(Record):
    """The values at the start of a transaction or savepoint, and how many changes came before."""

    saved: object
    kept: int


class Settings:
    """The settings of one session.

    SET outlives its transaction if that commits; SET LOCAL never does. So SET is also recorded: a
    commit after SET LOCAL restores the values at the start of the transaction and repeats the
    recorded changes.
    """

    def __init__(self, gucs: Gucs, *, superuser: bool) -> None:
        self.gucs = gucs
        self.superuser = superuser
        self._levels: list[_Level] = []
        self._kept: list[tuple[str, str | None]] = []
        self._has_local = False
        self._reported = {name: gucs.show(name) for name in FIRST_REPORTED}
        self._hooks: dict[str, Callable[[], None]] = {}
        self._assigned: dict[str, str] = {}

    def on_assign(self, name: str, hook: Callable[[], None]) -> None:
        """Call `hook` after each change of a setting, undoing at ROLLBACK included."""
        self._hooks[name] = hook
        self._assigned[name] = self.gucs.show(name)

    def _call_hooks(self) -> None:
        for name, hook in self._hooks.items():
            value = self.gucs.show(name)
            if value != self._assigned[name]:
                self._assigned[name] = value
                hook()

    def show(self, name: str) -> str:
        """Return the value as SHOW prints it; SqlError 42704 if the name is unknown."""
        try:
            return self.gucs.show(name)
        except GucError as problem:
            raise error_of(problem) from None

    def milliseconds(self, name: str) -> int:
        """Return a timeout in milliseconds."""
        value = self.gucs.get(name)
        return int(value)

    def visible_state(self, state: str) -> str:
        """Return the state that pg_stat_activity shows; it needs track_activities."""
        return state if self.gucs.get("track_activities") else "disabled"

    def listed(self) -> list[str]:
        """Return the names that SHOW ALL and pg_settings list."""
        hidden = {each.name for each in HIDDEN}
        return [name for name in self.gucs.names() if name not in hidden]

    def canonical(self, name: str) -> str:
        """Return the name as PostgreSQL spells it."""
        self.show(name)
        return self.gucs.canonical(name)

    def set(self, name: str, value: str | None, *, local: bool = False) -> None:
        """SET, or RESET if the value is None; SqlError if it is not allowed."""
        try:
            if value is not None:
                value = normalize(name, value)
            self.gucs.set_session(name, value, superuser=self.superuser)
        except GucError as problem:
            raise error_of(problem) from None
        if local:
            self._has_local = True
        else:
            self._kept.append((name, value))
        self._call_hooks()

    def reset_all(self) -> None:
        """RESET ALL: reset every setting that this session has set."""
        for name in list(self.gucs.names()):
            if self.gucs.sources.get(name.lower()) is Source.SESSION:
                self.set(name, None)

    def follow(self, effect: Effect) -> None:
        """Save or restore values as a transaction or savepoint begins or ends."""
        match effect.happening:
            case Happening.STARTED:
                self._levels = [_Level(self.gucs.save(), 0)]
                self._kept = []
                self._has_local = False
            case Happening.SAVEPOINT_DEFINED:
                self._levels.append(_Level(self.gucs.save(), len(self._kept)))
            case Happening.RELEASED:
                del self._levels[effect.depth :]
            case Happening.ROLLED_BACK_TO:
                level = self._levels[effect.depth]
                del self._levels[effect.depth + 1 :]
                self.gucs.restore(level.saved)
                del self._kept[level.kept :]
            case Happening.ABORTED:
                self.gucs.restore(self._levels[0].saved)
            case Happening.COMMITTED:
                if self._has_local:
                    self.gucs.restore(self._levels[0].saved)
                    for name, value in self._kept:
                        self.gucs.set_session(name, value, superuser=self.superuser)
        self._call_hooks()

    def changed_reports(self) -> bytes:
        """Return ParameterStatus for each reported setting that changed since the last call."""
        messages = []
        for name in sorted(self._reported, key=str.lower):
            value = self.gucs.show(name)
            if value != self._reported[name]:
                self._reported[name] = value
                messages.append(parameter_status(name, value))
        return b"".join(messages)


def define_hidden(gucs: Gucs, values: dict[str, str]) -> None:
    """Define the settings that describe the session."""
    for definition in HIDDEN:
        gucs.definitions.setdefault(definition.name, definition)
        gucs.put_internal(definition.name, values[definition.name])


def normalize(name: str, value: str) -> str:
    """Check time zone, encoding and date style; return the value in PostgreSQL's spelling."""
    key = name.lower()
    if key == "timezone":
        try:
            zone_named(value)
        except SqlError:
            raise _invalid("TimeZone", value) from None
    elif key == "client_encoding":
        plain = "".join(c for c in value.lower() if c.isalnum())
        if plain not in ENCODINGS:
            raise _invalid("client_encoding", value)
        return ENCODINGS[plain]
    elif key == "datestyle":
        return _date_style(value)
    return value


def _date_style(value: str) -> str:
    """Return style and order in PostgreSQL's spelling; ISO is the only style here."""
    style, order = "ISO", "MDY"
    for word in value.replace(",", " ").upper().split():
        if word in ("MDY", "DMY", "YMD"):
            order = word
        elif word != "ISO":
            raise _invalid("DateStyle", value)
    return f"{style}, {order}"


def _invalid(name: str, value: str) -> GucError:
    return GucError(
        SqlState.INVALID_PARAMETER_VALUE, f'invalid value for parameter "{name}": "{value}"'
    )


def error_of(problem: GucError) -> SqlError:
    """Return the ERROR of a session for an invalid setting."""
    return SqlError(
        Report(Severity.ERROR, problem.sqlstate, problem.message, problem.detail, problem.hint)
    )
