"""Which targets a call may go to at all: its tier's, those that serve the model asked for, or any.

What does not belong here: which of them is best (the policies beside this module).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmscope.errors import ConfigurationError
from llmscope.gateway.policies import AUTO_MODEL
from llmscope.gateway.stages import RoutingChoice, RoutingRequest, Target

CandidateTargets = Sequence[Target] | Mapping[str, Sequence[Target]]
"""The candidates of every tier alike, or tier → candidates."""


class Candidates:
    """A route's candidates, in the order of its configuration.

    Args:
        targets: the candidates of every tier alike, or tier → candidates.
        provider_name: the route's own provider, which serves a model that no candidate does; the first
            candidate's if not given.

    Raises:
        ConfigurationError: a list is empty, names a target twice, or holds something else.
    """

    def __init__(self, targets: CandidateTargets, *, provider_name: str | None = None) -> None:
        if isinstance(targets, Mapping):
            self._of_tier = {tier: _checked(of_tier, f"tier {tier!r}") for tier, of_tier in targets.items()}
            listed = [target for of_tier in self._of_tier.values() for target in of_tier]
        else:
            self._of_tier = {}
            listed = list(_checked(targets, "the route"))
        if not listed:
            raise ConfigurationError("routing: no tier has candidates; name a provider and a model for one")
        self.all: tuple[Target, ...] = tuple(dict.fromkeys(listed))
        self._of_model: dict[str, tuple[Target, ...]] = {
            model: tuple(target for target in self.all if target.model == model)
            for model in {target.model for target in self.all}
        }
        self._provider_name = provider_name or self.all[0].provider

    def eligible(self, request: RoutingRequest) -> tuple[Target, ...]:
        """The targets that this call may go to, in configured order; never empty.

        An explicit model is respected: its candidates, of whatever tier, else the route's own provider.

        Raises:
            ConfigurationError: the candidates are listed by tier, and not for this one.
        """
        if request.model == AUTO_MODEL:
            return self.all
        if request.model is not None:
            own = (Target(self._provider_name, request.model),)
            return self._of_model.get(request.model, own)
        if not self._of_tier:
            return self.all
        of_tier = self._of_tier.get(request.model_tier)
        if of_tier is None:
            raise ConfigurationError(
                f"Tier '{request.model_tier}' has no routing candidates on route {request.route_name}. "
                f"Available tiers: {', '.join(sorted(self._of_tier))}"
            )
        return of_tier


def sole_choice(target: Target, decision: str) -> RoutingChoice:
    """The choice where there is none."""
    return RoutingChoice((target,), decision, f"{name_of(target)} is the only target for this request")


def name_of(target: Target) -> str:
    """A target as reasons and logs name it: `provider/model`."""
    return f"{target.provider}/{target.model}"


def checked_exploration(share: float) -> float:
    """`share`, if exploring with it leaves most requests where they belong, and some not.

    Raises:
        ConfigurationError: it is not above 0 and at most a half.
    """
    if not 0 < share <= 0.5:
        raise ConfigurationError(
            f"routing: exploration_share is {share}; give a share above 0 (without exploration a target "
            "that was bad once is never asked again) and at most 0.5"
        )
    return share


def checked_positive(value: float, name: str) -> float:
    """`value`, if it is above 0 and finite.

    Raises:
        ConfigurationError: it is not.
    """
    if not 0 < value < float("inf"):
        raise ConfigurationError(f"routing: {name} is {value}; give a number above 0")
    return value


def _checked(targets: Sequence[Target], where: str) -> tuple[Target, ...]:
    strangers = [target for target in targets if not isinstance(target, Target)]
    if strangers:
        raise ConfigurationError(f"routing: {where}: {strangers[0]!r} is no Target(provider, model)")
    nameless = [target for target in targets if not target.provider or not target.model]
    if nameless:
        raise ConfigurationError(f"routing: {where}: {nameless[0]!r} lacks a provider or a model")
    if not targets:
        raise ConfigurationError(f"routing: {where} has no candidates; name at least one")
    if len(set(targets)) < len(targets):
        twice = next(target for target in targets if list(targets).count(target) > 1)
        raise ConfigurationError(f"routing: {where} names {name_of(twice)} twice")
    return tuple(targets)
