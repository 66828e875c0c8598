"""A school: the timetable of each pupil with today's substitutions, and each teacher's days."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import boiler_beam as bb
from boiler_beam import Ref, aggregate, document, group, reference, referrers, role, root, view_property


class Day(enum.IntEnum):
    MONDAY = 1
    TUESDAY = 2
    WEDNESDAY = 3


class SchoolClass(bb.DomainModel, collection="classes"):
    name: str


class Teacher(bb.DomainModel, collection="teachers"):
    name: str


class Pupil(bb.DomainModel, collection="pupils"):
    name: str
    school_class: Ref[SchoolClass]
    guardians: list[str] = bb.field(default_factory=list)


class Lesson(bb.DomainModel, collection="lessons"):
    school_class: Ref[SchoolClass]
    teacher: Ref[Teacher]
    subject: str
    day: Day
    period: int
    room: str = ""


class Substitution(bb.DomainModel, collection="lessons/{lesson}/substitutions"):
    lesson: Ref[Lesson]
    date: str
    teacher: Ref[Teacher] | None = None


class Today(bb.DomainModel, collection="config"):
    """Today's date, which a scheduled job writes each morning, because getters must not read a clock."""

    date: str


class Slot(bb.Struct):
    day: Day
    period: int
    subject: str
    teacher: str
    room: str
    is_changed: bool


class PupilTimetable(bb.ViewModel, collection="pupil_timetables"):
    class Store(bb.Store):
        pupil: Pupil = root(Pupil)
        school_class: SchoolClass = reference("pupil.school_class")
        lessons: dict[str, Lesson] = referrers(Lesson, by="school_class", of="school_class", order_by=("day", "period"))
        teachers: dict[str, Teacher] = reference("lessons.teacher")
        substitutions: dict[str, Substitution] = referrers(Substitution, by="lesson", of="lessons")
        stand_ins: dict[str, Teacher] = reference("substitutions.teacher")
        today: Today = document(Today, "config/today")

    store: Store

    def viewers(self) -> Iterator[str]:
        yield self.store.pupil.doc_id
        yield from self.store.pupil.guardians
        yield role("teacher", of=self.store.school_class)

    @view_property
    def title(self) -> str:
        return f"{self.store.pupil.name}, {self.store.school_class.name}"

    @view_property
    def slots(self) -> list[Slot]:
        today = [one for one in self.store.substitutions.values() if one.date == self.store.today.date]
        changed = {one.lesson: one for one in today}
        slots: list[Slot] = []
        for lesson in self.store.lessons.values():
            change = changed.get(Ref(lesson.path))
            ref = change.teacher if change is not None else lesson.teacher
            teacher = self.store[ref] if ref is not None else None
            name = teacher.name if teacher is not None else "cancelled"
            slots.append(Slot(lesson.day, lesson.period, lesson.subject, name, lesson.room, change is not None))
        return slots


class TeacherDay(bb.ViewModel, collection="teacher_days"):
    class Store(bb.Store):
        lessons: dict[str, Lesson] = group(Lesson, by=("teacher", "day"), order_by="period")
        classes: dict[str, SchoolClass] = reference("lessons.school_class")

    store: Store
    num_lessons = aggregate.count("lessons")
    rooms = aggregate.count_distinct("lessons", of="room")

    @view_property
    def periods(self) -> list[str]:
        found: list[str] = []
        for lesson in self.store.lessons.values():
            school_class = self.store[lesson.school_class]
            found.append(f"{lesson.period}: {lesson.subject} with {school_class.name if school_class else '?'}")
        return found
