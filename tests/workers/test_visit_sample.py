"""The sample of visits that a roll-up keeps of each day."""

from __future__ import annotations

import random
from collections import Counter

from pixel_server.counters import visit_sample
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.web_breakdown import VisitorTraits
from pixel_server.settings import Settings
from pixel_server.store import keys
from tests.workers.test_count_visits import DAY, Site, make_site

__all__ = ["make_site"]


def records(site: Site) -> list[SampledVisit]:
    fields = site.client.hgetall(keys.sample(0, "site", DAY))
    return [visit_sample.unpack(value) for name, value in fields.items() if visit_sample.is_number(name)]


def test_sample_visit_of_several_passes_is_one_record(make_site, client):
    site = make_site()
    site.view("2025-06-10T09:14Z", "a?utm_source=News", page_referrer="https://www.google.de/")
    site.count()
    site.view("2025-06-10T09:20Z", "b")
    site.count()
    site.view("2025-06-10T09:25Z", "a")
    site.count()
    (record,) = records(site)
    assert record.bucket * 900 == 1_749_546_000, "09:00 UTC: the exact time is not kept"
    assert (record.pages, record.exit, record.seconds) == ({"/a": 2, "/b": 1}, 0, 660)
    assert record.source == ("google.de", "News")
    assert record.traits == VisitorTraits(record.traits.country, "Firefox", "Linux", "desktop", "(unknown)")
    days_left = client.ttl(keys.sample(0, "site", DAY)) / 86_400
    assert visit_sample.KEPT_DAYS < days_left <= visit_sample.KEPT_DAYS + 2


def test_sample_size_0_keeps_no_record(make_site, client):
    site = make_site()
    site.settings = Settings(redis_url=site.settings.redis_url, shards=1, keep_buckets=3650, visit_sample=0)
    site.view("2025-06-10T09:00Z")
    assert site.count()["visits"] == 1
    assert not client.exists(keys.sample(0, "site", DAY))


def apply(fields: dict[bytes, bytes], changed: dict[bytes, SampledVisit], size: int) -> None:
    """Carries out the commands of `visit_sample` on a dict."""
    for command, _, *words in visit_sample.store_commands("key", list(fields), changed, size, 1):
        if command == "HSET":
            fields.update(zip(words[::2], words[1::2], strict=True))
        elif command == "HDEL":
            for word in words:
                del fields[word]


def test_sample_of_many_visits_is_the_same_however_they_are_cut_and_merged():
    draw = random.Random(3)
    visits = {
        draw.randbytes(8): SampledVisit(n, 0, {f"/{n % 4}": 1}, 0, VisitorTraits(), ()) for n in range(5000)
    }
    lowest = dict.fromkeys(sorted(visits)[:100])
    for cut in (1, 7, 5000):
        fields: dict[bytes, bytes] = {}
        numbers = list(visits)
        for i in range(0, len(numbers), 5000 // cut):
            apply(fields, {number: visits[number] for number in numbers[i : i + 5000 // cut]}, 100)
        assert {name for name in fields if visit_sample.is_number(name)} == lowest.keys()
        assert visit_sample.limit_of(fields) == sorted(visits)[100]
    halves: list[dict[bytes, bytes]] = [{}, {}]
    for number, record in visits.items():
        apply(halves[record.bucket % 2], {number: record}, 80)
    merged = halves[0] | halves[1]
    limit = visit_sample.limit_of(merged)
    below = {name for name in merged if visit_sample.is_number(name) and name < limit}
    assert below == {number for number in visits if number < limit}, "the sample of the union"
    pages = Counter(next(iter(visits[number].pages)) for number in below)
    assert all(count > len(below) / 8 for count in pages.values()), pages


def test_sample_pages_beyond_the_limit_count_as_other(make_site):
    site = make_site("own")
    for number in range(visit_sample.MAX_PAGES + 4):
        site.view(f"2025-06-10T09:00:{number:02d}Z", f"{number}", visitor=b"a reader")
    site.count()
    (record,) = records(site)
    assert record.pages["(other)"] == 4
    assert list(record.pages)[record.exit] == "(other)"
    assert record.views == visit_sample.MAX_PAGES + 4
