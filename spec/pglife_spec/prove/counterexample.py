"""Counterexamples to induction: made small, replayed, and only then shown.

Begin with explain(). The plain evaluator must see the same step and the same broken claim.
"""

from collections.abc import Mapping, Sequence

import z3  # type: ignore[import-untyped]

from pglife_spec.lang.errors import SpecError
from pglife_spec.lang.expr import INT, Expr, Value
from pglife_spec.lang.machine import Action
from pglife_spec.lang.walk import names_in
from pglife_spec.meanings.interpret import (
    CountBelowZeroError,
    Taken,
    false_guards,
    holds,
    is_initial,
    place,
    take,
)
from pglife_spec.meanings.smt.circuit import Lit, Sum
from pglife_spec.meanings.smt.symbolic import OneOf, Term
from pglife_spec.prove.induction import Failure, Induction
from pglife_spec.prove.report import COUNTS, INIT, Counterexample

SMALL_NUMBERS = (0, 1, 2)


class EvaluatorsDisagreeError(SpecError):
    """The solver and the plain evaluator see different things: one of our own programs is wrong."""


def explain(proof: Induction, failure: Failure, quiet: Mapping[str, Value]) -> Counterexample:
    """The smallest telling of a failed obligation that greedy shrinking finds, replayed.

    Args:
        proof: the attempt in which it failed.
        failure: one for which the solver found a state.
        quiet: the value of each variable that is not worth a mention; see `quiet_state`.

    Raises:
        EvaluatorsDisagreeError: the plain evaluator does not see what the solver claims.
    """
    cell = failure.obligation
    state, params = _shrink(proof, failure, quiet)
    if cell.action == INIT:
        return _initial(proof, failure, state, params)
    action = proof.machine.action(cell.action)
    taken, short = _replay(proof, action, state, params)
    _judge(proof, cell.claim, taken, short, params, action)
    after = taken.after if taken else state
    claims = {inv.name: inv.holds for inv in proof.kept}
    about = names_in(claims[cell.claim]) if cell.claim in claims else frozenset()
    odd = {name for name, value in state.items() if value != quiet.get(name)}
    return Counterexample(
        claim=cell.claim,
        action=cell.action,
        params=params,
        before=state,
        after=after,
        evidence=taken.evidence if taken else (),
        relevant=frozenset(odd | (about & set(state))),
        below_zero=short,
    )


def quiet_state(proof: Induction) -> dict[str, Value]:
    """An initial state of the machine: what counterexamples need not mention."""
    solver = z3.SimpleSolver()
    solver.add(*proof.symbols.typing, proof.circuit.z3(proof.init))
    return proof.symbols.values(solver.model())[0] if solver.check() == z3.sat else {}


def _shrink(
    proof: Induction, failure: Failure, quiet: Mapping[str, Value]
) -> tuple[dict[str, Value], dict[str, Value]]:
    """A model of the failed query with as many quiet values and small numbers as may be."""
    cell = failure.obligation
    solver = proof.solver_for(cell.action)
    solver.add(failure.query)
    for wishes in _wishes(proof, quiet):
        for wish in wishes:
            if solver.check(wish) == z3.sat:
                solver.add(wish)
                break
    if solver.check() != z3.sat:
        raise EvaluatorsDisagreeError(f"{cell.claim}, {cell.action}: satisfiable no longer")
    return proof.symbols.values(solver.model())


def _wishes(proof: Induction, quiet: Mapping[str, Value]) -> list[list[z3.BoolRef]]:
    """For each unknown, what we would like it to be, best first."""
    symbols = proof.symbols
    wishes: list[list[z3.BoolRef]] = []
    for declared in proof.machine.variables:
        term = symbols.before[declared.name]
        if declared.sort == INT:
            wishes.append([_is(proof, term, n) for n in SMALL_NUMBERS])
        elif declared.name in quiet:
            wishes.append([_is(proof, term, place(quiet[declared.name]))])
    for param in proof.machine.params:
        term = symbols.params[param.name]
        small = SMALL_NUMBERS if param.sort == INT else (0,)
        wishes.append([_is(proof, term, n) for n in small])
    return wishes


def _is(proof: Induction, term: Term, code: int) -> z3.BoolRef:
    if isinstance(term, Sum):
        return proof.circuit.number_of(term) == code
    lit: Lit = term.members[code] if isinstance(term, OneOf) else term if code else -term
    return proof.circuit.z3(lit)


def _replay(
    proof: Induction, action: Action, state: Mapping[str, Value], params: Mapping[str, Value]
) -> tuple[Taken | None, str]:
    """The step as the plain evaluator takes it; None, with the reason, for a count below zero."""
    refused = false_guards(action, state, params)
    broken = [inv.name for inv in proof.kept if not holds(inv.holds, state, params)]
    broken += [repr(a) for a in proof.machine.assumptions if not holds(a, state, params)]
    if refused or broken:
        raise EvaluatorsDisagreeError(
            f"{action.name}: the solver's state satisfies everything, the plain evaluator says no: "
            f"guards {refused}, invariants {broken}, state {dict(state)}, {dict(params)}"
        )
    try:
        return take(action, state, params), ""
    except CountBelowZeroError as error:
        return None, str(error)


def _judge(
    proof: Induction,
    claim: str,
    taken: Taken | None,
    short: str,
    params: Mapping[str, Value],
    action: Action,
) -> None:
    if claim == COUNTS or taken is None:
        if not short:
            raise EvaluatorsDisagreeError(f"{action.name}: no count falls below zero in the replay")
        return
    kept: Expr = next(inv.holds for inv in proof.kept if inv.name == claim)
    if holds(kept, taken.after, params):
        raise EvaluatorsDisagreeError(
            f"{action.name}: the replay keeps {claim}; the solver says it does not: {taken.after}"
        )


def _initial(
    proof: Induction,
    failure: Failure,
    state: dict[str, Value],
    params: dict[str, Value],
) -> Counterexample:
    claim = failure.obligation.claim
    kept = next(inv.holds for inv in proof.kept if inv.name == claim)
    if not is_initial(proof.machine, state, params) or holds(kept, state, params):
        raise EvaluatorsDisagreeError(
            f"the state found against {claim} is no initial state: {state}"
        )
    about = names_in(kept)
    relevant = frozenset(about & set(state))
    return Counterexample(claim, INIT, params, state, state, (), relevant)


def explain_all(proof: Induction, failures: Sequence[Failure]) -> list[Counterexample]:
    """The failures of claims that have a state to show, explained."""
    quiet = quiet_state(proof)
    return [explain(proof, f, quiet) for f in failures if f.is_claim and f.state is not None]
