"""Test-set rates and chance bands, by definition: sums of probabilities one count at a time."""

import math

from tests.oracles.records import Records, Site, ratio

UNKNOWN = (math.nan, math.nan)


def binomial_band(trials: int, probability: float) -> tuple[float, float]:
    """Smallest counts whose cumulative probability reaches 2.5% and 97.5%."""
    if math.isnan(probability):
        return UNKNOWN
    found = []
    for tail in (0.025, 0.975):
        cumulative = 0.0
        for count in range(trials + 1):
            cumulative += math.comb(trials, count) * probability**count * (1 - probability) ** (trials - count)
            if cumulative >= tail - 1e-12 or count == trials:
                found.append(float(count))
                break
    return found[0], found[1]


def is_never_full(records: Records, site: Site) -> bool:
    return any(records.capacity[site.site_id, example] < 0 for example in records.examples)


def load_rate(records: Records, site: Site, expert: int) -> float:
    """Probability that a patch ends up in the load of an expert, from the test set."""
    if not is_usable(records, site):
        return math.nan
    assert records.test_set is not None
    requested, kept, patches = records.test_set[site.site_id, expert]
    return ratio(requested if is_never_full(records, site) else kept, patches)


def drop_rate(records: Records, site: Site, expert: int) -> float:
    """Probability that a request is dropped, from the test set."""
    if not is_usable(records, site) or is_never_full(records, site):
        return math.nan
    assert records.test_set is not None
    requested, kept, _ = records.test_set[site.site_id, expert]
    return ratio(requested - kept, requested)


def is_usable(records: Records, site: Site) -> bool:
    """The test set holds the site, and was measured with the same k (to the nearest whole number) and room.

    What was asked for does not depend on the room, unless experts pick.
    """
    if records.test_set is None or (site.site_id, 0) not in records.test_set:
        return False
    counts = [records.test_set[site.site_id, expert] for expert in range(site.num_experts)]
    patches = counts[0][2]
    if records.noted_factors is not None:
        then, now = records.noted_factors[site.site_id], site.capacity_factor
        is_same = then == now or (math.isnan(then) and math.isnan(now))
        if not is_same and (site.selection == "expert_choice" or not math.isnan(now)):
            return False
    if site.selection == "expert_choice" or patches == 0:
        return True
    return abs(sum(requested for requested, _, _ in counts) / patches - site.top_k) <= 0.5


def decisions(records: Records, site: Site, example: int | None) -> int:
    """Independent decisions: patches; or whole examples, as many equal ones as would vary as much."""
    if site.selection != "expert":
        return records.patches_of(example)
    if example is not None:
        return 1
    sizes = [records.patches_of(one) for one in records.examples]
    return math.floor(sum(sizes) ** 2 / sum(size**2 for size in sizes))


def load_band(records: Records, site: Site, expert: int, example: int | None, slots: float) -> tuple[float, float]:
    if site.selection == "expert_choice":
        return UNKNOWN
    draws = decisions(records, site, example)
    worth = records.patches_of(example) / draws
    low, high = binomial_band(draws, load_rate(records, site, expert))
    if math.isnan(low):
        return UNKNOWN
    return (low * worth, high * worth) if math.isnan(slots) else (min(low * worth, slots), min(high * worth, slots))


def idle_band(chances: list[float]) -> tuple[float, float, float]:
    """Mean and central 95% of the number of idle experts, by summing over how many of the first experts are idle."""
    if any(math.isnan(chance) for chance in chances):
        return math.nan, math.nan, math.nan
    distribution = {0: 1.0}
    for chance in chances:
        longer: dict[int, float] = {}
        for count, weight in distribution.items():
            longer[count] = longer.get(count, 0.0) + weight * (1 - chance)
            longer[count + 1] = longer.get(count + 1, 0.0) + weight * chance
        distribution = longer
    mean = sum(count * weight for count, weight in distribution.items())
    bounds = []
    for tail in (0.025, 0.975):
        cumulative = 0.0
        for count in sorted(distribution):
            cumulative += distribution[count]
            if cumulative >= tail - 1e-9:
                bounds.append(float(count))
                break
    return mean, bounds[0], bounds[1]
