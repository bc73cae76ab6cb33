"""The table of a campaign's fields: the record, API, form, commands and documents hold the same fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from pixel_server.api import fields as api_fields
from pixel_server.api.openapi.document import document
from pixel_server.api.routes import CALLS
from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns.campaign import (
    DATA_KINDS,
    FIELDS,
    KINDS,
    PRESET_MODES,
    Campaign,
    UnfitField,
    new_campaign,
    raises_mode,
    refuse_new_preset,
    refuse_unfit,
    set_mode,
)
from pixel_server.campaigns.retention import KeepDays
from pixel_server.commands.campaign import create_campaign, set_campaign
from pixel_server.consent import Consent
from pixel_server.dashboard import campaign_form
from pixel_server.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
NAMES = {field.name for field in FIELDS}
SET_BY_SERVER = {"id", "kind", "created", "made_by", "closed_at", "leaving", "gone"}
"""Fields of the record that a sender cannot change."""


def controls(kind):
    """Returns the fields that the form of a kind has controls for."""
    names = campaign_form.texts(new_campaign("c", "C", kind))
    return {name.partition("_")[0] if name.startswith("keep_") else name for name in names} - {"id", "kind"}


def test_fields_record_has_each_field():
    assert len(NAMES) == len(FIELDS)
    assert set(Campaign.__struct_fields__) == NAMES | SET_BY_SERVER
    assert not NAMES & SET_BY_SERVER


def test_fields_nullable_is_what_the_record_allows():
    hints = get_type_hints(Campaign)
    assert {field.name for field in FIELDS if field.is_nullable} == {
        name for name in NAMES if type(None) in get_args(hints[name])
    }


def test_fields_choices_are_what_the_record_allows():
    for field in FIELDS:
        for value in field.choices:
            changes = {field.name: {value: 1} if field.type == "days_by_kind" else value}
            if field.name == "preset":
                changes["mode"] = PRESET_MODES[value][0]
            changed = msgspec.structs.replace(new_campaign("c", "C", field.kinds[0]), **changes)
            assert campaigns.decode(campaigns.encode(changed), "c") == changed


def test_fields_keep_has_each_kind_of_data():
    [keep] = [field for field in FIELDS if field.type == "days_by_kind"]
    assert keep.choices == DATA_KINDS == KeepDays._fields


def test_fields_api_checks_each_field():
    assert api_fields.campaign_checks(Settings()).keys() == NAMES


@pytest.mark.parametrize("schema", ["Campaign", "NewCampaign", "CampaignChange"])
def test_fields_openapi_describes_each_field(schema):
    properties = document("http://pixel.test", CALLS)["components"]["schemas"][schema]["properties"]
    assert properties.keys() >= NAMES
    assert properties.keys() - NAMES <= SET_BY_SERVER


@pytest.mark.parametrize("kind", KINDS)
def test_fields_form_has_a_control_for_each_field_of_its_kind(kind):
    assert controls(kind) == {field.name for field in FIELDS if kind in field.kinds}


def test_fields_form_has_a_label_for_each_field():
    for labels in (campaign_form.LABELS, campaign_form.labels(False), campaign_form.labels_of_new(False, [])):
        assert labels.keys() - {"id", "kind"} == NAMES


@pytest.mark.parametrize("command", [create_campaign, set_campaign])
def test_fields_commands_have_an_option_for_each_field(command):
    options = {parameter.name for parameter in command.params}
    assert options >= NAMES
    assert options - NAMES <= {"id", "kind", "as_json"}


def test_fields_docs_name_each_field():
    [row] = [line for line in DOCS.read_text().splitlines() if line.startswith("| `POST /api/campaigns` |")]
    assert set(re.findall(r"`([a-z_]+)`", row)) >= NAMES


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        ("email", {"identity": "own"}, "identity"),
        ("email", {"origins": ()}, "origins"),
        ("web", {"sent": 3}, "sent"),
        ("web", {"sent_at": 3}, "sent_at"),
        ("email", {"sent": 3, "bounced": 4}, "bounced"),
        ("email", {"bounced": 4}, "bounced"),
        ("web", {"preset": "aggregate", "mode": "count"}, "preset"),
        ("email", {"preset": "aggregate"}, "preset"),
        ("email", {"preset": "deliverability", "mode": "count"}, "mode"),
        ("email", {"preset": "consented", "mode": "last"}, "mode"),
    ],
)
def test_refuse_unfit_field_of_the_other_kind_or_contradiction_raises(kind, changes, field):
    campaign = msgspec.structs.replace(new_campaign("c", "C", kind, None if kind == "web" else 3), **changes)
    with pytest.raises(UnfitField) as raised:
        refuse_unfit(kind, changes, campaign)
    assert raised.value.field == field


@pytest.mark.parametrize("changes", [{"sent": None}, {"bounced": 0}, {"sent_at": None}])
def test_refuse_unfit_empty_mail_field_of_a_web_campaign_passes(changes):
    refuse_unfit("web", changes, msgspec.structs.replace(new_campaign("c", "C", "web"), **changes))


def preset_campaign(preset, mode):
    return new_campaign("c", "C", "email", preset=preset, mode=mode)


def test_set_mode_preset_or_server_sets_it_unless_given():
    limits = Consent(Settings(default_mode="identified"))
    for preset, (mode, *_) in PRESET_MODES.items():
        fields = {"preset": preset}
        set_mode(fields, limits)
        assert fields["mode"] == mode
    fields = {"preset": None}
    set_mode(fields, limits)
    assert fields["mode"] == "identified"
    fields = {"preset": "consented", "mode": "identified"}
    set_mode(fields, limits)
    assert fields["mode"] == "identified"


def test_set_mode_preset_above_the_servers_limit_raises():
    with pytest.raises(
        UnfitField, match="deliverability needs the mode last, which is more than this server"
    ):
        set_mode({"preset": "deliverability"}, Consent(Settings(max_mode="count", default_mode="count")))


@pytest.mark.parametrize("before", [None, "aggregate"])
def test_refuse_new_preset_of_an_existing_campaign_raises(before):
    with pytest.raises(UnfitField):
        refuse_new_preset(preset_campaign(before, "count"), preset_campaign("deliverability", "last"))
    refuse_new_preset(preset_campaign("aggregate", "count"), preset_campaign(None, "count"))


@pytest.mark.parametrize(("mode", "raises"), [("identified", True), ("last", True), ("count", False)])
def test_raises_mode_without_the_preset_consented_unless_nobody_is_told_apart(mode, raises):
    assert raises_mode(preset_campaign("consented", "identified"), preset_campaign(None, mode)) is raises


def test_decode_preset_that_the_mode_does_not_follow_is_dropped():
    record = campaigns.encode(preset_campaign("deliverability", "identified"))
    assert campaigns.decode(record, "c") == preset_campaign(None, "identified")
    assert campaigns.decode_readable_fields(record, "c", "email").preset is None
