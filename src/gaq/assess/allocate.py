"""Bits for every part of a model under a budget, from a report of sensitivities.

Parts are taken as independent: squared changes of forces, squared antisymmetries and bytes add up,

    Δ² = Σ_p Δ_p²(b_p),   λ² = Σ_p λ_p²(b_p),   B = Σ_p B_p(b_p),

and the work is Σ_p (operations · bits). What the allocated recipe does is to be measured.

A budget moves the parts that it can hold: forces all of them, antisymmetry the activations, bytes the weights; other
parts stay as the recipe has them. Allocations are those that minimize cost + μ · error for some μ, the corners of the
convex hull of what is possible, reached one part at a time by the best gain for the cost. They do not depend on the
budgets, so a wider budget never has a dearer result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import inf, sqrt

from gaq.assess.sensitivity import Kind, Report, SensitivityPlan, SensitivityRow, at_width
from gaq.errors import ConfigError
from gaq.recipe import Change, Recipe

WEIGHTS: tuple[Kind, ...] = ("weight",)
ACTIVATIONS: tuple[Kind, ...] = ("input", "vectors")
EXCHANGES = (0.0, *(10.0 ** (k / 2) for k in range(-8, 9)), inf)  # of squared antisymmetry for squared force change
PRICES = tuple(4.0**k for k in range(-2, 3))  # of work in units of bytes, where bytes have a bound of their own

Parts = Sequence[Sequence[SensitivityRow]]
Quantity = Callable[[SensitivityRow], float]


@dataclass(frozen=True)
class Budget:
    """What an allocation may cost; at least one of them, and all that are given hold.

    Args:
        forces_meV_A: root mean square change of force components against the float model.
        antisymmetry: λ of the force Jacobian.
        bytes: of the stored model.

    Raises:
        ConfigError: no budget, or one that is not positive.
    """

    forces_meV_A: float | None = None
    antisymmetry: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if not given:
            raise ConfigError("an allocation needs a budget of force error, of antisymmetry or of bytes")
        for name, value in given.items():
            if not 0 < value < inf:
                raise ConfigError(f"the budget {name} must be a positive number, not {value}")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The parts that it moves."""
        if self.forces_meV_A is not None:
            return WEIGHTS + ACTIVATIONS
        return (WEIGHTS if self.bytes is not None else ()) + (ACTIVATIONS if self.antisymmetry is not None else ())

    def planned(self, plan: SensitivityPlan) -> SensitivityPlan:
        """Return the plan with what the allocation needs to know."""
        if self.antisymmetry is not None and not plan.jacobian_frames:
            raise ConfigError("a budget of antisymmetry needs jacobian_frames of at least 1, not 0")
        return replace(plan, alternatives=self.kinds, alternative_jacobians=self.antisymmetry is not None)

    def holds(self, forces_meV_A: float, antisymmetry: float | None, stored: int) -> bool:
        """Return whether all that were given are kept; what is not known is not kept."""
        return ((self.forces_meV_A is None or forces_meV_A <= self.forces_meV_A)
                and (self.antisymmetry is None or (antisymmetry is not None and antisymmetry <= self.antisymmetry))
                and (self.bytes is None or stored <= self.bytes))

    def __str__(self) -> str:
        said = ((self.forces_meV_A, "forces <= {:g} meV/Å"), (self.antisymmetry, "λ <= {:g}"), (self.bytes, "<= {} bytes"))
        return ", ".join(text.format(value) for value, text in said if value is not None)


@dataclass(frozen=True, eq=False)
class Allocation:
    """A choice of one width for each part, and what the sum over parts predicts.

    Args:
        recipe: the report's, with changes.
        rows: the chosen ones, in the order of the model.
        forces_meV_A: root mean square change of force components.
        antisymmetry: λ; None where the report does not know it.
        bytes: of the stored model.
        work: operations · bits of the activations, per atom.
    """

    recipe: Recipe
    rows: tuple[SensitivityRow, ...]
    forces_meV_A: float
    antisymmetry: float | None
    bytes: int
    work: float


def allocate(report: Report, budget: Budget) -> Allocation:
    """Return the cheapest allocation within a budget or, with bytes alone, the most exact one.

    Cost is the share of the bytes plus the share of the work that the widest of all allocations has.

    Args:
        report: with the alternatives of all parts that the budget moves (`Budget.planned`).
        budget: see `Budget`.

    Raises:
        ConfigError: no allocation keeps the budget, or the report lacks what it is about.
    """
    parts = [_choices(part) for part in report.parts()]
    if not parts:
        raise ConfigError(f"the recipe {report.recipe.name!r} quantizes nothing, so that there are no bits to allocate")
    if budget.antisymmetry is not None and any(
            row.measures.lambda_antisymmetry is None for row in report.rows if row.kind in ACTIVATIONS):
        raise ConfigError("a budget of antisymmetry needs a report with the antisymmetry of every width; measure it "
                          "with Budget.planned(plan)")
    rows = _within(parts, report, budget)
    if rows is None:
        raise ConfigError(f"no allocation keeps {budget}; the least of each on its own: {_least(parts, report)}")
    changes = [Change(match=row.leaf, field=row.kind, value=at_width(
        report.recipe.rule_for(row.leaf, row.role), row.kind, row.bits)) for row in rows if not row.given]
    recipe = report.recipe.model_copy(update={
        "name": f"{report.recipe.name}-allocated", "changes": (*report.recipe.changes, *changes),
        "description": f"{report.recipe.name} with bits allocated for {budget}"})
    forces, antisymmetry, stored = _totals(rows, report)
    return Allocation(recipe, tuple(rows), forces, antisymmetry, stored, sum(_work(row) for row in rows))


