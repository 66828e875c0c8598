"""Proposes models, a first view and its test from documents, for `boiler-beam init`.

>>> documents = {"users/u1": {"firstName": "Ann", "age": 7}, "users/u2": {"firstName": "Bo", "boss": "users/u1"}}
>>> print(propose(documents).views)  # doctest: +ELLIPSIS
\"\"\"Models and views, proposed from 2 documents: ...
<BLANKLINE>
...
class User(bb.DomainModel, collection="users"):
    first_name: str
    age: int | None = None
    boss: Ref[User] | None = None
...
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from boiler_beam.models import name_problem, stored_name
from boiler_beam.values import GeoPoint, Ref

__all__ = ["Proposal", "propose"]

_MAP_KEYS = 8
_COMMENT = "  # "
_RESERVED = {
    "path", "version", "doc_id", "bool", "bytes", "datetime", "dict", "float", "int", "list", "str", "bb",
    "aggregate", "reference", "referrers", "root", "view_property",
}  # fmt: skip
_TAKEN = {"Any", "Ref", "Store", "GeoPoint", "Exception"}

_SCALARS = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes", datetime: "datetime"}


@dataclass(frozen=True)
class Proposal:
    """The result of `propose`.

    Attributes:
        views: The text of a module with models and a view.
        view: The view's name.
    """

    views: str
    view: str


@dataclass
class _Seen:
    """Statistics of the values of one field, or of the items of a list or map.

    Attributes:
        number: The number of values.
        kinds: The number of values of each kind.
        examples: For each kind, the path of a document with such a value.
        texts: How many of the references are text.
        targets: The collections that references point into.
        items: The statistics of the items of lists.
        values: The statistics of the values of maps, for all keys together; `fields`: for each key.
    """

    number: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    texts: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    items: _Seen | None = None
    values: _Seen | None = None
    fields: dict[str, _Seen] = field(default_factory=dict)

    def add(self, value: Any, path: str, collections: Mapping[str, str]) -> None:
        """Adds a value of the document at a path."""
        self.number += 1
        kind, target = _kind_of(value), _target(value, collections)
        if target is not None:
            kind = "ref"
            self.texts += isinstance(value, str)
            self.targets[target] += 1
        elif isinstance(value, list):
            self.items = self.items or _Seen()
            for item in value:
                self.items.add(item, path, collections)
        elif isinstance(value, dict):
            self.values = self.values or _Seen()
            for key, item in value.items():
                self.values.add(item, path, collections)
                self.fields.setdefault(key, _Seen()).add(item, path, collections)
        self.kinds[kind] += 1
        self.examples.setdefault(kind, path)

    def majority(self) -> tuple[str, dict[str, int]]:
        """Returns the kind of more than half of the values that are not null, and how many values have another kind.

        Ints beside floats count as floats, and references in text beside other text count as text. The kind is `Any` if
        no kind has the majority.
        """
        kinds = Counter({kind: number for kind, number in self.kinds.items() if kind != "null" and number})
        if kinds["int"] and kinds["float"]:
            kinds["float"] += kinds.pop("int")
        if kinds["str"] >= kinds["ref"] and kinds["str"]:
            kinds["str"] += self.texts
            kinds["ref"] -= self.texts
        (kind, most), *_ = kinds.most_common(1) or [("Any", 0)]
        if 2 * most <= kinds.total():
            kind = "Any"
        return kind, {other: number for other, number in kinds.items() if other != kind and number}


def _kind_of(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return "list" if isinstance(value, list) else "map"
    if isinstance(value, GeoPoint):
        return "bb.GeoPoint"
    return "null" if value is None else _SCALARS.get(type(value), "Any")


def _target(value: Any, collections: Mapping[str, str]) -> str | None:
    """Returns the collection that a value refers to; text is a reference if it is the path of a known document."""
    if isinstance(value, Ref):
        return collections.get(value.path) or pattern_of(value.path)
    return collections.get(value) if isinstance(value, str) else None


def pattern_of(path: str) -> str:
    """Returns the collection pattern of a document's path.

    >>> pattern_of("chats/c1/messages/m1")
    'chats/{chat}/messages'
    """
    *above, name = path.split("/")[:-1:2]
    taken: set[str] = set()
    return "/".join([*(f"{one}/{{{_free(_attribute(_singular(one)), taken)}}}" for one in above), name])


def propose(documents: Mapping[str, Mapping[str, Any]], known: Iterable[str] = ()) -> Proposal:
    """Proposes a model for each collection, and a view of the collection that refers to most others.

    Args:
        documents: The fields of each document (Firestore values), by its path.
        known: The paths of further documents that text may refer to.
    """
    collections = {path: pattern_of(path) for path in (*documents, *known)}
    seen: dict[str, dict[str, _Seen]] = {}
    counts = Counter(collections[path] for path in documents)
    tags: dict[str, set[str]] = {}
    for path, fields in documents.items():
        own = seen.setdefault(collections[path], {})
        for name, value in fields.items():
            if name == "obj_type" and isinstance(value, str):
                tags.setdefault(collections[path], set()).add(value)
            else:
                own.setdefault(name, _Seen()).add(value, path, collections)
    writer = _Writer(seen, counts, tags, len(documents))
    return writer.proposal()


class _Writer:
    def __init__(
        self, seen: dict[str, dict[str, _Seen]], counts: Counter[str], tags: dict[str, set[str]], total: int
    ) -> None:
        self.seen, self.counts, self.tags, self.total = seen, counts, tags, total
        self.names = _class_names(seen)
        self.classes = {*_TAKEN, *self.names.values(), *(f"{name}View" for name in self.names.values())}
        self.structs: dict[str, list[str]] = {}
        self.attributes: dict[tuple[str, str], str] = {}
        self.references: dict[str, list[tuple[str, str, bool]]] = {pattern: [] for pattern in seen}

    def proposal(self) -> Proposal:
        models = {pattern: "\n".join(self._model(pattern)) for pattern in sorted(self.seen)}
        root = max(self.seen, key=lambda one: (len(self.references[one]), "{" not in one, self.counts[one], one))
        view = "\n".join(self._view(root))
        structs = ["\n".join(lines) for lines in self.structs.values()]
        parts = [*structs, *models.values(), view]
        text = "\n\n\n".join([self._head("\n".join(parts)), *parts]) + "\n"
        return Proposal(text, f"{self.names[root]}View")

    def _head(self, body: str) -> str:
        names = [
            name
            for name in ("Ref", "aggregate", "reference", "referrers", "root", "view_property")
            if re.search(rf"\b{name}\b", body)
        ]
        lines = [
            f'"""Models and views, proposed from {self.total:,} documents: correct what the sample did not show."""',
            "",
            "from __future__ import annotations",
            "",
            *(["from datetime import datetime"] if re.search(r"\bdatetime\b", body) else []),
            *(["from typing import Any"] if re.search(r"\bAny\b", body) else []),
            "" if re.search(r"\b(datetime|Any)\b", body) else None,
            "import boiler_beam as bb",
            f"from boiler_beam import {', '.join(names)}",
        ]
        return "\n".join(line for line in lines if line is not None)

    def _model(self, pattern: str) -> Iterator[str]:
        name = self.names[pattern]
        yield f"class {name}(bb.DomainModel, collection={_quoted(pattern)}):"
        lines = []
        for index, parent in enumerate(re.findall(r"\{(\w+)\}", pattern)):
            above = "/".join(pattern.split("/")[: 2 * index + 1])
            lines.append(f"    {parent}: Ref[{self.names[above]}]" if above in self.names else f"    {parent}: str")
            if above in self.names:
                self.references[pattern].append((parent, above, False))
        taken = set(re.findall(r"\{(\w+)\}", pattern))
        for stored, one in self.seen[pattern].items():
            lines.append(self._field(name, pattern, stored, one, self.counts[pattern], taken))
        yield from lines
        if all(line.startswith("    #") for line in lines):
            yield "    pass"
        for tag in sorted(self.tags.get(pattern, set()) - {name}):
            yield from ["", "", f"class {_pascal(tag)}({name}, obj_type={_quoted(tag)}):", "    pass"]

    def _field(self, owner: str, pattern: str | None, stored: str, one: _Seen, number: int, taken: set[str]) -> str:
        if problem := name_problem(stored):
            return f"    # {stored!a}: {problem}"
        attribute = _free(_attribute(stored), taken)
        if pattern is not None:
            self.attributes[pattern, stored] = attribute
        kind, target, is_many, notes = self._kind(owner, stored, one, "documents" if pattern else "maps")
        is_required = one.number == number and not one.kinds["null"]
        annotation = kind if is_required or kind == "Any" else f"{kind} | None"
        options = [] if is_required else ["default=None"]
        if stored_name(attribute, "camel") != stored:
            options.append(f"name={_quoted(stored)}")
        given = ""
        if options == ["default=None"]:
            given = " = None"
        elif options:
            given = f" = bb.field({', '.join(options)})"
        if target is not None and pattern is not None and (is_required or not is_many):
            self.references[pattern].append((attribute, target, is_many))
        comment = f"{_COMMENT}{'; '.join(notes)}" if notes else ""
        return f"    {attribute}: {annotation}{given}{comment}"

    def _kind(self, owner: str, stored: str, one: _Seen, what: str) -> tuple[str, str | None, bool, list[str]]:
        """Returns the annotation; the referenced collection; whether a list or map refers to it; what does not fit."""
        kind, others = one.majority()
        notes = [_note(kind, one, others, what)] if others else []
        held = one.items if kind == "list" else one.values
        if kind == "ref":
            (target,) = one.targets if len(one.targets) == 1 else ("",)
            is_known = target in self.names
            return f"Ref[{self.names[target] if is_known else 'Any'}]", target if is_known else None, False, notes
        if kind not in ("list", "map"):
            return kind, None, False, notes
        if held is None or not held.number:
            return ("list[Any]" if kind == "list" else "dict[str, Any]"), None, False, notes
        is_struct = kind == "map" and len(one.fields) <= _MAP_KEYS and not held.kinds["ref"]
        if is_struct and all(_attribute(key).isidentifier() for key in one.fields):
            return self._struct(f"{owner}{_pascal(stored)}", one), None, False, notes
        item, to, is_many, more = self._item(owner, stored, held)
        annotation = f"list[{item}]" if kind == "list" else f"dict[str, {item}]"
        return annotation, None if is_many else to, to is not None, notes + more

    def _item(self, owner: str, stored: str, one: _Seen) -> tuple[str, str | None, bool, list[str]]:
        """Returns the items' annotation, the referenced collection, and the values that do not fit."""
        inner, target, is_many, notes = self._kind(owner, _singular(stored), one, "items")
        is_optional = bool(one.kinds["null"]) and inner != "Any"
        return f"{inner} | None" if is_optional else inner, target, is_many, notes

    def _struct(self, name: str, one: _Seen) -> str:
        name = _free(name, self.classes)
        number = one.kinds["map"]
        taken: set[str] = set()
        fields = [self._field(name, None, stored, inner, number, taken) for stored, inner in one.fields.items()]
        fields.sort(key=_has_default)
        is_empty = all(line.startswith("    #") for line in fields)
        self.structs[name] = [f"class {name}(bb.Struct):", *fields, *(["    pass"] if is_empty else [])]
        return name

    def _view(self, pattern: str) -> Iterator[str]:
        model = self.names[pattern]
        edge = _attribute(_snake(model))
        place = f'collection="{edge}_views"'
        if "{" in pattern:
            place = f"path={_quoted('/'.join([f'{edge}_views', *pattern.split('/')[1:], '{id}']))}"
        edges, properties, many = [f"        {edge}: {model} = root({model})"], [], []
        for attribute, target, is_many in self.references[pattern]:
            other = self.names[target]
            if attribute == edge:
                continue
            if is_many:
                edges.append(f'        {attribute}: dict[str, {other}] = reference("{edge}.{attribute}")')
                many.append(attribute)
            else:
                edges.append(f'        {attribute}: {other} | None = reference("{edge}.{attribute}", optional=True)')
                shown = self._text(target)
                properties.append((attribute, "str | None", f"self.store.{attribute}", shown))
        used = {edge, *(attribute for attribute, _, _ in self.references[pattern])}
        for other, references in sorted(self.references.items()):
            by = next((attribute for attribute, target, _ in references if target == pattern), None)
            name = _attribute(_snake(other.split("/")[-1]))
            if by is not None and name not in used and other != pattern:
                used.add(name)
                edges.append(
                    f'        {name}: dict[str, {self.names[other]}] = referrers({self.names[other]}, by="{by}")'
                )
                many.append(name)
        yield f"class {model}View(bb.ViewModel, {place}):"
        yield from ["    class Store(bb.Store):", *edges, "", "    store: Store"]
        yield from [f'    num_{name} = aggregate.count("{name}")' for name in many]
        shown = self._text(pattern)
        yield from ["", "    @view_property", "    def title(self) -> str:"]
        yield f"        return str(self.store.{edge}.{shown})"
        for name, kind, read, text in properties:
            if name in {"title", *_VIEW_NAMES}:
                continue
            yield from ["", "    @view_property", f"    def {name}(self) -> {kind}:"]
            yield f"        return str({read}.{text}) if {read} else None"

    def _text(self, pattern: str) -> str:
        """Returns the attribute that is most likely a document's name or title."""
        every = self.seen[pattern].items()
        texts = [name for name, one in every if set(one.kinds) == {"str"} and (pattern, name) in self.attributes]
        named = [name for name in texts if re.search("name|title|label|subject", name, re.IGNORECASE)]
        return self.attributes[pattern, (named or texts)[0]] if texts else "doc_id"


