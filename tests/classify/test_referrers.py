"""Kinds of sites that visitors come from."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.classify import referrers
from pixel_server.classify.data import make_referrers
from pixel_server.classify.referrers import kind

KINDS = {"search", "social", "mail", "ai", "website"}


@pytest.mark.parametrize(
    ("host", "is_a"),
    [
        ("", "none"),
        ("google.com", "search"),
        ("www.google.com", "search"),
        ("WWW.Google.CO.UK", "search"),
        ("www.google.de", "search"),
        ("google.com.br", "search"),
        ("www.bing.com", "search"),
        ("cn.bing.com", "search"),
        ("duckduckgo.com", "search"),
        ("html.duckduckgo.com", "search"),
        ("de.search.yahoo.com", "search"),
        ("yandex.ru", "search"),
        ("www.baidu.com", "search"),
        ("search.brave.com", "search"),
        ("www.ecosia.org:443", "search"),
        ("facebook.com", "social"),
        ("l.facebook.com", "social"),
        ("lm.facebook.com", "social"),
        ("t.co", "social"),
        ("x.com", "social"),
        ("www.linkedin.com", "social"),
        ("lnkd.in", "social"),
        ("old.reddit.com", "social"),
        ("out.reddit.com.", "social"),
        ("bsky.app", "social"),
        ("news.ycombinator.com", "social"),
        ("mail.google.com", "mail"),
        ("outlook.live.com", "mail"),
        ("outlook.office.com", "mail"),
        ("eur01.outlook.office365.com", "mail"),
        ("mail.yahoo.com", "mail"),
        ("mail.proton.me", "mail"),
        ("android-app://com.google.android.gm", "mail"),
        ("com.google.android.gm", "mail"),
        ("android-app://com.google.android.googlequicksearchbox/", "search"),
        ("android-app://com.linkedin.android", "social"),
        ("android-app://", "website"),
        ("android-app://org.example.notes", "website"),
        ("docs.google.com", "website"),
        ("support.google.com", "website"),
        ("gemini.google.com", "ai"),
        ("copilot.microsoft.com", "ai"),
        ("www.perplexity.ai", "ai"),
        ("chat.openai.com", "ai"),
        ("claude.ai", "ai"),
        ("android-app://com.openai.chatgpt/", "ai"),
        ("search.google.com", "website"),
        ("analytics.pinterest.com", "website"),
        ("engineering.linkedin.com", "website"),
        ("faq.whatsapp.com", "website"),
        ("www.icloud.com", "mail"),
        ("sm.cn", "search"),
        ("fb.com", "social"),
        ("maps.google.pl", "website"),
        ("console.cloud.google.com", "website"),
        ("images.google.pl", "search"),
        ("mail.google.co.uk", "website"),
        ("login.yahoo.com", "website"),
        ("id.search.yahoo.com", "search"),
        ("login.live.com", "website"),
        ("passport.yandex.ru", "website"),
        ("m.yandex.kz", "search"),
        ("mail.yandex.com", "mail"),
        ("www2.bing.com", "search"),
        ("account.bing.com", "website"),
        ("ads.tiktok.com", "website"),
        ("developers.facebook.com", "website"),
        ("accounts.snapchat.com", "website"),
        ("help.instagram.com", "website"),
        ("docs.perplexity.ai", "website"),
        ("blog.ecosia.org", "website"),
        ("careers.tiktok.com", "website"),
        ("api.whatsapp.com", "social"),
        ("www.pinterest.co.uk", "social"),
        ("pinterest.de", "social"),
        ("l.messenger.com", "social"),
        ("m.weibo.cn", "social"),
        ("android-app://com.google.android.youtube", "social"),
        ("scholar.google.co.uk", "search"),
        ("email.t-online.de", "mail"),
        ("lumo.proton.me", "ai"),
        ("vm.tiktok.com", "social"),
        ("www.threads.net", "social"),
        ("ptb.discord.com", "social"),
        ("t.me", "social"),
        ("web.telegram.org", "social"),
        ("fosstodon.org", "social"),
        ("kagi.com", "search"),
        ("eu.startpage.com", "search"),
        ("ya.ru", "search"),
        ("www.mojeek.com", "search"),
        ("naver.com", "search"),
        ("m.search.naver.com", "search"),
        ("m.blog.naver.com", "social"),
        ("nid.naver.com", "website"),
        ("unknown.example", "website"),
        ("google.com.evil.example", "website"),
        ("notgoogle.com", "website"),
        ("com", "website"),
        ("localhost", "website"),
        ("192.0.2.1", "website"),
        ("[2001:db8::1]:80", "website"),
    ],
)
def test_kind_well_known_host_is_recognised(host, is_a):
    assert kind(host) == is_a


@given(st.text() | st.text(alphabet="google.cm:/[]@ \x00\ud800", max_size=400))
def test_kind_any_text_has_a_kind(host):
    assert kind(host) in (KINDS if host else {"none"})


def test_kind_made_up_hosts_are_cached_within_the_bound():
    for number in range(referrers.MAX_CACHED + 500):
        kind(f"{number}.example")
        kind(f"{number}" * 300)
    assert referrers._kind.cache_info().currsize == referrers.MAX_CACHED
    assert kind("a." * 100_000 + "google.com") == "website"
    assert kind("a." * 100 + "mojeek.com") == "search"


def test_lists_heads_and_lines_have_their_form():
    for path in referrers.LISTS:
        lines = path.read_text().splitlines()
        assert lines[0].startswith("# source: ")
        assert any(line.startswith("# date: 20") for line in lines)
        entries = [line.split(" ") for line in lines if line and not line.startswith("#")]
        for host, name in entries:
            assert name in KINDS
            assert host == host.lower()
            assert not set(host.removeprefix("*.").removesuffix(".*")) & set("/*:")
            assert "." in host
        assert len({host for host, _ in entries}) == len(entries)
    assert "# licence: MIT" in referrers.LISTS[0].read_text()
    assert len(referrers._read_lists()) > 700


def test_make_referrers_host_of_its_parents_kind_is_left_out():
    found = make_referrers.kinds_of_hosts(
        {
            "www.find.example": {"medium": "search"},
            "de.find.example": {"medium": "search"},
            "help.find.example": {"medium": "unknown"},
            "wiki.example": {"medium": "referral"},
            "Post.example": {"medium": "email"},
            "find.example/pictures": {"medium": "search"},
            "ads.example": {"medium": "paid"},
            "buffer": {"medium": "social"},
        }
    )
    assert found == {"find.example": "search", "help.find.example": "website", "post.example": "mail"}


def test_import_reads_no_list():
    script = "from pixel_server.classify import referrers; print(referrers._read_lists.cache_info().currsize)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
