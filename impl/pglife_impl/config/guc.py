"""The settings of one process: values, their sources, and the right to change them.

Begin with Gucs.load() (start and reload) and Gucs.set_session(). A value of a higher source hides
lower ones: default < file < command line < startup packet < session.
Source: utils/misc/guc.c: ProcessConfigFileInternal(), set_config_option(), ResetAllOptions();
rules ST-02, SG-02.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from enum import IntEnum

from pglife_impl.config.conffile import Item, Parsed, read_file
from pglife_impl.config.value import (
    CANT_CHANGE_RUNTIME_PARAM,
    INSUFFICIENT_PRIVILEGE,
    UNDEFINED_OBJECT,
    Context,
    Definition,
    GucError,
    Value,
    ValueType,
    load_definitions,
)

CUSTOM_NAME = re.compile(r"[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)+\Z")


class Source(IntEnum):
    """Where a value comes from; a higher source wins."""

    DEFAULT = 0
    FILE = 1
    COMMAND_LINE = 2
    CLIENT = 3
    SESSION = 4


class Gucs:
    """All settings of a process; a fork gives a child its own copy."""

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = load_definitions()
        self.values: dict[str, Value] = {
            key: d.parse(d.boot) if d.type is ValueType.BOOL else _boot(d)
            for key, d in self.definitions.items()
        }
        self.sources: dict[str, Source] = {}
        self.reset_values: dict[str, Value] = {}
        self.config_file = ""

    # --- reading ----------------------------------------------------------------------------

    def definition(self, name: str) -> Definition:
        """Return the definition of a setting; an unknown dotted name becomes a custom setting."""
        found = self.definitions.get(name.lower())
        if found is not None:
            return found
        if "." in name:
            if not CUSTOM_NAME.match(name):
                raise GucError("42602", f'invalid configuration parameter name "{name}"')
            custom = Definition(name, ValueType.STRING, Context.USER, "", 0, 0, (), "")
            self.definitions[name.lower()] = custom
            self.values[name.lower()] = ""
            return custom
        raise GucError(UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name}"')

    def get(self, name: str) -> Value:
        """Return the value in base units."""
        return self.values[name.lower()]

    def integer(self, name: str) -> int:
        """Return the value of an integer setting."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def boolean(self, name: str) -> bool:
        """Return the value of a Boolean setting."""
        value = self.values[name]
        assert isinstance(value, bool)
        return value

    def text(self, name: str) -> str:
        """Return the value of a string or enum setting."""
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def show(self, name: str) -> str:
        """Return the value as SHOW prints it; GucError 42704 if the name is unknown."""
        key = name.lower()
        if key not in self.definitions:
            raise GucError(UNDEFINED_OBJECT, f'unrecognized configuration parameter "{name}"')
        return self.definitions[key].show(self.values[key])

    def canonical(self, name: str) -> str:
        """Return the name as PostgreSQL spells it."""
        return self.definition(name).name

    def names(self) -> Iterable[str]:
        """Return all names in alphabetical order, ignoring case."""
        return [self.definitions[key].name for key in sorted(self.definitions)]

    # --- start and reload -------------------------------------------------------------

    def put(self, name: str, text: str, source: Source) -> bool:
        """Set a value unless a higher source has set it; return whether it changed."""
        definition = self.definition(name)
        value = definition.parse(text)
        return self._store(definition.name.lower(), value, source)

    def _store(self, key: str, value: Value, source: Source) -> bool:
        if source < Source.SESSION and self.sources.get(key, Source.DEFAULT) <= source:
            self.reset_values[key] = value
        if self.sources.get(key, Source.DEFAULT) > source:
            return False
        changed = self.values[key] != value
        self.values[key] = value
        self.sources[key] = source
        return changed

    def put_from_command_line(self, name: str, text: str) -> None:
        """Set `-c name=value`; GucError if the value is invalid."""
        definition = self.definition(name)
        if definition.context is Context.INTERNAL:
            raise GucError(
                CANT_CHANGE_RUNTIME_PARAM, f'parameter "{definition.name}" cannot be changed'
            )
        self.put(name, text, Source.COMMAND_LINE)

    def load(self, *, starting: bool) -> Loaded:
        """Read the configuration files and apply their settings.

        At start the first error is fatal. At a reload the valid settings are applied all the same,
        unless a file cannot be parsed.
        """
        loaded = Loaded()
        parsed = Parsed()
        read_file(self.config_file, parsed)
        auto = os.path.join(os.path.dirname(self.config_file), "postgresql.auto.conf")
        if not parsed.errors and os.path.exists(auto):
            read_file(auto, parsed)
        loaded.lines += parsed.notes + parsed.errors
        last = {} if parsed.errors else self._last_of_each(parsed.items, loaded)
        if parsed.errors or loaded.bad:
            loaded.verdict = self._contains_errors(starting, applied=False)
            return loaded
        if not starting:
            self._drop_removed(last, loaded)
        for item in last.values():
            self._use(item, loaded, starting=starting)
        if loaded.bad:
            loaded.verdict = self._contains_errors(starting, applied=True)
        return loaded

    def _contains_errors(self, starting: bool, *, applied: bool) -> str:
        text = f'configuration file "{self.config_file}" contains errors'
        if starting:
            return text
        return f"{text}; {'unaffected' if applied else 'no'} changes were applied"

    def _last_of_each(self, items: list[Item], loaded: Loaded) -> dict[str, Item]:
        last: dict[str, Item] = {}
        for item in items:
            try:
                self.definition(item.name)
            except GucError as e:
                loaded.wrong(f'{e.message} in file "{item.file}" line {item.line}')
                continue
            last.pop(item.name.lower(), None)  # the last place decides
            last[item.name.lower()] = item
        return last

    def _drop_removed(self, last: Mapping[str, Item], loaded: Loaded) -> None:
        """Reset the settings whose lines are no longer in any file."""
        for key, source in list(self.sources.items()):
            if source is not Source.FILE or key in last:
                continue
            definition = self.definitions[key]
            if definition.context is Context.POSTMASTER:
                loaded.wrong(_needs_restart(definition.name))
                continue
            del self.sources[key]
            self.values[key] = _boot(definition)
            self.reset_values.pop(key, None)
            loaded.lines.append(
                f'parameter "{definition.name}" removed from configuration file, reset to default'
            )
            loaded.changed.append(definition.name)

    def _use(self, item: Item, loaded: Loaded, *, starting: bool) -> None:
        definition = self.definition(item.name)
        key = definition.name.lower()
        try:
            value = definition.parse(item.value)
        except GucError as e:
            loaded.wrong(e.message)
            return
        if definition.context is Context.INTERNAL:
            loaded.wrong(f'parameter "{definition.name}" cannot be changed')
            return
        fixed = definition.context is Context.POSTMASTER and not starting
        if fixed and self.sources.get(key, Source.DEFAULT) <= Source.FILE:
            if self.values[key] != value:
                loaded.wrong(_needs_restart(definition.name))
            return
        if self._store(key, value, Source.FILE) and not starting:
            loaded.lines.append(f'parameter "{definition.name}" changed to "{item.value}"')
            loaded.changed.append(definition.name)

    # --- sessions -----------------------------------------------------------------------------

    def set_client(self, name: str, text: str, *, superuser: bool) -> None:
        """Set an option of the startup packet; RESET returns to this value."""
        self._check_session(self.definition(name), superuser, at_start=True)
        self.put(name, text, Source.CLIENT)

    def set_session(self, name: str, value: str | None, *, superuser: bool) -> None:
        """Set a value for this session; None resets it. GucError with PostgreSQL's texts."""
        definition = self.definition(name)
        self._check_session(definition, superuser, at_start=False)
        key = definition.name.lower()
        if value is None:
            self.sources.pop(key, None)
            self.values[key] = self.reset_values.get(key, _boot(definition))
            return
        self._store(key, definition.parse(value), Source.SESSION)

    def _check_session(self, definition: Definition, superuser: bool, *, at_start: bool) -> None:
        name = definition.name
        match definition.context:
            case Context.INTERNAL:
                problem = f'parameter "{name}" cannot be changed'
            case Context.POSTMASTER:
                problem = _needs_restart(name)
            case Context.SIGHUP:
                problem = f'parameter "{name}" cannot be changed now'
            case Context.BACKEND | Context.SU_BACKEND if not at_start:
                problem = f'parameter "{name}" cannot be set after connection start'
            case Context.SUSET | Context.SU_BACKEND if not superuser:
                text = f'permission denied to set parameter "{name}"'
                raise GucError(INSUFFICIENT_PRIVILEGE, text)
            case _:
                return
        raise GucError(CANT_CHANGE_RUNTIME_PARAM, problem)

    def put_internal(self, name: str, value: str) -> None:
        """Set a value that only the server may set, such as is_superuser."""
        definition = self.definition(name)
        self.values[definition.name.lower()] = definition.parse(value)

    def save(self) -> object:
        """Return a snapshot of the session's values for restore()."""
        return dict(self.values), dict(self.sources)

    def restore(self, saved: object) -> None:
        """Return to a snapshot: ROLLBACK, or the end of SET LOCAL."""
        assert isinstance(saved, tuple)
        values, sources = saved
        for key, source in list(self.sources.items()):
            if source is Source.SESSION or sources.get(key) is Source.SESSION:
                self._undo(key, values, sources)
        for key, source in sources.items():
            if source is Source.SESSION:
                self._undo(key, values, sources)

    def _undo(self, key: str, values: dict[str, Value], sources: dict[str, Source]) -> None:
        if key in values:
            self.values[key] = values[key]
        if key in sources:
            self.sources[key] = sources[key]
        else:
            self.sources.pop(key, None)