def _note(kind: str, one: _Seen, others: Mapping[str, int], what: str) -> str:
    """Describes the values of another kind than the majority; all kinds, if none has the majority."""
    counts = ", ".join(f"{kind} in {number:,}" for kind, number in sorted(others.items(), key=lambda pair: -pair[1]))
    examples = [one.examples[kind] for kind in others if kind in one.examples]
    but = "" if kind == "Any" else "but "
    return f"{but}{counts} of {one.number:,} {what}" + (f", e.g. {examples[0]!a}" if examples else "")


def _has_default(line: str) -> bool:
    """Returns whether the line of a field has a default."""
    code = line.partition(_COMMENT)[0]
    return " = " in code and "bb.field(name=" not in code and not code.startswith("    #")


_VIEW_NAMES = {"store", "key", "at", "path", "paths", "doc_id", "version", "viewers", "editors", "get", "new"}


def _class_names(patterns: Iterable[str]) -> dict[str, str]:
    """Returns a class name for each collection: from its last segment, or from more segments if that name is taken."""
    names: dict[str, str] = {}
    for pattern in sorted(patterns, key=lambda one: (one.count("/"), one)):
        parts = [_pascal(_singular(part)) for part in pattern.split("/")[::2]]
        name = parts.pop() or "Document"
        while name in names.values() or name in _TAKEN:
            name = (parts.pop() if parts else "My") + name
        names[pattern] = name
    return names


def _singular(name: str) -> str:
    """Returns a collection's name in the singular, by the usual English endings."""
    for ending, instead in (("people", "person"), ("children", "child"), ("ies", "y"), ("sses", "ss"), ("xes", "x"),
                            ("ches", "ch"), ("shes", "sh")):  # fmt: skip
        if name.endswith(ending):
            return name.removesuffix(ending) + instead
    return name.removesuffix("s") if name.endswith("s") and not name.endswith(("ss", "us", "is")) else name


def _snake(name: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"[^A-Za-z0-9]+", "_", name))
    return words.lower().strip("_")


def _pascal(name: str) -> str:
    text = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))
    return text if text.isidentifier() else f"A{text}" if text else ""


def _quoted(text: str) -> str:
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else ascii(text)


def _free(name: str, taken: set[str]) -> str:
    """Returns a name that is not taken yet, and marks it as taken."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _attribute(stored: str) -> str:
    name = _snake(stored) or "field"
    if name[0].isdigit():
        name = f"field_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in _RESERVED else name
