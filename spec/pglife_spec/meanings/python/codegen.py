"""Code generation: the source of Python functions that read and step packed states.

Begin with Generator.successors(), then StepWriter, which writes the effects of one action. What
guards fix and what effects have set so far is put into everything after it: that keeps it small.
Variables are numbered, and texts are constants beside the source: no name or text reaches it.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pglife_spec.lang.expr import BOOL, INT, Assign, Const, EnumSort, Expr, Param, Var, Visitor
from pglife_spec.lang.machine import Action, Effect, Emit, When
from pglife_spec.meanings.fixed import Fixed
from pglife_spec.meanings.fold import Pool, place
from pglife_spec.meanings.growth import Growth, forget, larger, may_grow, moved
from pglife_spec.meanings.pack import WORD_BITS, Field, Layout

DISABLED = -1
CUT = -2


class Level(enum.IntEnum):
    """How tightly a piece of source binds."""

    CHOICE = 1
    OR = 2
    AND = 3
    NOT = 4
    COMPARE = 5
    SUM = 6
    ATOM = 9


@dataclass(frozen=True)
class Piece:
    """Source of an expression."""

    text: str
    level: Level = Level.ATOM

    def at(self, level: Level) -> str:
        return self.text if self.level >= level else f"({self.text})"


class _Source(Visitor[Piece]):
    """Expressions as Python source over local names; Booleans may be 0 and 1."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names

    def const(self, node: Const) -> Piece:
        if isinstance(node.value, bool):
            return Piece(str(node.value))
        number = place(node)
        return Piece(str(number), Level.ATOM if number >= 0 else Level.SUM)

    def var(self, node: Var) -> Piece:
        return Piece(self._names[node.name])

    def param(self, node: Param) -> Piece:
        raise AssertionError(f"parameter {node.name} was not replaced")

    def not_(self, arg: Piece) -> Piece:
        return Piece(f"not {arg.at(Level.NOT)}", Level.NOT)

    def and_(self, args: list[Piece]) -> Piece:
        return Piece(" and ".join(a.at(Level.NOT) for a in args) or "True", Level.AND)

    def or_(self, args: list[Piece]) -> Piece:
        return Piece(" or ".join(a.at(Level.AND) for a in args) or "False", Level.OR)

    def eq(self, left: Piece, right: Piece) -> Piece:
        return Piece(f"{left.at(Level.SUM)} == {right.at(Level.SUM)}", Level.COMPARE)

    def le(self, left: Piece, right: Piece) -> Piece:
        return Piece(f"{left.at(Level.SUM)} <= {right.at(Level.SUM)}", Level.COMPARE)

    def add(self, left: Piece, right: Piece) -> Piece:
        return Piece(f"{left.at(Level.SUM)} + {right.at(Level.ATOM)}", Level.SUM)

    def sub(self, left: Piece, right: Piece) -> Piece:
        return Piece(f"{left.at(Level.SUM)} - {right.at(Level.ATOM)}", Level.SUM)

    def ite(self, cond: Piece, then: Piece, other: Piece) -> Piece:
        text = f"{then.at(Level.OR)} if {cond.at(Level.OR)} else {other.at(Level.CHOICE)}"
        return Piece(text, Level.CHOICE)


