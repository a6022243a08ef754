"""The declared fleet: what `fleet.yaml` may say, as frozen typed models."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.declared_gates import Gates
from fleet.declared_image import Image
from fleet.declared_optimise import Optimise
from fleet.declared_region import Region, with_stores_apart
from fleet.declared_replication import Grant, Replication
from fleet.declared_traffic import Traffic, residency_problems
from fleet.declaring import Declared, Money, Name, RelativePath, Text

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$")]
Rate = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(gt=0, le=600_000)]
Seconds = Annotated[float, Field(gt=0)]
HarmBudget = Annotated[int, Field(ge=1)]
Stake = Annotated[float, Field(ge=0, le=1000)]


class Forecast(Declared):
    """What a model is expected to cost a day in a region, in the currency of its prices."""

    per_day: Money


class Costs(Declared):
    """How costs are judged: from which part of the forecast on a deviation is told, in either direction."""

    deviation: Annotated[Money, Field(lt=1)] = Decimal("0.08")


class Slo(Declared):
    """What callers of a model are promised in a region."""

    latency_ms: Milliseconds
    error_rate: Rate


class Step(Declared):
    """One step of a canary: its share of the requests in percent, and how long it lasts at least."""

    weight: Annotated[int, Field(gt=0, lt=100)]
    seconds: Seconds


class Canary(Declared):
    """How a new revision meets live traffic, and what becomes of it without a verdict: it is never promoted by itself.

    After `max_seconds` it is rolled back; or it goes on for `extend_seconds`, `extensions` times at most; or it holds
    its weights and waits `ask_seconds` for an operator. Then it is rolled back as well, and so is one that was paused
    for longer than `pause_seconds`. Time during which it is paused does not count.

    With `waves` of regions the steps are walked in the first wave's regions, then in the next one's while those before
    stay at the last step; harm in any region takes the requests back in all.

    `harm_budget` is how many bad answers it may give in all; once they are given it is rolled back, whatever stable
    does. With a budget and without `steps`, the shares and how long each lasts follow from the budget and from what
    is known of the canary so far.
    """

    harm_budget: HarmBudget | None = None
    steps: tuple[Step, ...] = (Step(weight=5, seconds=60), Step(weight=25, seconds=120), Step(weight=50, seconds=120))
    waves: tuple[Annotated[tuple[Name, ...], Field(min_length=1)], ...] = ()
    max_seconds: Seconds = 1800
    without_verdict: Literal["roll back", "ask", "extend"] = "roll back"
    ask_seconds: Seconds = 3600
    extend_seconds: Seconds = 600
    extensions: Annotated[int, Field(ge=1, le=24)] = 1
    pause_seconds: Annotated[float, Field(gt=0, le=86_400)] = 3600

    @property
    def follows_budget(self) -> bool:
        """Whether the harm budget decides the shares, since no steps are declared."""
        return self.harm_budget is not None and "steps" not in self.model_fields_set

    @property
    def shortest_seconds(self) -> float:
        """How long all steps of all waves last at least; where the harm budget decides, no time is declared."""
        return 0.0 if self.follows_budget else sum(step.seconds for step in self.steps) * max(len(self.waves), 1)

    @model_validator(mode="after")
    def _weights_rise(self) -> Self:
        weights = [step.weight for step in self.steps]
        if not weights or weights != sorted(set(weights)):
            raise ValueError("the weights of the steps must rise")
        return self


class Stakes(Declared):
    """How the error budget of a release is shared out over what may convict it, in proportion; 0 leaves a metric out.

    `errors` are bad answers against stable's, `slow` answers slower than the SLO's limit against stable's, `objective`
    bad answers against the SLO's error rate. `predictions` (the scores' shift) and `pairs` (shadow answers that
    disagree) count only for a model that declares what it allows there. The more a metric has, the sooner it convicts.
    """

    errors: Stake = 4
    slow: Stake = 2
    objective: Stake = 1
    predictions: Stake = 1
    pairs: Stake = 1

    @model_validator(mode="after")
    def _something_convicts(self) -> Self:
        if not any((self.errors, self.slow, self.objective)):
            raise ValueError("errors, slow and objective must not all be 0: nothing could convict a canary")
        return self


class Rollback(Declared):
    """When the evidence says no, and when it says yes.

    `alpha` is the chance, over the whole release and however often one looks, to roll back a canary that is no worse
    than stable. `odds_ratio` is how much worse still counts as no worse; `stakes` share alpha out over the metrics.

    A canary is promoted when an upper bound, wrong with probability `promotion_error` at most, lies below `margin`.
    `bound` says of what: of its bad-answer `rate`, or of that rate's `difference` from stable's. `scope` says where: in
    every `region`, or once over all `traffic`, weighted by where the canary's requests went.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    odds_ratio: Annotated[float, Field(ge=1)] = 1.0
    margin: Annotated[float, Field(gt=0, lt=1)]
    promotion_error: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    bound: Literal["rate", "difference"] = "rate"
    scope: Literal["region", "traffic"] = "region"
    stakes: Stakes = Stakes()


