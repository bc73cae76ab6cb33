"""A kind of key in Redis: its names, type, lifetime and use. The module `keys` defines all kinds."""

from __future__ import annotations

from typing import ClassVar, Literal

from pixel_server.settings import Settings

RedisType = Literal["string", "hash", "set", "zset", "stream", "hll"]


Tag = int | Literal["all"]
"""A key's hash tag: a shard's number, or "all"."""


class Key:
    """A kind of key. pattern: a name with placeholders, for example `px:{s}:people:ID:BUCKET`.

    lifetime: words in which `kept_for` fills in settings, for example `{settings.keep_days:,} days`. content,
    writer, reader: words for the table in `keys`. kind_name: the third part of the pattern, such as `people`.
    """

    TABLE: ClassVar[dict[str, Key]] = {}
    """All kinds, by pattern."""

    def __init__(
        self, pattern: str, redis_type: RedisType, lifetime: str, content: str, *, writer: str, reader: str
    ) -> None:
        self.pattern, self.redis_type, self.lifetime = pattern, redis_type, lifetime
        self.content, self.writer, self.reader = content, writer, reader
        self.kind_name = pattern.split(":")[2]
        self.TABLE[pattern] = self

    def kept_for(self, settings: Settings) -> str:
        """Returns how long a key lives, with the settings filled in: "400 days"."""
        return self.lifetime.format(settings=settings)

    @property
    def name(self) -> str:
        """The name of the only key of this kind, if the pattern has no placeholder."""
        return self.pattern


class GlobalKey(Key):
    """A key for each id, or for each minute since 1970: `px:{all}:campaign:spring`."""

    def __call__(self, id_or_minute: str | int) -> str:
        return f"px:{{all}}:{self.kind_name}:{id_or_minute}"


class ShardKey(Key):
    """A key for each shard: `px:{3}:hits`."""

    def __call__(self, shard: Tag) -> str:
        return f"px:{{{shard}}}:{self.kind_name}"


class NumberKey(Key):
    """A key for each shard and number, for example a minute since 1970: `px:{3}:evidence:29833333`."""

    def __call__(self, shard: int, number: int) -> str:
        return f"px:{{{shard}}}:{self.kind_name}:{number}"


class BucketKey(Key):
    """A key for each shard and bucket of recipients: `px:{3}:last:1f4`."""

    def __call__(self, shard: int, bucket: int) -> str:
        return f"px:{{{shard}}}:{self.kind_name}:{bucket:03x}"

    def prefix(self, shard: int) -> str:
        """Returns the name without the bucket."""
        return f"px:{{{shard}}}:{self.kind_name}:"


class CampaignKey(Key):
    """A key for each shard and campaign: `px:{3}:total:spring`. Tag "all": see `store.merged`."""

    def __call__(self, shard: Tag, campaign: str) -> str:
        return f"px:{{{shard}}}:{self.kind_name}:{campaign}"


class CampaignDayKey(Key):
    """A key for each shard, campaign and day (YYYYMMDD): `px:{3}:web:spring:20260302`.

    Tag "all": see `store.merged`.
    """

    def __call__(self, shard: Tag, campaign: str, day: str) -> str:
        return f"px:{{{shard}}}:{self.kind_name}:{campaign}:{day}"


class CampaignBucketKey(Key):
    """A key for each shard, campaign and bucket of recipients: `px:{3}:people:spring:1f4`."""

    def __call__(self, shard: int, campaign: str, bucket: int) -> str:
        return f"px:{{{shard}}}:{self.kind_name}:{campaign}:{bucket:03x}"

    def prefix(self, shard: int, campaign: str) -> str:
        """Returns the name without the bucket."""
        return f"px:{{{shard}}}:{self.kind_name}:{campaign}:"

    def kind_prefix(self, shard: int) -> str:
        """Returns the name without campaign and bucket."""
        return f"px:{{{shard}}}:{self.kind_name}:"
