"""Compiled plans: the tree of edges, fingerprints, the edges that getters read, typed stores."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec
import pytest

import boiler_beam as bb
from boiler_beam import Ref, Store, aggregate, group, reference, root, view_property
from boiler_beam.errors import UsageError
from boiler_beam.plan import Group, PlanName, Reference, Referrers, Root, compile_plan, load_plan, refuse_main
from boiler_beam.plan.explain import explain
from boiler_beam.plan.reads import edges_read
from boiler_beam.samples.meeting import MeetingSession, OrganizationSummary, User, UserMeetings
from boiler_beam.steps.functions import references, row_id
from tests.helpers.shop import OrderCard, TeamCard
from tests.semantics.test_language import Longest

ROOT = Path(__file__).resolve().parents[3]


def test_the_tree_of_the_meeting_room() -> None:
    session, users, summary = compile_plan([MeetingSession, UserMeetings, OrganizationSummary]).views
    assert [(type(edge), edge.name, edge.parent, edge.is_many, edge.keyed_by) for edge in session.edges] == [
        (Root, "meeting", None, False, "doc_id"),
        (Reference, "location", "meeting", False, "doc_id"),
        (Reference, "users", "meeting", True, "doc_id"),
        (Reference, "tickets", "meeting", True, "map"),
    ]
    assert [(type(edge), edge.parent) for edge in users.edges] == [
        (Root, None), (Referrers, "user"), (Reference, "meetings"), (Reference, "meetings"), (Reference, "meetings"),
    ]  # fmt: skip
    assert [(type(edge), edge.is_read) for edge in summary.edges] == [(Group, False), (Referrers, False)]
    assert session.properties[-1] == ("num_hearing_aid_requested", "numHearingAidRequested")
    location = session.by_name["location"]
    assert isinstance(location, Reference)
    assert location.is_required


def test_a_collection_is_decoded_once_whoever_reads_it() -> None:
    plan = compile_plan([MeetingSession, UserMeetings, OrganizationSummary])
    assert [document_type.pattern.text for document_type in plan.document_types] == [
        "meetings",
        "locations",
        "users",
        "tickets",
    ]
    assert plan.types_of("users/u1") == (2,)
    assert plan.types_of("others/o1") == ()


def test_paths_through_lists_maps_structs_and_ids() -> None:
    class Product(bb.DomainModel, collection="products"):
        name: str

    class Line(bb.Struct):
        product: Ref[Product]
        also: dict[str, list[Ref[Product]]] = {}  # noqa: RUF012

    class Cart(bb.DomainModel, collection="carts"):
        lines: dict[str, Line]
        first_id: str = ""

    globals().update(Product=Product, Line=Line, Cart=Cart)

    class CartView(bb.ViewModel, collection="rows"):
        class Store(bb.Store):
            cart = root(Cart)
            products = reference("cart.lines.product")
            also = reference("cart.lines.also")
            first = reference("cart.first_id", to=Product, optional=True)

        @view_property
        def name(self) -> str:
            return ""

    cart = Cart(
        lines={"b": Line(Ref("products/1"), {"z": [Ref("products/3")]}), "a": Line(Ref("products/2"))}, first_id="9"
    )
    edges = compile_plan([CartView]).views[0].by_name
    found = {name: references(edge, cart) for name, edge in edges.items() if isinstance(edge, Reference)}
    assert found == {
        "products": [(None, "products/2"), (None, "products/1")],
        "also": [(None, "products/3")],
        "first": [(None, "products/9")],
    }


def test_store_may_be_imported_by_its_name() -> None:
    class View(bb.ViewModel, collection="rows"):
        class Store(Store):
            user: User = root(User)

        @view_property
        def name(self) -> str:
            return ""

    assert [edge.name for edge in compile_plan([View]).views[0].edges] == ["user"]


class Chained(bb.DomainModel, collection="chained"):
    next: Ref[Chained] | None = None


FINGERPRINT = (
    "from boiler_beam.plan import PlanName, load_plan; "
    "views = load_plan(PlanName(('tests.helpers.shop:PersonCard', 'tests.helpers.town:MessageCard'))).views; "
    "print(*[view.fingerprint for view in views])"
)


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


def summary(
    where: Any = lambda user: user.organization,
    name: Any = lambda self: "a",
    of: str = "first_name",
    revision: int = 1,
    edge: Any = None,
) -> str:
    store = type("Store", (bb.Store,), {"users": group(User, by="organization", where=edge)})
    body = {
        "Store": store,
        "n": aggregate.count("users", where=where),
        "m": aggregate.min("users", of=of),
        "name": view_property(name),
    }
    return (
        compile_plan([type("View", (bb.ViewModel,), body, collection="rows", revision=revision)]).views[0].fingerprint
    )


def test_a_fingerprint_follows_what_the_rows_depend_on() -> None:
    changed = [
        summary(where=lambda user: user.first_name),
        summary(name=lambda self: "b"),
        summary(of="last_name"),
        summary(revision=2),
        summary(edge=lambda user: True),
    ]
    assert summary() == summary()
    assert len({summary(), *changed}) == 6


class _Reads:
    def one(self: Any) -> Any:
        return self.store.a.x

    def comprehension(self: Any) -> Any:
        return [x for x in self.store.a if self.store.b]

    def inner(self: Any) -> Any:
        return (lambda: self.store.c)()

    def other_property(self: Any) -> Any:
        return self.num

    def handed_on(self: Any) -> Any:
        return len(self.store)

    def self_handed_on(self: Any) -> Any:
        return str(self)

    def by_ref(self: Any) -> Any:
        return self.store[self.num]


@pytest.mark.parametrize(
    ("function", "edges"),
    [
        ("one", "a"),
        ("comprehension", "ab"),
        ("inner", "c"),
        ("other_property", ""),
        ("handed_on", "abc"),
        ("self_handed_on", "abc"),
        ("by_ref", "abc"),
    ],
)
def test_which_edges_a_getter_reads(function: str, edges: str) -> None:
    assert edges_read([getattr(_Reads, function)], "abc") == set(edges)


def test_classes_in_main_are_refused_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_plan([MeetingSession])
    refuse_main(plan)
    monkeypatch.setattr(MeetingSession, "__module__", "__main__")
    with pytest.raises(
        UsageError,
        match="MeetingSession: expected a class in a module that workers can import, got one in __main__; fix: move it",
    ):
        refuse_main(plan)


def test_views_are_found_by_name() -> None:
    assert load_plan(PlanName(("tests.helpers.shop:TeamCard",))).views[0].model is TeamCard
    with pytest.raises(UsageError, match=r"tests.helpers.shop:Nobody: expected a view model, got None"):
        load_plan(PlanName(("tests.helpers.shop:Nobody",)))


def test_explain_names_fixed_documents_and_unlimited_collects() -> None:
    text = explain(compile_plan([OrderCard, TeamCard]))
    assert "└─ settings: document config/shop (one document)" in text
    assert "config: a change affects\n  OrderCard.settings: every row\n  TeamCard.settings: every row" in text
    assert "warning: names collects without a limit" in text
    assert "├─ owner: reference order.owner, in people (one document; required: no row without it)" in text
    assert "where= filters" in text


class Phone(bb.Struct):
    number: str | None
    label: Optional[str] = None  # noqa: UP045


class Contact(bb.DomainModel, collection="contacts"):
    name: str
    phone: Optional[str]  # noqa: UP045
    phones: list[Phone | None]
    money: Decimal | None = bb.field(encode=str, decode=Decimal)
    email: str | None = None
    friend: Ref[Contact] | None = None
    anything: Any


class Colleague(Contact):
    room: Annotated[int, msgspec.Meta(ge=0)] | None


class ContactCard(bb.ViewModel, collection="contact_cards"):
    class Store(bb.Store):
        contact: Contact = root(Contact)

    store: Store

    @view_property
    def phone(self) -> str | None:
        return self.store.contact.phone


def test_explain_says_that_optional_fields_without_default_may_not_be_missing() -> None:
    for _ in range(2):  # a class whose annotations were resolved before is read alike
        text = explain(compile_plan([ContactCard]))
        notes = [line.partition(" may be null, but ")[0] for line in text.split("\n") if "note: " in line]
        names = ("Contact.phone", "Contact.money", "Phone.number", "Colleague.room")
        assert notes == [f"  note: {name}" for name in names]
    assert text.endswith(
        "  note: Colleague.room may be null, but a document without it is invalid, and its rows are no longer "
        "updated; fix: = None, or bb.field(default=None)"
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b c", "a%2Fb%20c"),
        (7, "7"),
        (-7, "-7"),
        (".", "%2E"),
        ("..", "%2E."),
        ("__x__", "%5F_x__"),
        ("____", "%5F___"),
        ("__", "__"),
        ("", "%"),
        ("é", "%C3%A9"),
        (Ref("users/u1"), "users%2Fu1"),
    ],
)
def test_ids_of_group_rows(key: Any, expected: str) -> None:
    assert row_id([key]) == expected


@pytest.mark.parametrize("key", [True, 1.5, b"x", "é" * 300])
def test_keys_that_make_no_id(key: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        row_id([key])


USER = """
import boiler_beam as bb
from boiler_beam import reference, root, view_property
from boiler_beam.samples.meeting import Location, Meeting