class Predictions(Declared):
    """What a model's answers are by number, and how far those of a new revision may be from stable's.

    An answer's score is the mean of its rows' first number, for two probabilities that of the positive class. Scores
    lie from `low` to `high`; one beyond counts as lying at the end. `shift` is the largest shift of the mean score, as
    a part of that range, that counts as no worse. Of the requests that a shadow answers beside stable, a share of
    `disagreement` may have other answers; two answers agree when they are equal or their scores lie within
    `tolerance`, a part of the range.
    """

    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    shift: Annotated[float, Field(gt=0, lt=1)]
    disagreement: Annotated[float, Field(gt=0, lt=1)] = 0.05
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low:g} and {self.high:g})")
        return self


class Approval(Declared):
    """Whether people must say yes before any traffic moves, how many, and within which time; without an answer it is rejected.

    With `people` of two or more they are different ones, and none of them built the version: whoever did must have
    claimed it. An approval counts for `valid_seconds` until the traffic begins.
    """

    required: bool = False
    people: Annotated[int, Field(ge=1, le=5)] = 1
    within_seconds: Annotated[float, Field(gt=0, le=2_592_000)] = 86_400
    valid_seconds: Annotated[float, Field(gt=0, le=2_592_000)] = 86_400

    @model_validator(mode="after")
    def _people_are_asked(self) -> Self:
        if self.people > 1 and not self.required:
            raise ValueError(f"approval.people is {self.people}, and approval.required is false: declare it true")
        return self

    @property
    def apart(self) -> bool:
        """Whether whoever built a version may not approve it."""
        return self.required and self.people > 1


class Tier(Declared):
    """What models of one importance have in common."""

    approval: Approval


class Evaluation(Declared):
    """The held-out rows of the metric gate, pinned by DVC: repository, file, Git revision and label column."""

    repository: Text
    path: Text
    revision: Text = "HEAD"
    label: Text
    metric: Literal["roc_auc", "accuracy", "log_loss", "mean_absolute_error"]
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    tolerance: Annotated[Decimal, Field(ge=0)] = Decimal("0")


class Reference(Declared):
    """The rows that a model learned from, pinned by DVC: repository, file (Parquet or CSV) and Git revision."""

    repository: Text
    path: Annotated[str, Field(pattern=r"\.(parquet|csv)$")]
    revision: Text = "HEAD"


class Drift(Declared):
    """When the rows that a model answers count as drifted from its reference.

    The last `window_seconds` are compared; with fewer than `minimum_rows` rows there is no verdict. A column drifts
    when its population stability index is above `psi`, the model when `share` of the compared columns do, and at
    least one.
    """

    reference: Reference
    window_seconds: Seconds = 3600
    minimum_rows: Annotated[int, Field(ge=100)] = 500
    psi: Annotated[Decimal, Field(gt=0)] = Decimal("0.2")
    share: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0")


class Model(Declared):
    """A served model: who answers for it, what it promises, and how a new version of it is released.

    `rto_seconds` is the time within which users are served again after a region is lost, `rpo_releases` how many
    releases the survivors may lag behind. `contract` is a Great Expectations suite (JSON) that the data must meet.
    `forecast` says per region what it is expected to cost; without one, what it cost before is expected again.
    Without `predictions` what it answers is not judged, only whether and how fast.
    `traffic` says how requests are dealt out, `gates` what the gates are told. `tier` is one of the fleet's tiers, whose
    approval it then has. `image` says what the image of its Bento is made from, `optimise` which variants of it are made,
    `replication` how a revision gets to the regions.
    """

    owner: Text
    on_call: Text
    runbook: Text
    regions: Annotated[tuple[Name, ...], Field(min_length=1)]
    slo: dict[Name, Slo]
    rto_seconds: Seconds
    rpo_releases: Annotated[int, Field(ge=0)]
    rollback: Rollback
    canary: Canary = Canary()
    tier: Name | None = None
    approval: Approval = Approval()
    contract: RelativePath | None = None
    evaluation: Evaluation | None = None
    drift: Drift | None = None
    forecast: dict[Name, Forecast] = Field(default_factory=dict)
    predictions: Predictions | None = None
    traffic: Traffic = Traffic()
    gates: Gates = Gates()
    image: Image = Image()
    optimise: Optimise | None = None
    replication: Replication = Replication()

    @model_validator(mode="after")
    def _steps_are_those_of_a_canary(self) -> Self:
        if self.traffic.mode == "blue-green" and "steps" in self.canary.model_fields_set:
            raise ValueError("canary.steps raise a share in steps, and traffic.mode blue-green switches all at once: declare one of them")
        if self.traffic.mode == "canary" and self.canary.max_seconds < self.canary.shortest_seconds:
            raise ValueError(f"canary.max_seconds must cover the steps{' of every wave' if self.canary.waves else ''}")
        return self

    @model_validator(mode="after")
    def _waves_reach_every_region_once(self) -> Self:
        named = [region for wave in self.canary.waves for region in wave]
        if not named:
            return self
        if self.traffic.mode == "blue-green":
            raise ValueError(
                "canary.waves raise a share region by region, and traffic.mode blue-green switches all at once: declare one of them"
            )
        if sorted(named) != sorted(self.regions):
            found, regions = ", ".join(named), ", ".join(self.regions)
            raise ValueError(f"canary.waves must name each region of the model once ({regions}; found {found})")
        return self

    @model_validator(mode="after")
    def _replication_fits(self) -> Self:
        if problem := self.replication.problem(self.regions, waves=bool(self.canary.waves)):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _gates_have_what_they_need(self) -> Self:
        problem = self.gates.problem(self.evaluation.metric if self.evaluation else None, contract=self.contract is not None)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _a_container_serves_by_itself(self) -> Self:
        gates = {"gates.dependencies": self.gates.dependencies, "gates.licences": self.gates.licences}
        if problem := self.image.problem({"optimise": self.optimise, "drift": self.drift, **gates}):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _forecast_per_region(self) -> Self:
        unknown = sorted(set(self.forecast) - set(self.regions))
        if unknown:
            raise ValueError(f"forecast names {', '.join(unknown)}, which this model does not use")
        return self

    @model_validator(mode="after")
    def _slo_per_region(self) -> Self:
        if len(set(self.regions)) != len(self.regions):
            raise ValueError("regions must not repeat")
        missing = set(self.regions) - set(self.slo)
        unknown = set(self.slo) - set(self.regions)
        if missing or unknown:
            says = [f"has none for {', '.join(sorted(missing))}"] if missing else []
            says += [f"names {', '.join(sorted(unknown))}, which this model does not use"] if unknown else []
            raise ValueError(f"slo {' and '.join(says)}")
        return self

    @property
    def quorum(self) -> tuple[str, ...]:
        """The regions that must have a revision before its release goes on: all, unless replication is eventual."""
        return self.replication.quorum or self.regions


