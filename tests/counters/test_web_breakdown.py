"""Breakdowns of the views and visits of a web campaign."""

from __future__ import annotations

from pixel_server.counters import web_breakdown


def test_by_dimension_reader_is_counted_in_each_of_its_fields():
    counted = web_breakdown.DayCounts()
    who = web_breakdown.VisitorTraits(
        country="DE", browser="Firefox", system="Linux", device="desktop", language="de"
    )
    counted.traits[who] = [3, 1]
    found = web_breakdown.by_dimension(counted)
    assert {name: names for name, names in found.items() if names} == {
        "country": {"DE": [3, 1]},
        "browser": {"Firefox": [3, 1]},
        "system": {"Linux": [3, 1]},
        "device": {"desktop": [3, 1]},
        "language": {"de": [3, 1]},
    }


def test_add_many_made_up_pages_keeps_the_page_with_most_views():
    names = {"/checkout": [500, 0]}
    for number in range(2000):
        web_breakdown.add(names, {f"/made-up-{number}": [1, 1]})
    assert names["/checkout"] == [500, 0]
    assert len(names) <= web_breakdown.MAX_NAMES
    assert [sum(column) for column in zip(*names.values(), strict=True)] == [2500, 2000]


def test_add_other_falls_to_zero_removes_it():
    names = {"(other)": [1, 1]}
    web_breakdown.add(names, {"(other)": [-1, -1]})
    assert names == {}


def test_add_negative_count_of_a_name_in_other_is_taken_from_other():
    names: web_breakdown.CountsByName = {}
    many = {f"/{number}": [1, 1] for number in range(web_breakdown.MAX_NAMES + 1)}
    web_breakdown.add(names, many)
    assert len(names) == web_breakdown.KEPT_NAMES + 1
    gone = next(name for name in many if name not in names)
    before = names["(other)"]
    web_breakdown.add(names, {gone: [-1, -1], "/new": [1, 1]})
    assert names["(other)"] == [before[0] - 1, before[1] - 1]
    assert sum(views for views, _ in names.values()) == web_breakdown.MAX_NAMES + 1


def test_by_dimension_day_spreads_readers_and_entries_without_zeros():
    day = web_breakdown.DayCounts()
    day.pages["/a"] = [2, 1]
    day.pages["/b"] = [0, 0]
    day.traits[web_breakdown.VisitorTraits("DE", "Firefox", "Linux", "desktop", "de")] = [1, 1]
    day.traits[web_breakdown.VisitorTraits("DE", "Safari", "iOS", "phone", "de")] = [1, 0]
    day.entries["/a", web_breakdown.Source("b.example")] = [2, 1]
    dimensions = web_breakdown.by_dimension(day)
    assert dimensions["page"] == {"/a": [2, 1]}
    assert dimensions["country"] == {"DE": [2, 1]}
    assert dimensions["browser"] == {"Firefox": [1, 1], "Safari": [1, 0]}
    assert dimensions["entry_page"] == {"/a": [2, 1]}
    assert dimensions["referrer"] == {"b.example": [2, 1]}
    assert dimensions["exit_page"] == {}