class Place(bb.ViewModel, collection="places"):
    class Store(bb.Store):
        meeting: Meeting = root(Meeting)
        location: Location = reference("meeting.location")
    store: Store

    @view_property
    def address(self) -> str:
        return self.store.location.address

    @view_property
    def is_open(self) -> bool:
        return self.store.meeting.status == "in-session"

    @is_open.setter
    def is_open(self, value: bool) -> None:
        self.store.meeting.status = "in-session" if value else "closed"
"""


@pytest.mark.parametrize(
    ("typo", "said"),
    [
        ("", None),
        ("location.adress", 'views.py:14: error: "Location" has no attribute "adress"'),
        ("locatoin.address", 'views.py:14: error: "Store" has no attribute "locatoin"'),
    ],
)
def test_a_type_checker_knows_what_getters_read(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, typo: str, said: str | None
) -> None:
    pytest.importorskip("mypy", reason="mypy is a development tool: other Pythons run without it")
    source = USER.replace("location.address\n", f"{typo}\n", 1) if typo else USER
    (tmp_path / "views.py").write_text(textwrap.dedent(source))
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",  # as of an installed package
        "--cache-dir",
        str(tmp_path_factory.getbasetemp() / "mypy"),
        "views.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith("views.py") and "error" in line]
    if said is None:
        assert (done.returncode, errors) == (0, []), done.stdout
    else:
        assert any(error.startswith(said) for error in errors), done.stdout
        assert all(error.startswith("views.py:14: ") for error in errors)


def test_a_fingerprint_follows_an_aggregate_of_ones_own() -> None:
    def fingerprint_of(factor: int) -> str:
        def result(self: Any, state: Any) -> Any:
            return state[0] * 2 if factor == 2 else state[0] * 3

        made = type("Longest", (Longest,), {"result": result if factor == 2 else (lambda self, state: state[0] * 3)})
        body = {
            "Store": type("Store", (bb.Store,), {"users": group(User, by="organization")}),
            "n": aggregate.custom(made(), "users", of="first_name"),
        }
        return compile_plan([type("View", (bb.ViewModel,), body, collection="rows")]).views[0].fingerprint

    assert fingerprint_of(2) == fingerprint_of(2)
    assert fingerprint_of(2) != fingerprint_of(3)


def test_a_view_with_forty_edges_compiles_in_a_moment() -> None:
    """Each edge is compiled once, so the work grows linearly with the edges; it is counted, not timed."""
    edges: dict[str, Any] = {"user": root(Chained)}
    for number in range(40):
        edges[f"edge{number}"] = reference(f"{'user' if not number else f'edge{number - 1}'}.next", optional=True)
    body = {"Store": type("Store", (bb.Store,), edges), "name": view_property(lambda self: self.store.edge39.doc_id)}
    plan = compile_plan([type("View", (bb.ViewModel,), body, collection="rows")])
    assert len(plan.views[0].edges) == 41
    assert len(plan.document_types) == 1
