"""A data directory is read again with the same answers: by the code that made it, and by later code."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path

import pytest

from tests.old_data import answers, compare, formats
from tests.old_data.answers import KEY, Answer
from tests.old_data.make import FORMATS, SPOOLED, make

FROZEN = sorted(
    Path(__file__).parent.glob("*.tar.gz"),
    key=lambda path: [int(number) for number in path.name.removesuffix(".tar.gz").split(".")],
)
"""Data directories of earlier versions, packed by `make.pack`, the newest last."""


def test_compare_directory_read_after_a_restart_gives_the_same_answers(tmp_path: Path):
    make(tmp_path, few=True)
    answers_made = json.loads((tmp_path / "answers.json").read_text())["answers"]
    kept = {answer["path"]: answer for answer in answers_made}
    assert list((tmp_path / "data" / "spool").glob("*.seg")), "no hits wait in the spool"
    assert json.loads(kept["/readyz"]["body"])["dead_letters"] == 2
    assert json.loads(kept["/api/campaigns/later/stats"]["body"])["totals"]["hits"] > SPOOLED
    spring = json.loads(kept["/api/campaigns/spring/stats"]["body"])["rules"]
    assert spring.keys() >= {
        *("mail-client", "browser", "yahoo-proxy", "apple-prefetch-probable", "purpose-prefetch"),
        *("bot-list", "at-once", "burst", "own", "none"),
    }
    site = json.loads(kept["/api/campaigns/site-cookie/stats"]["body"])["totals"]
    assert min(site["visits_new"], site["visits_returning"], site["views_bot"]) > 0
    number, different = compare.compare(tmp_path)
    assert different == []
    assert number == len(kept) > 100


@pytest.mark.parametrize("packed", FROZEN, ids=lambda path: path.name)
def test_compare_directory_of_an_earlier_version_gives_the_same_answers(packed: Path, tmp_path: Path):
    with tarfile.open(packed) as file:
        file.extractall(tmp_path, filter="data")
    made_at = json.loads((tmp_path / "answers.json").read_text())["made_at"]
    if time.time() - made_at > 9 * 365 * 86_400:
        pytest.skip("retention removes data after ten years; make a new directory")
    number, different = compare.compare(tmp_path, steady=True)
    assert different == []
    assert number > 50


def test_formats_changed_since_the_newest_directory_need_another_directory():
    with tarfile.open(FROZEN[-1]) as file:
        before = json.load(file.extractfile(FORMATS))
    after = json.loads(json.dumps(formats.current()))
    assert len(before) > 80
    assert formats.changed(before, after) == [], (
        "a stored format has changed: keep all files in tests/old_data, and add one of the new version; "
        "tests/old_data/__init__.py says how"
    )


def test_formats_directories_of_all_versions_are_kept():
    assert {path.name for path in FROZEN} >= {"0.1.0.tar.gz", "1.0.0.tar.gz", "1.1.0.tar.gz"}


def test_formats_raised_number_or_moved_field_is_a_change():
    before = formats.current()
    fields = before["pixel_server.hit.Hit"]
    after = {
        **before,
        "pixel_server.hit.FORMAT": 2,
        "pixel_server.hit.Hit": [*fields, "more"],
        "pixel_server.a.new.FORMAT": 1,
    }
    del after["key px:{s}:turn"]
    assert formats.changed(before, after) == [
        "key px:{s}:turn",
        *("pixel_server.hit.FORMAT", "pixel_server.hit.Hit"),
    ]


def test_differences_changed_json_shows_the_changed_lines():
    before = Answer("/api/x", KEY, 200, "application/json", '{\n "hits": 1,\n "opens": 1\n}')
    after = before._replace(body='{\n "hits": 2,\n "opens": 1\n}')
    [shown] = compare.differences([(before, before), (before, after)], figures=False)
    assert shown.splitlines()[0] == "key /api/x"
    assert {'- "hits": 1,', '+ "hits": 2,'} <= set(shown.splitlines())


def test_differences_of_figures_leave_words_out():
    before = Answer("/", KEY, 200, "text/html", '<style>p {top: 1px}</style><p class="c1">Hits <b>12</b></p>')
    after = before._replace(body="<div>Requests: <i>12</i></div>")
    assert list(compare.differences([(before, after)], figures=True)) == []
    other = after._replace(body="<div>Requests: <i>13</i></div>")
    assert len(list(compare.differences([(before, other)], figures=True))) == 1


@pytest.mark.parametrize(
    ("path", "steady"),
    [
        ("/api/campaigns/spring", True),
        ("/api/campaigns/spring/notes", True),
        ("/api/campaigns/spring/recipients?state=person", True),
        ("/api/campaigns/spring/stats?from=2026-11-01&to=2026-11-02", True),
        ("/api/campaigns/spring/stats", False),
        ("/api/campaigns/later/stats?from=2026-11-01&to=2026-11-02", False),
        ("/api/overview", False),
        ("/readyz", False),
        ("/", False),
    ],
)
def test_is_steady_holds_for_records_and_named_ranges(path: str, steady: bool):
    assert answers.is_steady(path) is steady


def test_differences_of_problems_leave_their_wording_out():
    body = '{\n "detail": "no",\n "errors": [{\n "message": "must be a"\n }],\n "status": 409\n}'
    before = Answer("/api/x", KEY, 409, "application/problem+json", body)
    after = before._replace(body=body.replace("no", "not now").replace("must be a", "must be a or b"))
    assert list(compare.differences([(before, after)], figures=False)) == []


def test_as_earlier_version_new_field_is_left_out_and_changes_stay():
    before = Answer("/api/x", KEY, 200, "application/json", '{"by": [{"views": 1, "visits": 2}], "to": 3}')
    after = before._replace(body='{"by": [{"new": 0, "views": 9}], "new": [], "to": 3}')
    assert json.loads(compare.as_earlier_version(before, after).body) == {"by": [{"views": 9}], "to": 3}


def test_as_earlier_version_refused_breakdowns_may_be_answered():
    refused = Answer("/api/campaigns/spring/breakdowns?by=page", KEY, 409, "application/problem+json", "{}")
    answered = refused._replace(status=200, type="application/json", body='{"by": {}}')
    assert compare.as_earlier_version(refused, answered) == refused
    assert compare.as_earlier_version(answered, refused) == refused, "answers must stay answers"