def _within(parts: Parts, report: Report, budget: Budget) -> list[SensitivityRow] | None:
    """Return the chosen row of each part, or None."""
    def kept(rows: list[SensitivityRow]) -> bool:
        return budget.holds(*_totals(rows, report))

    if budget.forces_meV_A is not None:
        exchanges = EXCHANGES if budget.antisymmetry is not None else (0.0,)
        prices = PRICES if budget.bytes is not None else (1.0,)
        cost = _cost(parts)
        found = (next(filter(kept, _path(parts, budget.kinds, _cost(parts, price), _error(parts, exchange))), None)
                 for exchange, price in product(exchanges, prices))
        return min((rows for rows in found if rows is not None), key=lambda rows: sum(map(cost, rows)), default=None)
    if budget.bytes is not None:  # weights and activations do not meet in these two budgets: one after the other
        room = replace(budget, antisymmetry=None)
        exact = [rows for rows in _path(parts, WEIGHTS, _bytes, _change) if room.holds(*_totals(rows, report))]
        if not exact:
            return None
        if budget.antisymmetry is None:
            return exact[-1]
        parts = [[row] if row.kind in WEIGHTS else part for part, row in zip(parts, exact[-1], strict=True)]
    return next(filter(kept, _path(parts, ACTIVATIONS, _work, _asymmetry)), None)


def _path(parts: Parts, kinds: Sequence[Kind], cost: Quantity, error: Quantity) -> Iterator[list[SensitivityRow]]:
    """Yield allocations from the cheapest to the most exact, each one step of one part from the last.

    Steps are taken in the order of their gain, -Δerror / Δcost. On the convex hull of a part gains fall, so that the
    order within a part is kept, and every allocation is the best there is for some μ.
    """
    corners = [_corners(part, cost, error) if part[0].kind in kinds else [_given(part)] for part in parts]
    steps = sorted(((-_gain(a, b, cost, error), place, step) for place, rows in enumerate(corners)
                    for step, (a, b) in enumerate(pairwise(rows), start=1)))
    chosen = [rows[0] for rows in corners]
    yield list(chosen)
    for _, place, step in steps:
        chosen[place] = corners[place][step]
        yield list(chosen)


def _corners(options: Sequence[SensitivityRow], cost: Quantity, error: Quantity) -> list[SensitivityRow]:
    """Return the lower convex hull of (cost, error): costs rise, errors fall, each step gains less than the one before."""
    hull: list[SensitivityRow] = []
    for row in sorted(options, key=lambda row: (cost(row), error(row))):
        if hull and error(row) >= error(hull[-1]):
            continue
        while len(hull) > 1 and _gain(hull[-1], row, cost, error) >= _gain(hull[-2], hull[-1], cost, error):
            hull.pop()
        hull.append(row)
    return hull


def _gain(a: SensitivityRow, b: SensitivityRow, cost: Quantity, error: Quantity) -> float:
    return (error(a) - error(b)) / (cost(b) - cost(a))


def _choices(part: list[SensitivityRow]) -> list[SensitivityRow]:
    """Return the rows to choose from: the recipe's own for inputs of the last layers, to which budgets are blind.

    Straight-through, forces do not see the rounding there; the energy does, and jumps.
    """
    return [_given(part)] if part[0].role == "last" and part[0].kind == "input" else part


def _given(part: Sequence[SensitivityRow]) -> SensitivityRow:
    return next((row for row in part if row.given), part[0])


def _change(row: SensitivityRow) -> float:
    return row.measures.forces_rms_change_meV_A**2


def _asymmetry(row: SensitivityRow) -> float:
    return (row.measures.lambda_antisymmetry or 0.0) ** 2  # weights leave the forces a gradient


def _bytes(row: SensitivityRow) -> float:
    return row.bytes or 0


def _work(row: SensitivityRow) -> float:
    return (row.operations or 0.0) * row.bits


def _cost(parts: Parts, price: float = 1.0) -> Quantity:
    """Return the share of bytes plus `price` times the share of work, of what the widest codes take."""
    stored, work = _widest(parts, _bytes), _widest(parts, _work)
    return lambda row: _bytes(row) / stored + price * _work(row) / work


def _error(parts: Parts, exchange: float) -> Quantity:
    """Return the share of the squared force change plus `exchange` times that of the squared antisymmetry."""
    change, asymmetry = _widest(parts, _change), _widest(parts, _asymmetry)
    if exchange == inf:
        return lambda row: _asymmetry(row) / asymmetry
    return lambda row: _change(row) / change + exchange * _asymmetry(row) / asymmetry


def _widest(parts: Parts, quantity: Quantity) -> float:
    return sum(max(map(quantity, part)) for part in parts) or 1.0


def _totals(rows: Sequence[SensitivityRow], report: Report) -> tuple[float, float | None, int]:
    """Return the force change in meV/Å, λ where it is known, and bytes that the sums over parts predict."""
    fixed = report.stored_bytes - sum(row.bytes or 0 for row in report.given)
    known = all(row.measures.lambda_antisymmetry is not None for row in rows if row.kind in ACTIVATIONS)
    return (sqrt(sum(map(_change, rows))), sqrt(sum(map(_asymmetry, rows))) if known else None,
            fixed + sum(row.bytes or 0 for row in rows))


def _least(parts: Parts, report: Report) -> str:
    least = [_totals([min(part, key=quantity) for part in parts], report)[place]
             for place, quantity in enumerate((_change, _asymmetry, _bytes))]
    texts = ("forces {:.3g} meV/Å", "λ {:.2g}", "{} bytes")
    return ", ".join(text.format(value) for text, value in zip(texts, least, strict=True) if value is not None)