class Loaded:
    """The outcome of reading the files."""

    def __init__(self) -> None:
        self.lines: list[str] = []  # for the log, in order
        self.bad = False  # a setting is invalid
        self.changed: list[str] = []  # names
        self.verdict = ""  # not empty: the files contain errors

    def wrong(self, line: str) -> None:
        """Record a setting that cannot be applied."""
        self.lines.append(line)
        self.bad = True


def _boot(definition: Definition) -> Value:
    """Return the built-in value, which may lie outside the bounds."""
    match definition.type:
        case ValueType.BOOL:
            return definition.boot == "on"
        case ValueType.INTEGER:
            return int(definition.boot)
        case ValueType.REAL:
            return float(definition.boot)
        case _:
            return definition.boot


def _needs_restart(name: str) -> str:
    return f'parameter "{name}" cannot be changed without restarting the server'


def check_reserved(gucs: Gucs) -> str:
    """Return the first contradiction between settings that PostgreSQL prints to stderr, or ""."""
    reserved = gucs.integer("reserved_connections")
    superuser = gucs.integer("superuser_reserved_connections")
    most = gucs.integer("max_connections")
    if superuser + reserved >= most:
        return (
            f'"superuser_reserved_connections" ({superuser}) plus "reserved_connections"'
            f' ({reserved}) must be less than "max_connections" ({most})'
        )
    return ""


def check_wal(gucs: Gucs) -> str:
    """Return the FATAL for a setting that wal_level is too low for, or "" (ST-02)."""
    if gucs.text("wal_level") != "minimal":
        return ""
    if gucs.text("archive_mode") != "off":
        return 'WAL archival cannot be enabled when "wal_level" is "minimal"'
    if gucs.integer("max_wal_senders") > 0:
        return (
            'WAL streaming ("max_wal_senders" > 0) requires "wal_level" to be'
            ' "replica" or "logical"'
        )
    if gucs.boolean("summarize_wal"):
        return 'WAL cannot be summarized when "wal_level" is "minimal"'
    return ""
