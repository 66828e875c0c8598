"""Cities: one collection whose documents are of several classes, told apart by the stored field `obj_type`."""

from __future__ import annotations

import boiler_beam as bb
from boiler_beam import GeoPoint, aggregate, group, root, view_property

__all__ = ["Capital", "City", "CityCard", "CountrySummary", "Municipality", "StandardCity", "StateCapital"]


class City(bb.DomainModel, collection="cities"):
    """The fields of every city."""

    name: str
    country: str
    population: int | None = None
    center: GeoPoint | None = None


class Municipality(City):
    """A city without a state: its country governs it directly."""


class StandardCity(City):
    """A city in a state."""

    city_state: str
    regions: list[str] = bb.field(default_factory=list)


class Capital(Municipality):
    """A municipality that is its country's capital."""

    since: int


class StateCapital(StandardCity, obj_type="state_capital"):
    """A city that is its state's capital."""


class CityCard(bb.ViewModel, collection="city_cards"):
    """A city in a list."""

    class Store(bb.Store):
        """One row for each city, whatever its class."""

        city: City = root(City)

    store: Store

    @view_property
    def title(self) -> str:
        """Name and state, or name and country."""
        city = self.store.city
        return f"{city.name}, {city.city_state if isinstance(city, StandardCity) else city.country}"

    @view_property
    def kind(self) -> str:
        """The kind of city."""
        return type(self.store.city).__name__

    @view_property
    def center(self) -> GeoPoint | None:
        """The coordinates of the city, if they are known."""
        return self.store.city.center

    @view_property
    def is_capital(self) -> bool:
        """Whether it is the capital of its country or state."""
        return isinstance(self.store.city, (Capital, StateCapital))


class CountrySummary(bb.ViewModel, collection="country_summaries"):
    """A country's cities in numbers."""

    class Store(bb.Store):
        """One row for each country."""

        cities: dict[str, City] = group(City, by="country")

    store: Store

    num_cities = aggregate.count("cities")
    population = aggregate.sum("cities", of="population")
    largest = aggregate.top("cities", n=2, by="population", of="name")
