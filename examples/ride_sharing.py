"""Ride sharing: the page of a ride, a driver's board, and the waiting riders of each city."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime

import boiler_beam as bb
from boiler_beam import Ref, aggregate, group, reference, referrers, role, root, view_property


class Status(enum.Enum):
    REQUESTED = "requested"
    DRIVING = "driving"
    DONE = "done"


class Rider(bb.DomainModel, collection="riders"):
    name: str


class Car(bb.DomainModel, collection="cars"):
    plate: str
    seats: int = 4


class Driver(bb.DomainModel, collection="drivers"):
    name: str
    car: Ref[Car] | None = None
    city: str


class Ride(bb.DomainModel, collection="rides"):
    rider: Ref[Rider]
    driver: Ref[Driver] | None = None
    city: str
    start: bb.GeoPoint
    requested_at: datetime
    status: Status = Status.REQUESTED
    fare_cents: int | None = None


class Rating(bb.DomainModel, collection="rides/{ride}/ratings"):
    ride: Ref[Ride]
    stars: int


class RidePage(bb.ViewModel, collection="ride_pages"):
    class Store(bb.Store):
        ride: Ride = root(Ride)
        rider: Rider = reference("ride.rider")
        driver: Driver | None = reference("ride.driver", optional=True)
        car: Car | None = reference("driver.car", optional=True)

    store: Store

    def viewers(self) -> Iterator[str]:
        yield self.store.rider.doc_id
        if self.store.driver is not None:
            yield self.store.driver.doc_id
        yield role("dispatcher", of=Ref[None](f"cities/{self.store.ride.city}"))

    @view_property
    def headline(self) -> str:
        driver, car = self.store.driver, self.store.car
        if driver is None:
            return f"{self.store.rider.name} waits"
        return f"{driver.name} drives {self.store.rider.name}{f' in {car.plate}' if car else ''}"

    @view_property
    def start(self) -> bb.GeoPoint:
        return self.store.ride.start

    @view_property
    def status(self) -> Status:
        return self.store.ride.status


class DriverBoard(bb.ViewModel, collection="driver_boards"):
    class Store(bb.Store):
        driver: Driver = root(Driver)
        done: dict[str, Ride] = referrers(Ride, by="driver", where=lambda ride: ride.status is Status.DONE)
        ratings: dict[str, Rating] = referrers(Rating, by="ride", of="done")
        current: dict[str, Ride] = referrers(
            Ride, by="driver", where=lambda ride: ride.status is Status.DRIVING, order_by="-requested_at", limit=1
        )
        rider: dict[str, Rider] = reference("current.rider")

    store: Store
    num_rides = aggregate.count("done")
    earned_cents = aggregate.sum("done", of="fare_cents")
    _stars = aggregate.mean("ratings", of="stars")

    @view_property
    def stars(self) -> float | None:
        return None if self._stars is None else round(self._stars, 1)

    @view_property
    def driving(self) -> str | None:
        return next((rider.name for rider in self.store.rider.values()), None)


class Waiting(bb.ViewModel, collection="waiting"):
    """One row for each city in which someone waits; it is deleted when nobody waits any more."""

    class Store(bb.Store):
        rides: dict[str, Ride] = group(
            Ride, by="city", where=lambda ride: ride.status is Status.REQUESTED, order_by="requested_at", limit=50
        )
        riders: dict[str, Rider] = reference("rides.rider")

    store: Store
    longest_since = aggregate.min("rides", of="requested_at")

    @view_property
    def riders(self) -> list[str]:
        found = [self.store[ride.rider] for ride in self.store.rides.values()]
        return [rider.name for rider in found if rider is not None]