class Fleet(Declared):
    """All of fleet.yaml."""

    version: Literal[1]
    name: Name
    regions: Annotated[dict[Name, Region], Field(min_length=1), AfterValidator(with_stores_apart)]
    models: Annotated[dict[ModelName, Model], Field(min_length=1)]
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    costs: Costs = Costs()
    transfers: dict[Name, Grant] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_regions(self) -> Self:
        for name, model in self.models.items():
            unknown = [region for region in model.regions if region not in self.regions]
            if unknown:
                raise ValueError(f"models.{name}.regions names {', '.join(unknown)} (known: {', '.join(self.regions)})")
        return self

    @model_validator(mode="after")
    def _tiers_say_who_approves(self) -> Self:
        for name, model in self.models.items():
            if model.tier is None:
                continue
            if model.tier not in self.tiers:
                raise ValueError(f"models.{name}.tier names {model.tier} (known: {', '.join(self.tiers) or 'none'})")
            if "approval" in model.model_fields_set and model.approval != self.tiers[model.tier].approval:
                raise ValueError(f"models.{name}.approval and the one of tiers.{model.tier} contradict each other: declare one of them")
            self.models[name] = model.model_copy(update={"approval": self.tiers[model.tier].approval})
        return self

    @model_validator(mode="after")
    def _residency_leaves_regions(self) -> Self:
        known = [region.jurisdiction for region in self.regions.values()]
        for name, model in self.models.items():
            residency = model.traffic.residency
            problems = residency_problems(residency, self.jurisdictions(model), known) if residency else []
            if problems:
                raise ValueError("; ".join(f"models.{name}.traffic.residency.{problem}" for problem in problems))
        return self

    @model_validator(mode="after")
    def _prices_that_are_weighed_compare(self) -> Self:
        for name, model in self.models.items():
            if model.traffic.choice is None or not model.traffic.choice.price:
                continue
            prices = {region: self.regions[region].prices for region in model.regions if region in self.regions}
            unpriced = [region for region, found in prices.items() if found is None]
            currencies = sorted({found.currency for found in prices.values() if found is not None})
            if unpriced or len(currencies) > 1:
                why = f"{', '.join(unpriced)} declares no prices" if unpriced else f"they are in {' and '.join(currencies)}"
                raise ValueError(f"models.{name}.traffic.choice.price compares the prices of the model's regions, and {why}")
        return self

    @model_validator(mode="after")
    def _the_quorum_answers_every_mark(self) -> Self:
        for name, model in self.models.items():
            residency = model.traffic.residency
            places = {region: self.regions[region].jurisdiction for region in model.quorum if region in self.regions}
            lost = [mark for mark in (residency.marks if residency else ()) if residency and not residency.regions(mark, places)]
            if lost:
                raise ValueError(
                    f"models.{name}.replication names no region that may answer {', '.join(lost)} (traffic.residency): add it to standbys"
                )
        return self

    def jurisdictions(self, model: Model) -> dict[str, str]:
        """Return the jurisdiction of each region of a model."""
        return {region: self.regions[region].jurisdiction for region in model.regions if region in self.regions}