class Texts:
    """Constants passed in beside the source, each under a generated name."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self._names: dict[object, str] = {}

    def name(self, value: object) -> str:
        key = (type(value), value)
        if key not in self._names:
            self._names[key] = f"k{len(self._names)}"
            self.values[self._names[key]] = value
        return self._names[key]


class Names:
    """The local names of variables: v<n> as unpacked, n<n> once effects have changed them."""

    def __init__(self, layout: Layout, pool: Pool) -> None:
        self.source: dict[str, str] = {}
        self.now: list[Expr] = []
        self.new: list[Expr] = []
        for field in layout:
            changed = Var(f"{field.name}'", field.sort)
            self.source[field.name] = f"v{field.index}"
            self.source[changed.name] = f"n{field.index}"
            self.now.append(pool.var(field.var))
            self.new.append(pool.var(changed))
        self.unchanged = frozenset(map(id, self.now))

    def code(self, expr: Expr) -> Piece:
        return _Source(self.source).visit(expr)


def used(exprs: Iterable[Expr]) -> set[str]:
    """The names of the variables that expressions read."""
    names: set[str] = set()
    seen: set[int] = set()
    todo = list(exprs)
    while todo:
        expr = todo.pop()
        if id(expr) in seen:
            continue
        seen.add(id(expr))
        if isinstance(expr, Var):
            names.add(expr.name)
        for part in vars(expr).values():
            if isinstance(part, Expr):
                todo.append(part)
            elif isinstance(part, tuple):
                todo.extend(p for p in part if isinstance(p, Expr))
    return names


class StepWriter:
    """The effects of one action as source lines, run symbolically as far as values are known.

    `env` holds what each variable is at this point: a constant, its value before the step (under
    the v name) or a changed value (under the n name).
    """

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        names: Names,
        known: Mapping[str, Expr],
        texts: Texts | None = None,
    ) -> None:
        self._pool = pool
        self._layout = layout
        self._names = names
        self._known = dict(known)
        self._texts = texts
        self._indent = 0
        self.lines: list[str] = []
        self.reads: set[str] = set()
        self.env: dict[str, Expr] = {f.name: names.now[f.index] for f in layout} | self._known
        self._groups = {f.name: k for k, group in enumerate(layout.groups) for f in group}
        self.growth: dict[int, Growth] = {}
        local = (field for field in layout if field.var.local)
        self.env |= {f.name: pool.const(f.value(0), f.sort) for f in local}

    def run(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Assign():
                    self._assign(self._layout.by_name[effect.var.name], self._fold(effect.value))
                case When():
                    self._when(effect)
                case Emit():
                    self._emit(effect)

    def _fold(self, expr: Expr) -> Expr:
        return self._pool.fold(expr, self.env)

    def _code(self, expr: Expr, level: Level = Level.CHOICE) -> str:
        self.reads |= used([expr])
        return self._names.code(expr).at(level)

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._indent + text)

    def _assign(self, field: Field, value: Expr) -> None:
        if field.sort == INT and not field.var.local:
            group = self._groups[field.name]
            grown = self.growth.get(group, {})
            self.growth[group] = moved(grown, self.env[field.name], value)
        if not isinstance(value, Const) and id(value) not in self._names.unchanged:
            self._store(field, value)
            value = self._names.new[field.index]
        self.env[field.name] = value

    def _store(self, field: Field, value: Expr) -> None:
        name = self._names.new[field.index]
        self.growth = {g: forget(grown, name) for g, grown in self.growth.items()}
        self._line(f"n{field.index} = {self._code(value)}")

    def _when(self, effect: When) -> None:
        cond = self._fold(effect.cond)
        if isinstance(cond, Const):
            self.run(effect.then if cond.value else effect.other)
            return
        test, before, outer = self._code(cond), self.env, self.lines
        growth, growths = self.growth, []
        branches: list[tuple[list[str], dict[str, Expr]]] = []
        self._indent += 1
        for effects in (effect.then, effect.other):
            self.env, self.lines, self.growth = dict(before), [], dict(growth)
            self.run(effects)
            branches.append((self.lines, self.env))
            growths.append(self.growth)
        then, other = growths
        both = {**then, **other}
        self.growth = {key: larger(then.get(key, {}), other.get(key, {})) for key in both}
        merged = dict(before)
        for name in effect.assigns:
            ends = [env[name] for _, env in branches]
            merged[name] = ends[0]
            if ends[0] is not ends[1]:
                field = self._layout.by_name[name]
                merged[name] = self._names.new[field.index]
                for (self.lines, _), end in zip(branches, ends, strict=True):
                    if end is not merged[name]:
                        self._store(field, end)
        self._indent -= 1
        self.env, self.lines = merged, outer
        self._branch(test, cond, branches[0][0], branches[1][0])

    def _branch(self, test: str, cond: Expr, then: list[str], other: list[str]) -> None:
        if then:
            self._line(f"if {test}:")
            self.lines.extend(then)
            if other:
                self._line("else:")
                self.lines.extend(other)
        elif other:
            self._line(f"if {self._code(self._pool.not_(cond))}:")
            self.lines.extend(other)

    def _emit(self, effect: Emit) -> None:
        if self._texts is None:
            return
        args = [self._texts.name(effect.what)]
        for arg in effect.args:
            args.append(self._texts.name(arg) if isinstance(arg, str) else self._shown(arg))
        self._line(f"e.append(({', '.join(args)},))")

    def _shown(self, arg: Expr) -> str:
        """An argument of evidence: a bool, an int, or the name of an enum member."""
        assert self._texts is not None
        value = self._fold(arg)
        code = self._code(value)
        if isinstance(value.sort, EnumSort):
            return f"{self._texts.name(tuple(m.name for m in value.sort.members))}[{code}]"
        return f"bool({code})" if value.sort == BOOL else code

    def outcome(self) -> tuple[list[str], list[str], str]:
        """What becomes of the counters changed: which tests bound them, which tell whether one
        has gone below zero; and the next state as source over `s`.

        Counters that share a bound are tested only where their sum may have grown.
        """
        fits: list[str] = []
        below: list[str] = []
        fixed = 0
        moving: dict[int, list[str]] = {}
        for field in self._layout:
            old, new = self._names.now[field.index], self.env[field.name]
            before = self._known.get(field.name, old)
            if new is before or field.var.local:
                continue
            if field.sort == INT:
                _not_negative(new, self._code(new), fits, below)
            if isinstance(new, Const) and isinstance(before, Const):
                fixed += (place(new) - place(before)) << field.offset
            else:
                change = _minus(self._code(new), self._code(before, Level.ATOM))
                moving.setdefault(field.word, []).append(_shifted(change, field.shift))
        for group, grown in self.growth.items():
            if may_grow(grown):
                self._fit(self._layout.groups[group], fits)
        return fits, below, _sum(fixed, moving)

    def _fit(self, group: Sequence[Field], fits: list[str]) -> None:
        total = reduce(self._pool.add, (self.env[f.name] for f in group))
        fit = self._pool.le(total, self._pool.const(group[0].top, INT))
        if fit is not self._pool.true:
            fits.append(self._code(fit))


def _not_negative(new: Expr, code: str, fits: list[str], below: list[str]) -> None:
    if not isinstance(new, Const):
        fits.append(f"0 <= {code}")
        below.append(f"{code} < 0")
    elif place(new) < 0:
        fits.append("False")
        below.append("True")


def _minus(new: str, old: str) -> str:
    if old in ("0", "False"):
        return new
    return f"-{old}" if new in ("0", "False") else f"{new} - {old}"


def _shifted(code: str, shift: int) -> str:
    if shift == 0:
        return f"({code})" if " " in code else code
    return f"({code} << {shift})" if " " not in code else f"(({code}) << {shift})"


def _sum(fixed: int, moving: Mapping[int, Sequence[str]]) -> str:
    text = "s"
    for word, terms in moving.items():
        inner = " + ".join(terms)
        text += f" + ({inner})" if word == 0 else f" + (({inner}) << {word * WORD_BITS})"
    if fixed:
        text += f" + {fixed}" if fixed > 0 else f" - {-fixed}"
    return text


def unpacking(layout: Layout, names: Iterable[str], state: str = "s") -> list[str]:
    """Source lines that unpack some variables of a state."""
    fields = [f for f in layout if f.name in set(names)]
    lines: list[str] = []
    per_word = Counter(f.word for f in fields)
    for word in sorted(per_word):
        if per_word[word] > 1:
            base = state if word == 0 else f"{state} >> {word * WORD_BITS}"
            cut = "" if word == layout.words - 1 else f" & {(1 << WORD_BITS) - 1}"
            lines.append(f"w{word} = {base}{cut}")
    for field in fields:
        base, offset = (f"w{field.word}", field.shift)
        if per_word[field.word] == 1:
            base, offset = state, field.offset
        moved = f"{base} >> {offset}" if offset else base
        lines.append(f"v{field.index} = {moved} & {field.mask}")
    return lines


@dataclass
class Entry:
    """One action while a fused function is written: its guards left to test, and its body."""

    index: int
    guards: list[Expr]
    body: list[str]


class Generator:
    """Writes whole functions for one machine and configuration."""

    def __init__(self, fixed: Fixed) -> None:
        self.fixed = fixed
        self.pool = fixed.pool
        self.layout = fixed.layout
        self.names = Names(fixed.layout, fixed.pool)

    def _writer(self, known: Mapping[str, Expr], texts: Texts | None = None) -> StepWriter:
        return StepWriter(
            self.pool, self.layout, self.names, self.fixed.params | dict(known), texts
        )

    def step(self, index: int, action: Action, texts: Texts | None = None) -> str:
        """`f(s)`: the next state or DISABLED or CUT; with texts, a pair with the evidence."""
        found = self.fixed.guards(action)
        head = "def f(s):"
        if found is None:
            return f"{head}\n    return {DISABLED}" + (", []" if texts is not None else "")
        tests, known = found
        tail = ", e" if texts is not None else ""
        writer = self._writer(known, texts)
        writer.run(action.effects)
        fits, below, result = writer.outcome()
        lines = unpacking(self.layout, used(tests) | writer.reads)
        if texts is not None:
            lines.append("e = []")
        if tests:
            test = " and ".join(self.names.code(t).at(Level.NOT) for t in tests)
            lines += [f"if not ({test}):", f"    return {DISABLED}{tail}"]
        lines += writer.lines
        if fits:
            lines.append(f"if not ({' and '.join(fits)}):")
            missed = ", []" if texts is not None else ""
            lines.append(f"    return miss({index}, s, {' or '.join(below) or False}){missed}")
        lines.append(f"return {result}{tail}")
        return head + "\n" + "\n".join("    " + line for line in lines)

    def is_bounded(self, action: Action) -> bool:
        """Whether the action's step may be cut, at a bound or below zero."""
        found = self.fixed.guards(action)
        if found is None:
            return False
        writer = self._writer(found[1])
        writer.run(action.effects)
        return bool(writer.outcome()[0])

    def successors(
        self, actions: Iterable[tuple[int, Action]], known: Mapping[str, Expr], *, bare: bool
    ) -> str:
        """`f(s)`: the list of (action index, next state); `bare`: of the enabled indexes only."""
        entries: list[Entry] = []
        reads: set[str] = set()
        for index, action in actions:
            found = self.fixed.guards(action, known)
            if found is None:
                continue
            entry = Entry(index, found[0], [f"add({index})"])
            reads |= used(entry.guards)
            if not bare:
                writer = self._writer(found[1])
                writer.run(action.effects)
                entry.body = writer.lines + self._leap(index, writer)
                reads |= writer.reads
            entries.append(entry)
        lines = ["out = []", "add = out.append", *unpacking(self.layout, reads)]
        self._tree(entries, 0, lines)
        lines.append("return out")
        return "def f(s):\n" + "\n".join("    " + line for line in lines)

    def _leap(self, index: int, writer: StepWriter) -> list[str]:
        fits, below, result = writer.outcome()
        leap = f"add(({index}, {result}))"
        if not fits:
            return [leap]
        miss = f"miss({index}, s, {' or '.join(below) or False})"
        return [f"if {' and '.join(fits)}:", f"    {leap}", "else:", f"    {miss}"]

    def _tree(self, entries: list[Entry], depth: int, lines: list[str]) -> None:
        """Nests actions under the conditions they share, the most shared one first."""
        pad = "    " * depth
        while entries:
            shared = Counter(id(g) for e in entries for g in e.guards)
            best = max(shared, key=lambda g: shared[g], default=None)
            if best is None or shared[best] < 2 or depth > 12:
                break
            test = next(g for e in entries for g in e.guards if id(g) == best)
            inside = [e for e in entries if any(g is test for g in e.guards)]
            entries = [e for e in entries if all(g is not test for g in e.guards)]
            for entry in inside:
                entry.guards = [g for g in entry.guards if g is not test]
            lines.append(f"{pad}if {self.names.code(test).text}:")
            self._tree(inside, depth + 1, lines)
        for entry in entries:
            tests = " and ".join(self.names.code(g).at(Level.NOT) for g in entry.guards)
            inner = pad
            if tests:
                lines.append(f"{pad}if {tests}:")
                inner += "    "
            lines.extend(inner + line for line in entry.body)

    def checks(self, exprs: Sequence[Expr], known: Mapping[str, Expr]) -> str:
        """`f(s)`: an int whose bit k tells whether expression k holds."""
        fixed = 0
        tests: list[str] = []
        reads: set[str] = set()
        for bit, expr in enumerate(exprs):
            folded = self.fixed.fold(expr, known)
            if isinstance(folded, Const):
                fixed |= int(folded is self.pool.true) << bit
                continue
            reads |= used([folded])
            tests += [f"if {self.names.code(folded).text}:", f"    r |= {1 << bit}"]
        lines = [*unpacking(self.layout, reads), f"r = {fixed}", *tests, "return r"]
        return "def f(s):\n" + "\n".join("    " + line for line in lines)

    def value(self, expr: Expr) -> str:
        """`f(s)`: the value of an expression, as a number."""
        folded = self.fixed.fold(expr)
        lines = [*unpacking(self.layout, used([folded])), f"return {self.names.code(folded).text}"]
        return "def f(s):\n" + "\n".join("    " + line for line in lines)


def dispatch_field(layout: Layout, actions: Iterable[Action]) -> Field | None:
    """The enum variable whose value decides most: read by many guards, with many members."""
    votes: Counter[str] = Counter()
    for action in actions:
        votes.update(used(action.guards))
    fields = [f for f in layout if isinstance(f.sort, EnumSort) and votes[f.name]]
    return max(fields, key=lambda f: votes[f.name] * f.top, default=None)
