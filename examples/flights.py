"""A year of flights from New York: airlines, airports, planes and 336,776 flights, the larger example of the benchmark.

python benchmarks/run.py --size flights
"""

from __future__ import annotations

from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, root, view_property


class Airline(bb.DomainModel, collection="airlines"):
    name: str


class Airport(bb.DomainModel, collection="airports"):
    name: str
    place: bb.GeoPoint
    time_zone: str


class Plane(bb.DomainModel, collection="planes"):
    manufacturer: str
    model: str
    year: int | None = None
    seats: int


class Flight(bb.DomainModel, collection="flights"):
    """A flight. Some planes and airports are not in the data, so their references are dangling."""

    carrier: Ref[Airline]
    number: int
    plane: Ref[Plane] | None = None
    origin: Ref[Airport]
    destination: Ref[Airport]
    scheduled_at: datetime
    departure_delay: int | None = None
    arrival_delay: int | None = None
    miles: int

    @property
    def day(self) -> str:
        return self.scheduled_at.date().isoformat()

    @property
    def label(self) -> str:
        return f"{self.carrier.doc_id} {self.number}"


class AirportDay(bb.ViewModel, collection="airport_days"):
    """The departures of one day."""

    class Store(bb.Store):
        flights: dict[str, Flight] = group(Flight, by=("origin", "day"))
        destinations: dict[str, Airport] = reference("flights.destination", only=("name",))

    store: Store
    num_flights = aggregate.count("flights")
    num_cancelled = aggregate.count("flights", where=lambda flight: flight.departure_delay is None)
    mean_delay = aggregate.mean("flights", of="departure_delay")
    worst = aggregate.top("flights", n=3, by="departure_delay", of="label")
    num_airlines = aggregate.count_distinct("flights", of="carrier")

    @view_property
    def destinations(self) -> list[str]:
        return sorted(airport.name for airport in self.store.destinations.values())


class PlaneCard(bb.ViewModel, collection="plane_cards"):
    """The routes and airlines of a plane."""

    class Store(bb.Store):
        plane: Plane = root(Plane)
        flights: dict[str, Flight] = referrers(Flight, by="plane")
        airlines: dict[str, Airline] = reference("flights.carrier")
        last: dict[str, Flight] = referrers(Flight, by="plane", order_by="-scheduled_at", limit=1)

    store: Store
    num_flights = aggregate.count("flights")
    miles = aggregate.sum("flights", of="miles")

    @view_property
    def title(self) -> str:
        plane = self.store.plane
        return f"{plane.manufacturer} {plane.model}, {plane.seats} seats"

    @view_property
    def airlines(self) -> list[str]:
        return [airline.name for airline in self.store.airlines.values()]

    @view_property
    def last_flight(self) -> str | None:
        return next((f"{flight.label} on {flight.day}" for flight in self.store.last.values()), None)


class AirlineCard(bb.ViewModel, collection="airline_cards"):
    """An airline's year."""

    class Store(bb.Store):
        airline: Airline = root(Airline)
        flights: dict[str, Flight] = referrers(Flight, by="carrier")
        planes: dict[str, Plane] = reference("flights.plane")

    store: Store
    num_flights = aggregate.count("flights")
    num_planes = aggregate.count("planes")
    seats = aggregate.sum("planes", of="seats")
    mean_arrival_delay = aggregate.mean("flights", of="arrival_delay")

    @view_property
    def name(self) -> str:
        return self.store.airline.name
